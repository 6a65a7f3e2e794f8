"""An answer under way: filled by its connection, emptied by its consumer.

It has one timer, armed once and moved on when it fires, not one for each read: a timer for each read costs more than
the read (docs/adr/0001-http-client.md).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Protocol

from llm_gateway.errors import UpstreamError, UpstreamMalformed, UpstreamTimeout
from llm_gateway.upstream.content_coding import Inflater, open_inflater

HIGH_WATER = 512 * 1024
"""Unread bytes past which the socket is left alone until the consumer has caught up."""


class Wire(Protocol):
    """What a response asks of its connection."""

    @property
    def host(self) -> str: ...

    def resume(self) -> None:
        """Reads the socket again."""
        ...

    def drop(self) -> None:
        """Closes the connection: nobody wants the rest."""
        ...

    def end(self, error: UpstreamError) -> None:
        """Closes the connection and fails the response."""
        ...


OnFree = Callable[[bool], None]
"""Told once per exchange that the connection is done with it, and whether it may carry another."""


class Limits:
    """How long a response may keep its reader waiting, in seconds. `head_due` is the loop's time."""

    __slots__ = ("first_byte_s", "head_due", "idle_s")

    def __init__(self, first_byte_s: float, idle_s: float, head_due: float) -> None:
        self.first_byte_s = first_byte_s
        self.idle_s = idle_s
        self.head_due = head_due


class Response:
    """Implements `domain.ports.HttpResponse`."""

    def __init__(
        self,
        connection: Wire,
        loop: asyncio.AbstractEventLoop,
        limits: Limits,
        *,
        head_only: bool,
        on_free: OnFree,
    ) -> None:
        self.headers: dict[str, str] = {}
        self.head_only = head_only
        self.began = False
        self.head_came = False
        self.ends_at_close = False
        self.unread = 0
        self.error: UpstreamError | None = None
        self._status = 0
        self._connection = connection
        self._host = connection.host
        self._loop = loop
        self._limits = limits
        self._on_free: OnFree | None = on_free
        self._pieces: list[bytes] = []
        self._complete = False
        self._closed = False
        self._inflater: Inflater | None = None
        self._inflated: Iterator[bytes] | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._due = limits.head_due
        self._timer: asyncio.TimerHandle | None = loop.call_at(self._due, self._on_timer)

    # -- the consumer's side: domain.ports.HttpResponse ----------------------------------------------------------

    @property
    def status(self) -> int:
        return self._status

    async def wait_head(self) -> None:
        """Raises `UpstreamTimeout` after `first_byte_s`, `UpstreamCut`, `UpstreamMalformed`."""
        while not self.head_came:
            if self.error is not None:
                raise self.error
            await self._wait()
        coding = self.headers.pop("content-encoding", "")
        if coding and not self.head_only:
            self._inflater = open_inflater(coding, self._host)
            if self._inflater is not None:
                self.headers.pop("content-length", None)  # It counts the compressed bytes.

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes, decoded; see `domain.ports.HttpResponse.chunks`."""
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            if self._inflated is not None:
                piece = next(self._inflated, None)
                if piece is not None:
                    return piece
                self._inflated = None
            if self._pieces:
                piece = self._take()
                if self._inflater is None:
                    return piece
                self._inflated = self._inflater.feed(piece)
            elif self.error is not None:
                raise self.error
            elif self._complete or self._closed:
                if self._inflater is not None and self._complete:
                    self._inflater.finish()
                raise StopAsyncIteration
            else:
                self._due = self._loop.time() + self._limits.idle_s
                if self._timer is None or self._timer.when() > self._due:
                    self._arm()
                await self._wait()

    async def read(self, limit: int) -> bytes:
        """The whole body; see `domain.ports.HttpResponse.read`."""
        pieces = []
        size = 0
        async for piece in self:
            size += len(piece)
            if size > limit:
                await self.close()
                raise UpstreamMalformed(f"{self._host} sent more than {limit} bytes")
            pieces.append(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def close(self) -> None:
        """Cancels what has not been read yet by closing the connection; harmless after the end, and twice."""
        self.cancel()

    def cancel(self) -> None:
        """`close` for where nothing can be awaited."""
        if self._closed:
            return
        self._closed = True
        self._stop_timer()
        self._pieces.clear()
        self._inflated = None
        if self._on_free is not None:
            self._connection.drop()
        self.wake()

    def end(self, error: UpstreamError) -> None:
        """See `domain.ports.HttpResponse.end`."""
        if self._on_free is not None and not self._closed:
            self._connection.end(error)

    def _take(self) -> bytes:
        pieces = self._pieces
        piece = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        pieces.clear()
        if self.unread > HIGH_WATER:
            self._connection.resume()
        self.unread = 0
        return piece

    async def _wait(self) -> None:
        waiter = self._loop.create_future()
        self._waiter = waiter
        try:
            await waiter
        finally:
            self._waiter = None

    # -- the connection's side -----------------------------------------------------------------------------------

    def start(self, status: int) -> None:
        coding = self.headers.get("transfer-encoding", "").lower()
        # Neither a length nor chunks: the end of the connection is the end of the body (RFC 9112, section 6.3).
        self.ends_at_close = "content-length" not in self.headers and "chunked" not in coding
        self._status = status
        self.head_came = True
        self.wake()

    def add(self, data: bytes) -> None:
        self._pieces.append(data)
        self.unread += len(data)
        self.wake()

    def wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def finish(self) -> None:
        self._complete = True
        self._stop_timer()
        self.wake()

    def fail(self, error: UpstreamError) -> None:
        if self.error is None and not self._complete:
            self.error = error
        self._stop_timer()
        self.wake()

    def free(self, *, reusable: bool) -> None:
        on_free, self._on_free = self._on_free, None
        if on_free is not None:
            on_free(reusable)

    # -- time ----------------------------------------------------------------------------------------------------

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._on_timer)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return  # The consumer is busy with what it has, or has just got; its next wait sets the clock.
        if self._loop.time() < self._due:
            self._arm()
        elif self.head_came:
            self._connection.end(UpstreamTimeout(f"{self._host} sent nothing for {self._limits.idle_s:.3g} s"))
        else:
            within_s = f"{self._limits.first_byte_s:.3g}"
            self._connection.end(UpstreamTimeout(f"{self._host} did not answer within {within_s} s"))
