"""Time and chance, as the pipeline gets them: real ones by default, a test's own where it brings them."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamMalformed, UpstreamTimeout


@dataclass(frozen=True, slots=True)
class Clock:
    """`now` gives seconds from any beginning, `random` a number from 0 up to 1.

    Whatever `now` counts, it counts as fast as the event loop's own time: waits are timers of the loop.
    """

    now: Callable[[], float] = time.perf_counter
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
    # The system's own: all environments that are restored from one snapshot would draw the same numbers otherwise.
    random: Callable[[], float] = random.SystemRandom().random


async def read_until(
    response: HttpResponse, limit: int, until: float, clock: Clock, *, first_until: float | None = None
) -> bytes:
    """The whole body, `UpstreamTimeout` where it is not there at `until`, a reading of the clock. See `read` too.

    At `first_until` anything but white space must have come of it: some providers send blanks while they make wait.
    """
    loop, now = asyncio.get_running_loop(), clock.now()
    timers = [
        loop.call_later(
            max(0.0, until - now),
            response.end,
            UpstreamTimeout("The answer took longer than the time allowed in total."),
        )
    ]
    try:
        if first_until is None:
            return await response.read(limit)
        silent = UpstreamTimeout("The provider sent nothing but white space until the time for a first token was up.")
        timers.append(loop.call_later(max(0.0, first_until - now), response.end, silent))
        return await _read(response, limit, timers[-1])
    finally:
        for timer in timers:
            timer.cancel()


async def _read(response: HttpResponse, limit: int, first: asyncio.TimerHandle) -> bytes:
    """`first` is called off when something has come."""
    pieces: list[bytes] = []
    size = 0
    async for piece in response.chunks():
        if not first.cancelled() and not piece.isspace():
            first.cancel()
        pieces.append(piece)
        size += len(piece)
        if size > limit:
            raise UpstreamMalformed(f"The provider sent more than {limit} bytes.")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
