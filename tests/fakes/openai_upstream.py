"""A provider that speaks OpenAI, on loopback, over real HTTP, and misbehaves on request, down to the byte.

    with OpenAIUpstream() as up:
        up.script("model-x", chat("Hi"), error(429, headers={"retry-after": "3"}))   # in turn; the last one stays
        up.queue(Vanish())                     # for the next request, whatever its model; used up once
        stream = ChatStream(text="a b c", gate_after=2)
        up.script("model-y", stream)
        ...                                    # POST f"{up.base_url}/chat/completions"
        stream.gate.wait_held()                # two events are out (from async code: await asyncio.to_thread(...))
        stream.gate.release()
        assert up.requests[0].json["model"] == "model-x"
        assert up.requests[-1].wait_left()     # the client closed before its answer was complete

A model without a script is answered as OpenAI would: chat buffered and streamed with usage if asked for, embeddings
(`[0.25, …]`), the list of scripted models, 404 in OpenAI's shape elsewhere. `up.require_key("sk-new")` answers 401 to
every other key; `up.drop_connections()` closes the idle connections. The server runs in a thread of its own, so it
works with synchronous and asynchronous clients alike. Scenarios are in `openai_wire` and can be imported from here.
"""

import asyncio
import contextlib
import json
import ssl
import threading
import time
import zlib
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping
from types import TracebackType
from typing import Any, Self

import httptools

from tests.fakes.gate import Gate
from tests.fakes.openai_wire import (
    PROCESSING,
    ChatStream,
    Raw,
    Reply,
    Scenario,
    Stream,
    Vanish,
    chat,
    empty_error,
    error,
    error_event,
    fastapi_error,
    html_error,
    openrouter_error,
    redirect,
    string_error,
    tool_call,
)

__all__ = [
    "PROCESSING",
    "ChatStream",
    "Gate",
    "OpenAIUpstream",
    "Raw",
    "Recorded",
    "Reply",
    "Stream",
    "Vanish",
    "chat",
    "empty_error",
    "error",
    "error_event",
    "fastapi_error",
    "html_error",
    "openrouter_error",
    "redirect",
    "string_error",
    "tool_call",
]


class Recorded:
    """One request as it came. `headers` in lower case; of a repeated one the last."""

    def __init__(self, connection: int) -> None:
        self.connection = connection
        """The number of the connection: equal for requests that shared one."""
        self.method = ""
        self.target = ""
        """Path and query, as sent."""
        self.headers: dict[str, str] = {}
        self.raw_headers: list[tuple[bytes, bytes]] = []
        self.body = b""
        self.received_at = 0.0
        """`time.monotonic()`, as below."""
        self.left_at: float | None = None
        """When the client closed the connection before its answer was complete."""
        self.done_at: float | None = None
        """When the last byte was handed to the socket."""
        self._left = threading.Event()
        self._over = threading.Event()

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def wait_left(self, timeout: float = 5.0) -> bool:
        """Whether the client left before the end, within `timeout` seconds."""
        return self._left.wait(timeout)

    def wait_over(self, timeout: float = 5.0) -> bool:
        """Whether the exchange is over, one way or the other."""
        return self._over.wait(timeout)

    def mark_left(self) -> None:
        self.left_at = time.monotonic()
        self._left.set()
        self._over.set()

    def mark_done(self) -> None:
        self.done_at = time.monotonic()
        self._over.set()


class OpenAIUpstream:
    """See the module. Also usable with `start` and `stop`; `tls` makes it https."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.requests: list[Recorded] = []
        self.connections = 0
        """How many were ever accepted."""
        self.failures: list[BaseException] = []
        """What went wrong in here: `stop` raises the first, so that a test never passes on a broken fake."""
        self._tls = tls
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="openai-upstream", daemon=True)
        self._ready = threading.Event()
        self._port = 0
        self._stop: asyncio.Event | None = None
        self._open: set[_Connection] = set()
        self._lock = threading.Lock()
        self._scripts: dict[str, deque[Scenario]] = defaultdict(deque)
        self._queue: deque[Scenario] = deque()
        self._key: str | None = None

    @property
    def base_url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self._port}/v1"

    def script(self, model: str, *scenarios: Scenario) -> None:
        """What requests for `model` get, in turn; the last scenario stays. Replaces an earlier script."""
        with self._lock:
            self._scripts[model] = deque(scenarios)

    def queue(self, *scenarios: Scenario) -> None:
        """What the next requests get, whatever they ask; before any script."""
        with self._lock:
            self._queue.extend(scenarios)

    def require_key(self, key: str | None) -> None:
        """From now on any other key (`authorization: Bearer`, `api-key`) is a 401. None lets everybody in."""
        self._key = key

    def drop_connections(self) -> None:
        """Closes every connection on which nothing is under way, as a server does after its keep-alive time."""
        done = threading.Event()

        def drop() -> None:
            for connection in list(self._open):
                connection.close_if_idle()
            done.set()

        self._loop.call_soon_threadsafe(drop)
        done.wait(5)

    def last(self) -> Recorded:
        return self.requests[-1]

    # -- life ----------------------------------------------------------------------------------------------------

    def start(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the fake provider did not start")
        return self

    def stop(self) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        if self.failures:
            raise self.failures[0]

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), "127.0.0.1", 0, ssl=self._tls)
        self._port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [task for connection in list(self._open) if (task := connection.abort()) is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # The transports close in the loop's next turns.

    # -- what to answer ------------------------------------------------------------------------------------------

    def opened(self, connection: "_Connection") -> int:
        self._open.add(connection)
        self.connections += 1
        return self.connections

    def closed(self, connection: "_Connection") -> None:
        self._open.discard(connection)

    def answered(self, task: "asyncio.Task[None]") -> None:
        failure = None if task.cancelled() else task.exception()
        if failure is not None:
            self.failures.append(failure)

    def choose(self, request: Recorded) -> Scenario:
        """The scenario for a request; `request` is on record from now on."""
        with self._lock:
            self.requests.append(request)
            if self._queue:
                return self._queue.popleft()
            if self._key is not None and self._key not in (
                request.headers.get("authorization", "").removeprefix("Bearer "),
                request.headers.get("api-key"),
            ):
                return error(401, "Incorrect API key provided.", type="authentication_error", code="invalid_api_key")
            body = _json_object(request.body)
            script = self._scripts.get(str(body.get("model")))
            if script and request.method == "POST":
                return script.popleft() if len(script) > 1 else script[0]
            return self._default(request, body)

    def _default(self, request: Recorded, body: dict[str, Any]) -> Scenario:
        if request.path.endswith("/chat/completions") and request.method == "POST":
            return ChatStream() if body.get("stream") else chat(request=body)
        if request.path.endswith("/embeddings") and request.method == "POST":
            given = body.get("input")
            count = len(given) if isinstance(given, list) else 1
            data = [{"object": "embedding", "index": at, "embedding": [0.25, -0.5, 0.125]} for at in range(count)]
            usage = {"prompt_tokens": 3 * count, "total_tokens": 3 * count}
            return Reply({"object": "list", "data": data, "model": body.get("model"), "usage": usage})
        if request.path.endswith("/models") and request.method == "GET":
            rows = [{"id": name, "object": "model", "created": 1, "owned_by": "fake"} for name in self._scripts]
            return Reply({"object": "list", "data": rows})
        return error(404, f"Invalid URL ({request.method} {request.path})", code="unknown_url")


class _Connection(asyncio.Protocol):
    """Reads requests with httptools; answers one at a time."""

    def __init__(self, upstream: OpenAIUpstream) -> None:
        self._upstream = upstream
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._number = 0
        self._request: Recorded | None = None
        self._task: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self._transport = transport
        self._number = self._upstream.opened(self)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            if self._transport is not None:
                self._transport.write(b"HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
            self._close()

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._upstream.closed(self)
        self._writable.set()
        if self._task is not None and not self._task.done() and self._request is not None:
            self._request.mark_left()
            self._task.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def close_if_idle(self) -> None:
        if self._task is None or self._task.done():
            self._close()

    def abort(self) -> "asyncio.Task[None] | None":
        if self._transport is not None:
            self._transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    # -- httptools -----------------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self._request = Recorded(self._number)

    def on_url(self, url: bytes) -> None:
        if self._request is not None:
            self._request.target += url.decode()

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._request is not None:
            self._request.raw_headers.append((name, value))
            self._request.headers[name.decode().lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        if self._request is not None:
            self._request.body += body

    def on_message_complete(self) -> None:
        request = self._request
        if request is None:
            return
        request.method = self._parser.get_method().decode()
        request.received_at = time.monotonic()
        scenario = self._upstream.choose(request)
        self._task = asyncio.get_running_loop().create_task(self._answer(request, scenario))
        self._task.add_done_callback(self._upstream.answered)

    # -- the answer ----------------------------------------------------------------------------------------------

    async def _answer(self, request: Recorded, scenario: Scenario) -> None:
        if isinstance(scenario, Vanish):
            request.mark_done()
            self._close()
        elif isinstance(scenario, Raw):
            await self._write(scenario.data)
            if not scenario.close:
                await asyncio.Event().wait()
            request.mark_done()
            self._close()
        else:
            await asyncio.sleep(scenario.delay_s)
            if scenario.hold:
                await scenario.gate.wait()
            stays = await (self._reply(scenario) if isinstance(scenario, Reply) else self._stream(request, scenario))
            request.mark_done()
            if not stays:
                self._close()

    async def _reply(self, reply: Reply) -> bool:
        """Whether the connection stays open."""
        body = zlib_gzip(reply.encoded()) if reply.gzip else reply.encoded()
        close = reply.close or reply.cut_at is not None or reply.framing == "close"
        headers = {"content-type": reply.content_type} if reply.content_type else {}
        headers |= {"connection": "close"} if reply.close else {}
        headers |= {"content-encoding": "gzip"} if reply.gzip else {}
        head = _head(reply.status, headers | dict(reply.headers), reply.framing, len(body))
        if reply.cut_at is not None:
            body = body[: reply.cut_at]
        framed = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body) if reply.framing == "chunked" else body
        await self._write(head + framed)
        return not close

    async def _stream(self, request: Recorded, stream: Stream) -> bool:
        headers = {"content-type": stream.content_type, **({"content-encoding": "gzip"} if stream.gzip else {})}
        headers |= dict(stream.headers)
        blocks = list(stream.blocks(_json_object(request.body)))
        if stream.end == "cut_mid_event" and blocks:
            blocks[-1] = blocks[-1][: len(blocks[-1]) // 2]
        length = sum(map(len, blocks)) + (1 if stream.end.startswith("cut") else 0)
        await self._write(_head(stream.status, headers, stream.framing, length))
        async for piece in self._pieces(stream, blocks):
            await self._write(b"%x\r\n%s\r\n" % (len(piece), piece) if stream.framing == "chunked" else piece)
        if stream.end == "stall":
            await asyncio.Event().wait()
        if stream.end.startswith("cut"):
            return False
        if stream.framing == "chunked":
            await self._write(b"0\r\n\r\n")
        return stream.framing != "close"

    async def _pieces(self, stream: Stream, blocks: list[bytes]) -> AsyncIterator[bytes]:
        squeeze = zlib.compressobj(wbits=31) if stream.gzip else None
        for start in range(0, len(blocks), stream.per_write):
            if stream.gate_after is not None and start >= stream.gate_after:
                await stream.gate.wait()
            if start and stream.pause_s:
                await asyncio.sleep(stream.pause_s)
            data = b"".join(blocks[start : start + stream.per_write])
            if squeeze is not None:
                data = squeeze.compress(data) + squeeze.flush(zlib.Z_SYNC_FLUSH)
            size = stream.tear or len(data) or 1
            for at in range(0, len(data), size):
                yield data[at : at + size]
                await asyncio.sleep(0)
        if stream.gate_after is not None and stream.gate_after >= len(blocks):
            await stream.gate.wait()
        if squeeze is not None and not stream.end.startswith("cut"):
            yield squeeze.flush()

    async def _write(self, data: bytes) -> None:
        await self._writable.wait()
        if self._transport is None:
            raise asyncio.CancelledError
        self._transport.write(data)


def _head(status: int, headers: Mapping[str, str], framing: str, length: int) -> bytes:
    lines = [f"HTTP/1.1 {status} {'OK' if status == 200 else 'Status'}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    if framing == "chunked":
        lines.append("transfer-encoding: chunked")
    elif framing == "length":
        lines.append(f"content-length: {length}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def _json_object(body: bytes) -> dict[str, Any]:
    with contextlib.suppress(ValueError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    return {}


def zlib_gzip(data: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=31)
    return squeeze.compress(data) + squeeze.flush()
