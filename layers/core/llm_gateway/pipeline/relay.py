"""A provider's stream on its way to the caller, and its clocks.

Nothing is given out before the first content, so that a failure before it still has a status of its own.
After it a failure is raised where the caller's next bytes would have been.

Only content stops a clock, whatever else drips: one timer ends the response when it is due. It is moved on when it
fires, not with every chunk. While the caller takes its time the provider is not blamed for it, but the whole is over
when it is over.
"""

import asyncio
from collections.abc import AsyncGenerator

from llm_gateway.dialects.dialect import StreamTranslator
from llm_gateway.domain.catalog import Timeouts
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout
from llm_gateway.pipeline.clock import Clock
from llm_gateway.upstream.framing import Splitter

GRACE_S = 2.0
"""How long a stream whose every choice is finished may take to end. Its usage may still come in that time."""
LONGEST_HELD = 64 << 20
"""Bytes of a stream that is held back whole."""
_LONGEST_BODY = 1 << 20
"""Bytes that are read of an answer that is no stream: an error, or a page of HTML."""
_DRAIN_S = 1.0
_NO_STREAM = (b"{", b"[", b'"', b"n", b"t", b"f", b"<")
"""How JSON and HTML begin, and no event of any framing: `data`, `event`, `id`, `retry`, a comment, a length."""


class NotAStream(UpstreamMalformed):
    """The provider answered a request for a stream with a whole body, perhaps an error, under whatever content type."""

    def __init__(self, body: bytes) -> None:
        super().__init__("The provider answered a request for a stream without one.")
        self.body = body


class StreamRelay:
    """Reads one provider's response through one translator.

    `began` (from when the time to the first content counts) and `total_until` (when all must be over) are readings of
    the `clock`. Close it, whatever happened.
    """

    def __init__(
        self,
        response: HttpResponse,
        translator: StreamTranslator,
        splitter: Splitter,
        timeouts: Timeouts,
        *,
        began: float,
        total_until: float,
        clock: Clock,
        grace_s: float = GRACE_S,
    ) -> None:
        self._response = response
        self._chunks = response.chunks()
        self._translator = translator
        self._splitter = splitter
        self._timeouts = timeouts
        self._now = clock.now
        self._began = began
        self._total_until = total_until
        self._grace_s = grace_s
        self._content_at = began
        self._contents = 0
        self._content_came = False
        """Since the last read began: the provider's time runs anew from the next one."""
        self._whole_at: float | None = None
        self._held = b""
        self._reading = False
        self._lagging = False
        """The caller takes longer than the provider may, and only the end of the whole is awaited."""
        self._ended = False
        self._ended_well = False
        self._timer: asyncio.TimerHandle | None = None
        self.first_content_at: float | None = None

    async def open(self, *, whole: bool = False) -> None:
        """Returns once content has come, with `whole` once all of it has. Raises `UpstreamError`.

        `NotAStream` has the body, in which the provider may say what is wrong.
        """
        held = [await self._begin()]
        while not self._translator.started and not self._ended:
            held.append(await self._next())
        self.first_content_at = self._content_at = self._now()
        if whole:
            await self._hold(held)
        self._held = b"".join(held)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """What the caller gets, whole events at a time. Raises `UpstreamError` where the provider fails."""
        try:
            if self._held:
                held, self._held = self._held, b""
                yield held
            while not self._ended:
                out = await self._next()
                if out:
                    yield out
        finally:
            self._stop_timer()

    async def close(self) -> None:
        """Reads what a complete stream leaves over, so that its connection can be used again, then closes."""
        self._stop_timer()
        try:
            if self._ended_well and self._translator.complete:
                async with asyncio.timeout(_DRAIN_S):
                    while await anext(self._chunks, None) is not None:
                        pass
        except (UpstreamError, TimeoutError):
            pass  # the answer is whole already; only the connection is lost
        finally:
            await self._response.close()

    # -- reading -------------------------------------------------------------------------------------------------

    async def _begin(self) -> bytes:
        """What the first read that is not blank brings for the caller."""
        data = await self._read()
        while data is not None and data.isspace():
            data = await self._read()
        if data is None:
            return self._finish()
        if data.lstrip().startswith(_NO_STREAM):
            raise NotAStream(await self._body(data))
        return self._take(data)

    async def _body(self, data: bytes) -> bytes:
        pieces, size = [data], len(data)
        while size < _LONGEST_BODY and (more := await self._read()) is not None:
            pieces.append(more)
            size += len(more)
        self._stop_timer()
        return b"".join(pieces)

    async def _hold(self, held: list[bytes]) -> None:
        size = sum(map(len, held))
        while not self._ended:
            held.append(await self._next())
            size += len(held[-1])
            if size > LONGEST_HELD:
                self._stop_timer()
                raise UpstreamMalformed(f"The provider's stream is longer than {LONGEST_HELD} bytes.")

    async def _next(self) -> bytes:
        """What the next read brings for the caller, perhaps nothing."""
        data = await self._read()
        return self._finish() if data is None else self._take(data)

    async def _read(self) -> bytes | None:
        """None at the end, however it came, where all of the answer is there."""
        if self._translator.complete:
            return None
        if self._content_came or self._lagging or self._timer is None:
            self._content_at = self._now()
            self._content_came = False
            if self._lagging or self._timer is None:
                self._lagging = False
                # Early enough for what follows the first content too, so that its coming moves no timer.
                self._set_timer(min(self._due(), self._content_at + self._timeouts.idle_s))
        self._reading = True
        try:
            return await anext(self._chunks, None)
        except UpstreamError:
            if self._translator.whole:
                return None
            self._stop_timer()
            raise
        except BaseException:
            self._stop_timer()
            raise
        finally:
            self._reading = False

    def _take(self, data: bytes) -> bytes:
        try:
            block = self._splitter.feed(data)
        except UpstreamError:
            if self._translator.whole:
                return self._finish()
            self._stop_timer()
            raise
        return self._translate(block) if block else b""

    def _translate(self, block: bytes) -> bytes:
        translator = self._translator
        try:
            out = translator.feed(block)
        except UpstreamError:
            self._stop_timer()
            raise
        if self._whole_at is None and translator.started:
            if translator.finish_reason is not None and translator.whole:
                self._whole_at = self._now()
                if not translator.complete:
                    self._set_timer(self._due())
            elif translator.contents != self._contents:
                self._contents = translator.contents
                self._content_came = True
        return out

    def _finish(self) -> bytes:
        """The end of what the caller gets. What is torn or wrong behind a whole answer is nothing that it lacks."""
        self._ended = True
        self._stop_timer()
        try:
            last = self._translator.finish(self._splitter.rest())
        except (UpstreamCut, UpstreamMalformed):
            if not self._translator.whole:
                raise
            last = self._translator.finish(b"")
        self._ended_well = True
        return last

    # -- time ----------------------------------------------------------------------------------------------------

    def _due(self) -> float:
        if self._whole_at is not None:
            return self._whole_at + self._grace_s
        if not self._translator.started:
            return min(self._began + self._timeouts.first_token_s, self._total_until)
        return min(self._content_at + self._timeouts.idle_s, self._total_until)

    def _set_timer(self, due: float) -> None:
        self._stop_timer()
        self._timer = asyncio.get_running_loop().call_later(max(0.0, due - self._now()), self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        """Waits one turn of the loop: what has come in time may stand before its reader only now."""
        self._timer = asyncio.get_running_loop().call_later(0, self._judge)

    def _judge(self) -> None:
        self._timer = None
        now = self._now()
        if now < self._due():
            self._set_timer(self._due())
        elif self._reading or self._whole_at is not None or now >= self._total_until:
            self._response.end(self._overdue(now))
        else:
            self._lagging = True
            self._set_timer(self._total_until)

    def _overdue(self, now: float) -> UpstreamTimeout:
        if self._whole_at is not None:
            return UpstreamTimeout("The provider left a complete stream open.")
        if now >= self._total_until:
            return UpstreamTimeout("The answer took longer than the time allowed in total.")
        if not self._translator.started:
            return UpstreamTimeout(f"The provider sent no content within {self._timeouts.first_token_s:g} s.")
        return UpstreamTimeout(f"The provider sent no content for {self._timeouts.idle_s:g} s.")
