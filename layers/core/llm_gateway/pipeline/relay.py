"""A provider's stream on its way to the caller.

Nothing is given out before the first content, so that a failure before it still has a status of its own.
After it a failure is raised where the caller's next bytes would have been.
"""

import asyncio
import time
from collections.abc import AsyncGenerator

from llm_gateway.dialects.dialect import StreamTranslator
from llm_gateway.domain.catalog import Timeouts
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamCut, UpstreamTimeout
from llm_gateway.upstream.framing import Splitter

_DRAIN_S = 1.0


class StreamRelay:
    """Reads one provider's response through one translator. `started` is a `time.perf_counter` reading."""

    def __init__(
        self,
        response: HttpResponse,
        translator: StreamTranslator,
        splitter: Splitter,
        timeouts: Timeouts,
        started: float,
    ) -> None:
        self._response = response
        self._chunks = response.chunks()
        self._translator = translator
        self._splitter = splitter
        self._timeouts = timeouts
        self._started = started
        self._content_at = started
        self._held = b""
        self._ended = False
        self.first_content_at: float | None = None

    async def open(self) -> None:
        """Returns once content has come, or raises `UpstreamError`."""
        held: list[bytes] = []
        while not self._translator.started and not self._ended:
            held.append(await self._next())
        self.first_content_at = self._content_at = time.perf_counter()
        self._held = b"".join(held)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """What the caller gets, whole events at a time. Raises `UpstreamError` where the provider fails."""
        if self._held:
            yield self._held
        while not self._ended:
            out = await self._next()
            if out:
                yield out

    async def _next(self) -> bytes:
        data = None if self._translator.complete else await anext(self._chunks, None)
        if data is None:
            self._ended = True
            return self._translator.finish(self._splitter.rest())
        block = self._splitter.feed(data)
        out = self._translator.feed(block) if block else b""
        self._check_clocks(has_content=b"data:" in out)
        return out

    def _check_clocks(self, *, has_content: bool) -> None:
        """Comments and torn pieces are no tokens: a provider that only pings has fallen silent."""
        now = time.perf_counter()
        if now - self._started > self._timeouts.total_s:
            raise UpstreamTimeout("The answer took longer than the time allowed in total.")
        if not self._translator.started:
            if now - self._started > self._timeouts.first_token_s:
                raise UpstreamTimeout("The provider sent nothing but comments until the time for a first token was up.")
        elif has_content:
            self._content_at = now
        elif now - self._content_at > self._timeouts.idle_s:
            raise UpstreamTimeout("The provider sent nothing but comments for too long.")

    async def close(self) -> None:
        """Reads what a complete stream leaves over, so that its connection can be used again, then closes."""
        try:
            if self._translator.complete:
                async with asyncio.timeout(_DRAIN_S):
                    while await anext(self._chunks, None) is not None:
                        pass
        except (UpstreamCut, UpstreamTimeout, TimeoutError):
            pass  # the answer is whole already; only the connection is lost
        finally:
            await self._response.close()
