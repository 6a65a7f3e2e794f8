"""Small ASGI apps that the runtime process is tested with; each path of `build()` is one behaviour.

What an app observes and cannot answer with, it prints: the platform keeps its standard output.
"""

import asyncio
import base64
import json
import os
import random
from typing import Any
from urllib.parse import parse_qs

SSE = [(b"content-type", b"text/event-stream")]
JSON = [(b"content-type", b"application/json")]


class App:
    def __init__(self) -> None:
        self.restored = 0
        self.in_flight = 0
        self.most_in_flight = 0
        self.first_draw = random.random()  # noqa: S311 - no secret

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"].strip("/").replace("/", "_").replace("-", "_")
        behaviour = getattr(self, "path_" + name, None)
        query = {key: values[-1] for key, values in parse_qs(scope["query_string"].decode()).items()}
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            if behaviour is None:
                await answer(send, {"error": "no such path"}, status=404)
            else:
                await behaviour(Call(scope, receive, send, query))
        finally:
            self.in_flight -= 1

    async def before_snapshot(self) -> None:
        print("hook before_snapshot")

    async def after_restore(self) -> None:
        self.restored += 1
        print("hook after_restore")

    async def aclose(self) -> None:
        print("hook aclose")

    async def path_echo(self, call: "Call") -> None:
        message = await call.receive()
        scope = call.scope
        await answer(
            call.send,
            {
                "path": scope["path"],
                "query": scope["query_string"].decode(),
                "method": scope["method"],
                "headers": [[name.decode(), value.decode()] for name, value in scope["headers"]],
                "body": base64.b64encode(message["body"]).decode(),
                "more_body": message["more_body"],
                "extensions": scope["extensions"],
                "trace_variable": os.environ.get("_X_AMZN_TRACE_ID"),
                "function": scope["aws.context"].function_name,
                "left_ms": scope["aws.context"].get_remaining_time_in_millis(),
                "restored": self.restored,
                "draws": [self.first_draw, random.random()],  # noqa: S311 - no secret
                "most_in_flight": self.most_in_flight,
            },
        )

    async def path_stream(self, call: "Call") -> None:
        await start(call.send, 200, SSE)
        for number in range(int(call.query.get("n", "5"))):
            await body(call.send, b"data: %d\n\n" % number)
            await asyncio.sleep(float(call.query.get("gap", "0.05")))
        await body(call.send, b"", more=False)

    async def path_books(self, call: "Call") -> None:
        """Settles for a while after its last byte."""
        await answer(call.send, {"ok": True})
        await asyncio.sleep(0.3)
        print("books closed")

    async def path_v1_chat_completions(self, call: "Call") -> None:
        request = json.loads((await call.receive())["body"])
        words = ["Hello", " from", " Lambda"]
        common = {"id": "chatcmpl-1", "created": 1, "model": request["model"]}
        if not request.get("stream"):
            message = {"role": "assistant", "content": "".join(words)}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            await answer(call.send, {**common, "object": "chat.completion", "choices": [choice]})
            return
        await start(call.send, 200, SSE)
        for word in words:
            choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
            chunk = {**common, "object": "chat.completion.chunk", "choices": [choice]}
            await body(call.send, b"data: %b\n\n" % json.dumps(chunk).encode())
            await asyncio.sleep(0.15)
            if request["model"] == "breaks":
                raise RuntimeError("the upstream's secret words")
        await body(call.send, b"data: [DONE]\n\n", more=False)

    async def path_headers(self, call: "Call") -> None:
        headers = [
            (b"Content-Type", b"text/plain"),
            (b"x-part", b"one"),
            (b"set-cookie", b"a=1; Path=/"),
            (b"x-part", b"two"),
            (b"set-cookie", b"b=2"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"close"),
        ]
        await start(call.send, 201, headers)
        await body(call.send, b"made", more=False)

    async def path_status(self, call: "Call") -> None:
        await start(call.send, int(call.query["code"]), [(b"x-kept", b"yes")])
        await body(call.send, call.query.get("text", "").encode(), more=False)

    async def path_binary(self, call: "Call") -> None:
        message = await call.receive()
        await start(call.send, 200, [(b"content-type", b"application/octet-stream")])
        await body(call.send, message["body"][::-1], more=False)

    async def path_fail_before(self, call: "Call") -> None:
        raise RuntimeError("a secret prompt")

    async def path_fail_started(self, call: "Call") -> None:
        await start(call.send, 200, SSE)
        raise RuntimeError("a secret prompt")

    async def path_fail_mid(self, call: "Call") -> None:
        await start(call.send, 200, SSE)
        await body(call.send, b'data: {"half":')
        raise RuntimeError("a secret prompt")

    async def path_fail_mid_json(self, call: "Call") -> None:
        await start(call.send, 200, JSON)
        await body(call.send, b'{"half":')
        raise RuntimeError("a secret prompt")

    async def path_incomplete(self, call: "Call") -> None:
        await start(call.send, 200, JSON)

    async def path_silent(self, call: "Call") -> None:
        return

    async def path_huge_headers(self, call: "Call") -> None:
        await start(call.send, 200, [(b"x-huge", b"x" * 17_000)])
        await body(call.send, b"never", more=False)

    async def path_polite(self, call: "Call") -> None:
        """Meets its cancellation as the gateway does: last words in the stream, then its books."""
        await start(call.send, 200, SSE)
        await body(call.send, b"data: 1\n\n")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await body(call.send, b"event: error\ndata: late\n\n", more=False)
            await asyncio.sleep(0.05)
            print("settled after the deadline")

    async def path_rude(self, call: "Call") -> None:
        await start(call.send, 200, SSE)
        await body(call.send, b"data: 1\n\n")
        await asyncio.sleep(60)

    async def path_stuck(self, call: "Call") -> None:
        """Takes no notice of being cancelled, for a while."""
        await start(call.send, 200, SSE)
        await body(call.send, b"data: 1\n\n")
        end = asyncio.get_running_loop().time() + 3
        while (left := end - asyncio.get_running_loop().time()) > 0:
            try:
                await asyncio.sleep(left)
            except asyncio.CancelledError:
                print("cancelled, and going on")

    async def path_slow_start(self, call: "Call") -> None:
        await asyncio.sleep(60)

    async def path_drip(self, call: "Call") -> None:
        """Streams until the response is cut."""
        await start(call.send, 200, SSE)
        try:
            while True:
                await body(call.send, b"data: drip\n\n")
                await asyncio.sleep(0.01)
        except OSError as error:
            print(f"cut: {type(error).__name__}")

    async def path_watch(self, call: "Call") -> None:
        """Waits for the disconnect rather than for a failing send."""
        await call.receive()
        waiting = asyncio.ensure_future(call.receive())
        await start(call.send, 200, SSE)
        await body(call.send, b"data: 1\n\n")
        print((await asyncio.wait_for(waiting, 10))["type"])

    async def path_flood(self, call: "Call") -> None:
        await start(call.send, 200, [(b"content-type", b"application/octet-stream")])
        for _ in range(64):
            await body(call.send, bytes(256 * 1024))
        await body(call.send, b"", more=False)


class Call:
    def __init__(self, scope: Any, receive: Any, send: Any, query: dict[str, str]) -> None:
        self.scope = scope
        self.receive = receive
        self.send = send
        self.query = query


async def start(send: Any, status: int, headers: list[tuple[bytes, bytes]]) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})


async def body(send: Any, data: bytes, *, more: bool = True) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": more})


async def answer(send: Any, content: Any, status: int = 200) -> None:
    await start(send, status, JSON)
    await body(send, json.dumps(content).encode(), more=False)


def build() -> App:
    return App()


async def build_later() -> App:
    """A factory may be a coroutine function."""
    await asyncio.sleep(0)
    return App()


def build_without_hooks() -> Any:
    app = App()

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return bare


def broken() -> App:
    raise RuntimeError("REGISTRY_TABLE is not set")


class BadHook(App):
    async def before_snapshot(self) -> None:
        if os.environ.get("FAIL") == "before_snapshot":
            raise RuntimeError("cannot prepare")

    async def after_restore(self) -> None:
        if os.environ.get("FAIL") == "after_restore":
            raise RuntimeError("cannot reconnect")


def build_bad_hook() -> App:
    return BadHook()
