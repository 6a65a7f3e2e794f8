"""As much HTTP/1.1 as the Runtime API needs of a client, and nothing that it may not do.

General clients cannot send trailers, and cost more than the app. One connection carries one request at a time; a
request's body may be chunked, with trailers (RFC 9112, section 7.1); an answer has a `Content-Length` or is chunked,
since Go's server, which the Runtime API is written on, chunks bodies from 2 KB up. Anything else is a `ProtocolError`.

Source: https://www.rfc-editor.org/rfc/rfc9112
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import NamedTuple, cast

MAX_HEAD = 64 * 1024
LAST_CHUNK = b"0\r\n\r\n"


class ProtocolError(OSError):
    """The peer did not speak the HTTP/1.1 described above."""


class ConnectionLost(OSError):
    """The connection ended before the exchange did."""


class Reply(NamedTuple):
    """An answer; header names are lower-case."""

    status: int
    headers: dict[str, str]
    body: bytes


def chunk(data: bytes) -> bytes:
    """One chunk; `data` must not be empty, for an empty chunk ends the body."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def last_chunk(trailers: dict[str, str]) -> bytes:
    """The end of a chunked body. The trailers' names must have been announced by the `Trailer` header."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in trailers.items())
    return b"0\r\n%b\r\n" % fields.encode("ascii")


class ReplyParser:
    """Parses one reply from pieces as they come; `feed` gives it once it is whole.

    Raises `ProtocolError` on a malformed head, an unknown framing, or bytes after the end.
    """

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._status = 0
        self._headers: dict[str, str] | None = None
        self._length: int | None = None
        self._chunks: list[bytes] = []

    def feed(self, data: bytes) -> Reply | None:
        self._buffer += data
        if self._headers is None and not self._take_head():
            return None
        body = self._take_chunks() if self._length is None else self._take_exactly(self._length)
        if body is None or self._headers is None:
            return None
        if self._buffer:
            raise ProtocolError("bytes after the end of the reply")
        return Reply(self._status, self._headers, body)

    def _take_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            if len(self._buffer) > MAX_HEAD:
                raise ProtocolError("the head of the reply is too long")
            return False
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        self._status = _status_of(lines[0])
        if self._status < 200:  # an interim reply; the real one follows
            return self._take_head()
        self._headers = _headers_of(lines[1:])
        self._length = _length_of(self._status, self._headers)
        return True

    def _take_exactly(self, length: int) -> bytes | None:
        if len(self._buffer) < length:
            return None
        body = bytes(self._buffer[:length])
        del self._buffer[:length]
        return body

    def _take_chunks(self) -> bytes | None:
        while True:
            line_end = self._buffer.find(b"\r\n")
            if line_end < 0:
                return None
            size = _chunk_size(bytes(self._buffer[:line_end]))
            if size == 0:
                return self._take_trailers(line_end)
            end = line_end + 2 + size
            if len(self._buffer) < end + 2:
                return None
            if self._buffer[end : end + 2] != b"\r\n":
                raise ProtocolError("a chunk is longer than it says")
            self._chunks.append(bytes(self._buffer[line_end + 2 : end]))
            del self._buffer[: end + 2]

    def _take_trailers(self, line_end: int) -> bytes | None:
        end = self._buffer.find(b"\r\n\r\n", line_end)
        if end < 0:
            return None
        del self._buffer[: end + 4]
        return b"".join(self._chunks)


def _status_of(line: str) -> int:
    version, _, rest = line.partition(" ")
    status = rest[:3]
    if not version.startswith("HTTP/1.") or not status.isdigit() or len(status) != 3:
        raise ProtocolError(f"not a status line: {line[:80]!r}")
    return int(status)


def _headers_of(lines: list[str]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip():
            raise ProtocolError(f"not a header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    return headers


def _length_of(status: int, headers: dict[str, str]) -> int | None:
    """The body's length in bytes; None: it is chunked."""
    encoding = headers.get("transfer-encoding")
    length = headers.get("content-length")
    if encoding is not None:
        if encoding.lower() != "chunked" or length is not None:
            raise ProtocolError("a framing that is not understood")
        return None
    if status in (204, 304):
        return 0
    if length is None or not length.isdigit():
        raise ProtocolError("the reply has no length")
    return int(length)


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    # int() also takes "+1", "0x1" and "1_0", which are no chunk sizes.
    if not digits or digits.strip(b"0123456789abcdefABCDEF"):
        raise ProtocolError(f"not a chunk size: {line[:20]!r}")
    return int(digits, 16)


class Connection(asyncio.Protocol):
    """One connection; one request at a time. `lost` is true once nothing more can be sent on it."""

    def __init__(self) -> None:
        self.lost = False
        self._transport: asyncio.WriteTransport | None = None
        self._parser = ReplyParser()
        self._reply: asyncio.Future[Reply] | None = None
        self._early: Reply | OSError | None = None
        self._paused: asyncio.Future[None] | None = None
        self.on_lost: Callable[[], None] | None = None
        """Called once nothing more can be sent: the peer closed, or answered before the request was whole."""

    @classmethod
    async def open(cls, host: str, port: int) -> "Connection":
        """Raises `OSError` where nobody listens."""
        _, connection = await asyncio.get_running_loop().create_connection(cls, host, port)
        return connection

    def write(self, data: bytes) -> None:
        """Hands bytes to the kernel, or to the transport's buffer where it takes no more. Raises `ConnectionLost`."""
        if self.lost or self._transport is None:
            raise ConnectionLost("the connection to the Runtime API is gone")
        self._transport.write(data)

    @property
    def full(self) -> bool:
        """Whether the buffer is over its high-water mark, and the writer should `drain`."""
        return self._paused is not None

    async def drain(self) -> None:
        """Waits until the peer has taken enough. Raises `ConnectionLost`."""
        if self._paused is not None:
            await asyncio.shield(self._paused)
        if self.lost:
            raise ConnectionLost("the connection to the Runtime API is gone")

    async def reply(self) -> Reply:
        """The answer to what was written. Raises `ConnectionLost` or `ProtocolError`."""
        early, self._early = self._early, None
        if isinstance(early, Reply):
            return early
        if early is not None:
            raise early
        if self.lost:
            raise ConnectionLost("the connection to the Runtime API is gone")
        self._reply = asyncio.get_running_loop().create_future()
        try:
            return await self._reply
        finally:
            self._reply = None

    def interrupt(self, error: OSError) -> None:
        """Makes a pending `reply()` raise `error`, and closes the connection."""
        if self._reply is not None and not self._reply.done():
            self._reply.set_exception(error)
        self.close()

    def close(self) -> None:
        self._mark_lost()
        if self._transport is not None:
            self._transport.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def data_received(self, data: bytes) -> None:
        try:
            reply = self._parser.feed(data)
        except ProtocolError as error:
            self._settle(error)
            self.close()
            return
        if reply is not None:
            self._parser = ReplyParser()
            self._settle(reply)

    def _settle(self, outcome: Reply | OSError) -> None:
        if self._reply is None or self._reply.done():
            # Nobody waits: the peer answered a request that is still being written. It will read no more of it.
            self._early = outcome
            self._mark_lost()
        elif isinstance(outcome, Reply):
            self._reply.set_result(outcome)
        else:
            self._reply.set_exception(outcome)

    def connection_lost(self, exc: Exception | None) -> None:
        self._mark_lost()
        if self._reply is not None and not self._reply.done():
            lost = ConnectionLost("the Runtime API closed the connection")
            lost.__cause__ = exc
            self._reply.set_exception(lost)

    def _mark_lost(self) -> None:
        self.lost = True
        self.resume_writing()
        if self.on_lost is not None:
            self.on_lost()

    def pause_writing(self) -> None:
        self._paused = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        if self._paused is not None:
            with contextlib.suppress(asyncio.InvalidStateError):  # it may have been resolved by the connection's end
                self._paused.set_result(None)
            self._paused = None
