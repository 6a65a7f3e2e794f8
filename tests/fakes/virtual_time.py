"""An event loop whose time is no time: where nothing is ready it jumps to the next timer.

    @in_virtual_time
    async def test_it_gives_up_after_an_hour(): ...

    clock = virtual_clock()        # in such a test: a pipeline's clock that shows the loop's time

What waits for a timer waits for nothing, and for exactly as long as it says. Not for sockets or threads: while they
work, the clock runs away.
"""

import asyncio
import functools
import random
import selectors
from collections.abc import Callable, Coroutine
from typing import Any, ParamSpec, TypeVar

from llm_gateway.pipeline.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")
_STUCK_S = 5.0


class _Jumps(selectors.DefaultSelector):
    """Waits for no timer. `passed` is what it would have waited."""

    passed = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(_STUCK_S if timeout is None else 0)
        if timeout is None and not ready:
            raise RuntimeError("nothing is ready, and no timer is set: this would have hung for ever")
        if timeout is not None and timeout > 0 and not ready:
            self.passed += timeout
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Its `time` begins at 1,000 and moves only when nothing else can."""

    def __init__(self) -> None:
        self._jumps = _Jumps()
        super().__init__(self._jumps)

    def time(self) -> float:
        return 1000.0 + self._jumps.passed


def run_in_virtual_time(main: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(main)


def in_virtual_time(test: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    """Makes an asynchronous test a synchronous one on a loop of its own. Its fixtures are to be synchronous."""

    @functools.wraps(test)
    def run(*args: P.args, **kwargs: P.kwargs) -> T:
        return run_in_virtual_time(test(*args, **kwargs))

    return run


def virtual_clock(seed: int = 0) -> Clock:
    """A clock on the running loop's time, whose chance is the same each time."""
    chance = random.Random(seed)  # noqa: S311 - nothing secret
    return Clock(asyncio.get_running_loop().time, asyncio.sleep, chance.random)
