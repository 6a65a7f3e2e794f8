"""One HTTP/1.1 connection on asyncio; the answer it reads is a `response.Response`.

The wire is parsed by httptools (llhttp, the parser of Node.js); this file moves bytes and keeps time. It is written
for streams: whatever one read of the socket brought reaches the consumer in one piece, with one wake-up, however many
HTTP chunks it held.

Sources: https://www.rfc-editor.org/rfc/rfc9112 (messages, keep-alive, incomplete ones),
https://www.rfc-editor.org/rfc/rfc9110#name-status-codes (1xx come before the answer proper).
"""

import asyncio

import httptools

from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed
from llm_gateway.upstream.response import HIGH_WATER, Limits, OnFree, Response

MAX_HEAD = 256 * 1024
"""Bytes of status line and headers, before and after the body, that are read at most."""
MAX_HEADERS = 1000
ONE_WRITE = 64 * 1024
"""Bytes of body up to which copying it behind the head costs less than a second system call."""
_NO_BODY = frozenset((204, 304))


class NeverAnswered(UpstreamCut):
    """The peer closed before the first byte of an answer: on a connection that was idle, it had most likely gone."""


class Connection(asyncio.BufferedProtocol):
    """A socket and its parser. Carries one exchange at a time; `exchange` starts one.

    `buffer` receives what the socket has and is empty again before anything else runs, so that all connections of
    a loop share one. (Without one, asyncio allocates 256 KiB for each read: measured, 15 to 30 µs of page faults.)
    """

    def __init__(self, host: str, loop: asyncio.AbstractEventLoop, buffer: memoryview) -> None:
        self.host = host
        self.exchanges = 0
        self.idle_until = 0.0
        """Loop time; the pool's."""
        self.idle_hint_s = float("inf")
        self._loop = loop
        self._buffer = buffer
        self._transport: asyncio.Transport | None = None
        self._response: Response | None = None
        self._parser: httptools.HttpResponseParser | None = httptools.HttpResponseParser(self)
        self._body_began = False
        self._body_complete = False
        self._head_size = 0
        self._head_count = 0
        self._keep_alive = False
        self._paused = False

    # -- what the client does ------------------------------------------------------------------------------------

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def exchange(self, head: bytes, body: bytes, *, head_only: bool, limits: Limits, on_free: OnFree) -> Response:
        """Writes one request; the answer is awaited on the `Response` that comes back. Raises nothing."""
        self.exchanges += 1
        self._body_began = self._body_complete = False
        self._head_size = self._head_count = 0
        self._response = Response(self, self._loop, limits, head_only=head_only, on_free=on_free)
        if self._transport is None:
            response = self._response
            self._fail(NeverAnswered(f"{self.host} closed the connection before the request was sent"))
            return response
        if len(body) < ONE_WRITE:
            self._transport.write(head + body)
        else:
            self._transport.write(head)
            self._transport.write(body)
        return self._response

    def abort(self) -> None:
        """Closes the socket now, whatever is under way; the peer sees it at once."""
        if self._transport is not None:
            self._transport.abort()
        self._parser = None

    def resume(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    # -- asyncio.BufferedProtocol --------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(f"not a stream transport: {transport!r}")
        self._transport = transport

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - asyncio's own signature
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        if self._parser is None:
            return
        response = self._response
        if response is None:
            # Nobody asked: what follows an answer, or a server's word on why it closes, is not the next answer.
            self.abort()
            return
        response.began = True
        broken: str | None = None
        try:
            self._parser.feed_data(self._buffer[:nbytes])
        except httptools.HttpParserUpgrade:
            broken = "a switch of protocols"
        except httptools.HttpParserError as error:
            broken = str(error) or type(error).__name__
        if self._body_complete:
            self._finish(reusable=self._keep_alive and broken is None)
        elif response.error is not None:
            self._fail(response.error)
        elif broken is not None and self.exchanges > 1 and not (response.head_came or self._head_count):
            # Most likely what the last answer's length did not count, and not the first bytes of this one.
            self._fail(NeverAnswered(f"{self.host} sent something that is not HTTP on a kept connection: {broken}"))
        elif broken is not None:
            self._fail(UpstreamMalformed(f"{self.host} sent something that is not HTTP: {broken}"))
        elif response.unread > HIGH_WATER and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._parser = None  # The parser holds this connection's methods: a cycle.
        response = self._response
        if response is None:
            return
        if response.head_came and exc is None and response.ends_at_close:
            self._finish(reusable=False)
            return
        reason = f" ({exc.strerror or exc})" if isinstance(exc, OSError) else ""
        if not response.began:
            self._fail(NeverAnswered(f"{self.host} closed the connection before it answered{reason}"))
        elif not response.head_came:
            self._fail(UpstreamCut(f"{self.host} closed the connection in the middle of its headers{reason}"))
        else:
            self._fail(UpstreamCut(f"{self.host} closed the connection in the middle of its answer{reason}"))

    # -- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._body_complete:
            # A second answer to one request: whatever it is, the next request must not get it.
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        response = self._response
        self._head_size += len(name) + len(value)
        self._head_count += 1
        if response is None or self._body_complete:
            return
        if self._head_size > MAX_HEAD or self._head_count > MAX_HEADERS:
            response.fail(UpstreamMalformed(f"{self.host} sent more than {MAX_HEAD} bytes of headers"))
        elif not self._body_began:  # Later ones are trailers, which no provider uses.
            response.headers[name.decode("latin-1").lower()] = value.decode("latin-1").strip(" \t")

    def on_headers_complete(self) -> None:
        response, parser = self._response, self._parser
        if response is None or parser is None or self._body_complete:
            return
        status = parser.get_status_code()
        if status < 200:
            response.headers.clear()
            return
        self._body_began = True
        self._keep_alive = parser.should_keep_alive()
        response.start(status)
        if response.head_only and status not in _NO_BODY:
            # The parser waits for a body that an answer to HEAD only announces.
            self._body_complete, self._keep_alive = True, False

    def on_body(self, data: bytes) -> None:
        if self._response is not None and not self._body_complete:
            self._response.add(data)

    def on_message_complete(self) -> None:
        if self._body_began:
            self._body_complete = True

    # -- ends ----------------------------------------------------------------------------------------------------

    def _finish(self, *, reusable: bool) -> None:
        response, self._response = self._response, None
        self.resume()
        if response is not None:
            response.finish()
            hint = response.headers.get("keep-alive")
            if hint is not None:
                self.idle_hint_s = keep_alive_seconds(hint)
            response.free(reusable=reusable and self.usable)
        if not reusable:
            self.abort()

    def _fail(self, error: UpstreamError) -> None:
        response, self._response = self._response, None
        self.abort()
        if response is not None:
            response.fail(error)
            response.free(reusable=False)

    def end(self, error: UpstreamError) -> None:
        """Ends the exchange under way, if there is one, with an error its consumer gets."""
        self._fail(error)

    def drop(self) -> None:
        """The consumer wants no more of the response under way."""
        response, self._response = self._response, None
        self.abort()
        if response is not None:
            response.free(reusable=False)


def keep_alive_seconds(value: str) -> float:
    """How long the peer keeps an idle connection by its own word (`timeout=5`), less a second for the way.

    Source: https://www.rfc-editor.org/rfc/rfc2068#section-19.7.1.1 (`timeout`, `max`)
    """
    for part in value.split(","):
        name, _, seconds = part.partition("=")
        if name.strip().lower() == "timeout" and seconds.strip().isdigit():
            return max(0.0, int(seconds.strip()) - 1.0)
    return float("inf")
