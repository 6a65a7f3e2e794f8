"""Time and chance, as the pipeline gets them: real ones by default, a test's own where it brings them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamTimeout


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` gives seconds from any beginning, `random` a number from 0 up to 1.

    Whatever `now` counts, it counts as fast as the event loop's own time: waits are timers of the loop.
    """

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    # The system's own: all environments that are restored from one snapshot would draw the same numbers otherwise.
    random: Callable[[], float] = random.SystemRandom().random


async def read_until(response: HttpResponse, limit: int, until: float, clock: Clock) -> bytes:
    """The whole body, `UpstreamTimeout` where it is not there at `until`, a reading of the clock. See `read` too."""
    late = UpstreamTimeout("The answer took longer than the time allowed in total.")
    timer = asyncio.get_running_loop().call_later(max(0.0, until - clock.now()), response.end, late)
    try:
        return await response.read(limit)
    finally:
        timer.cancel()
