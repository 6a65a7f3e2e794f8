"""Specifies one ASGI cycle of the runtime on an in-memory sink: order of messages, disconnects, SIGTERM's bound."""

import asyncio
import sys
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from llm_gateway.runtime.config import RuntimeConfig
from llm_gateway.runtime.cycle import AppIncomplete, Cycle, Deadline
from llm_gateway.runtime.http1 import ConnectionLost
from llm_gateway.runtime.loop import Runtime
from llm_gateway.runtime.prelude import DELIMITER
from tests.fakes.lambda_platform import LambdaPlatform
from tests.fakes.virtual_time import in_virtual_time

NO_DEADLINE = Deadline(0, 2.0, 0.5)
SSE = [(b"content-type", b"text/event-stream")]


class MemorySink:
    """A sink that keeps what it is sent, and can be lost."""

    def __init__(self) -> None:
        self.finished = False
        self.lost = False
        self.on_lost: Callable[[], None] | None = None
        self.prelude = b""
        self.chunks: list[bytes] = []
        self.failure = ""

    async def begin(self, prelude: bytes, body: bytes, *, last: bool) -> None:
        self.prelude = prelude
        self.finished = last
        await self._take(body)

    async def write(self, body: bytes) -> None:
        await self._take(body)

    async def finish(self, body: bytes = b"") -> None:
        self.finished = True
        await self._take(body)

    def fail(self, body: bytes, error_type: str, message: str) -> None:
        self.finished = True
        self.chunks.append(body)
        self.failure = f"{error_type}: {message}"

    async def _take(self, body: bytes) -> None:
        if self.lost:
            raise ConnectionLost
        if body:
            self.chunks.append(body)

    def lose(self) -> None:
        self.lost = True
        if self.on_lost is not None:
            self.on_lost()


def cycle_on(sink: MemorySink, method: str = "POST", body: bytes = b"request") -> Cycle:
    return Cycle({"type": "http", "method": method, "path": "/"}, body, sink, multi_value=True, request_id="r-1")


async def start(send: Any, headers: Any = SSE, status: int = 200) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Any, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


@in_virtual_time
async def test_receive_gives_the_body_then_waits_for_the_end_of_the_response() -> None:
    sink = MemorySink()
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert await receive() == {"type": "http.request", "body": b"request", "more_body": False}
        waiting = asyncio.ensure_future(receive())
        await start(send)
        await body(send, b"a")
        await asyncio.sleep(0.01)
        assert not waiting.done()
        await body(send, b"b", more=False)
        told.append((await waiting)["type"])
        told.append((await receive())["type"])

    async with asyncio.timeout(5):
        assert await cycle_on(sink).run(app, NO_DEADLINE) is None
    assert told == ["http.disconnect", "http.disconnect"]
    assert sink.chunks == [b"a", b"b"]
    assert sink.prelude.endswith(DELIMITER)


async def test_a_lost_response_wakes_receive_and_fails_send() -> None:
    sink = MemorySink()
    told: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        waiting = asyncio.ensure_future(receive())
        await start(send)
        await body(send, b"a")
        asyncio.get_running_loop().call_later(0.01, sink.lose)
        told.append((await waiting)["type"])
        with pytest.raises(ConnectionLost):
            await body(send, b"b")
        told.append((await receive())["type"])

    async with asyncio.timeout(5):
        await cycle_on(sink).run(app, NO_DEADLINE)
    assert told == ["http.disconnect", "http.disconnect"]
    assert not sink.failure, "nobody is left to be told"


async def test_empty_chunks_are_not_sent_for_they_would_end_the_body() -> None:
    sink = MemorySink()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"")
        assert not sink.prelude, "an empty chunk commits no status"
        await body(send, b"a")
        await body(send, b"")
        await send({"type": "http.response.body"})

    await cycle_on(sink).run(app, NO_DEADLINE)
    assert sink.chunks == [b"a"]
    assert sink.finished


@pytest.mark.parametrize(
    "messages",
    [
        [{"type": "http.response.body", "body": b"early"}],
        [{"type": "http.response.start", "status": 200}, {"type": "http.response.start", "status": 200}],
        [
            {"type": "http.response.start", "status": 200},
            {"type": "http.response.body"},
            {"type": "http.response.body"},
        ],
        [{"type": "websocket.send"}],
    ],
)
async def test_messages_out_of_turn_are_the_apps_mistake(messages: list[dict[str, Any]]) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        for message in messages[:-1]:
            await send(message)
        with pytest.raises(AppIncomplete):
            await send(messages[-1])

    await cycle_on(MemorySink()).run(app, NO_DEADLINE)


@pytest.mark.parametrize(
    ("sent", "ending"),
    [(b"data: 1\n\n", b"event: error\ndata: "), (b"data: {", b"\n\nevent: error\ndata: ")],
)
async def test_an_error_in_the_stream_begins_at_an_events_boundary(sent: bytes, ending: bytes) -> None:
    sink = MemorySink()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, sent)
        raise ValueError("a prompt")

    await cycle_on(sink).run(app, NO_DEADLINE)
    assert sink.chunks[-1].startswith(ending)
    assert sink.chunks[-1].endswith(b"}}\n\n")
    assert sink.failure == "Runtime.ValueError: The gateway failed before the answer was complete."


async def test_a_failure_after_the_last_byte_is_logged_and_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    sink = MemorySink()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"all", more=False)
        raise ValueError("the ledger is down")

    await cycle_on(sink).run(app, NO_DEADLINE)
    assert sink.chunks == [b"all"]
    assert not sink.failure
    assert "after its response was complete" in caplog.text
    assert caplog.records[0].__dict__["aws_request_id"] == "r-1"


@in_virtual_time
async def test_the_books_are_closed_even_past_the_deadline() -> None:
    sink = MemorySink()
    settled = []
    deadline = Deadline(1, 2.0, 0.5)  # long over
    deadline.cancel_in_s, deadline.give_up_in_s = 0.05, 1.0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"all", more=False)
        await asyncio.sleep(0.1)
        settled.append(True)

    assert await cycle_on(sink).run(app, deadline) is None
    assert settled == [True]


async def test_head_gets_headers_alone() -> None:
    sink = MemorySink()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"unseen")
        await body(send, b"unseen", more=False)

    await cycle_on(sink, "HEAD").run(app, NO_DEADLINE)
    assert (sink.chunks, sink.finished) == ([], True)


async def test_after_sigterm_what_does_not_end_in_time_is_cancelled_and_told() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(send)
        await body(send, b"data: 1\n\n")
        await asyncio.sleep(60)

    idle = [sys.executable, "-c", "import time; time.sleep(60)"]
    with LambdaPlatform("none:none", command=idle, wait_for_poll=False) as platform:
        host, port = platform.runtime_api.split(":")
        environ: dict[str, str] = {}
        runtime = Runtime(app, RuntimeConfig(host, int(port), drain_s=0.02), environ)
        serving = asyncio.ensure_future(runtime.serve())
        async with httpx.AsyncClient() as client:
            asking = asyncio.ensure_future(client.get(platform.url + "/anything"))
            async with asyncio.timeout(5):
                while not (platform.invocations and platform.invocations[0].chunks):  # noqa: ASYNC110 - of another thread
                    await asyncio.sleep(0.01)
            runtime.stop()
            reply = await asking
        await asyncio.wait_for(serving, 5)
        assert '"code":"shutting_down"' in reply.text
        assert platform.invocations[0].trailers["lambda-runtime-function-error-type"] == "Runtime.ShuttingDown"
        assert "_X_AMZN_TRACE_ID" in environ
