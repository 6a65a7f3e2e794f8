"""A provider's response in which everything comes when a test says so, whoever reads it or not."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from llm_gateway.errors import UpstreamError

Coming = bytes | UpstreamError | None
"""A piece of the body, what it fails with, or its end."""


class ScriptedResponse:
    """Implements `domain.ports.HttpResponse`. `script` says what comes how many seconds after it is made.

    `ended_with` and `ended_at` (the loop's time) tell of `end`, `closed` of `close`, `unread` of what nobody wanted.
    """

    def __init__(self, script: Sequence[tuple[float, Coming]], *, status: int = 200) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {}
        self.ended_with: UpstreamError | None = None
        self.ended_at: float | None = None
        self.closed = False
        self._loop = asyncio.get_running_loop()
        self._came: asyncio.Queue[Coming] = asyncio.Queue()
        self._over = False
        now = self._loop.time()
        # One timer a moment: timers of one and the same are carried out in any order.
        moments: dict[float, list[Coming]] = {}
        for after, each in script:
            moments.setdefault(after, []).append(each)
        self._timers = [self._loop.call_at(now + after, self._come_all, each) for after, each in moments.items()]

    @property
    def unread(self) -> int:
        return self._came.qsize()

    def chunks(self) -> AsyncIterator[bytes]:
        return self._pieces()

    async def read(self, limit: int) -> bytes:
        return b"".join([piece async for piece in self._pieces()])

    def end(self, error: UpstreamError) -> None:
        if self._over or self.closed:
            return
        self.ended_with, self.ended_at = error, self._loop.time()
        self._come(error)

    async def close(self) -> None:
        self.closed = True
        self._stop()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while not self.closed:
            came = await self._came.get()
            if came is None:
                return
            if isinstance(came, UpstreamError):
                raise came
            yield came

    def _come_all(self, together: Sequence[Coming]) -> None:
        for each in together:
            if not self._over:
                self._come(each)

    def _come(self, each: Coming) -> None:
        self._came.put_nowait(each)
        if not isinstance(each, bytes):
            self._over = True
            self._stop()

    def _stop(self) -> None:
        for timer in self._timers:
            timer.cancel()
