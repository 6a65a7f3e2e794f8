"""A provider that says back whatever it was sent, its key included, in every place an answer has.

The model's name says how: `ok`, `stream`, `cut` (a stream that breaks off), or a status (`401`, `500`), whose error repeats
the request's headers; `html-502` does so outside of JSON. `GET …/models` is refused in the same way, unless `lists`.
"""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ReflectingProvider:
    """`seen` has the credentials that it was sent: so that a test knows that there was something to leak."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.lists = False
        self.base_url = ""

    @contextmanager
    def serving(self) -> Iterator["ReflectingProvider"]:
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                provider.respond(self, "ok-list" if provider.lists else "401", b"")

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                provider.respond(self, str(json.loads(body)["model"]), body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        try:
            yield self
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)

    def respond(self, handler: BaseHTTPRequestHandler, wanted: str, body: bytes) -> None:
        credential = handler.headers.get("authorization", "")
        self.seen.append(credential)
        key = credential.removeprefix("Bearer ")
        said = f"Incorrect API key provided: {key}. You sent {dict(handler.headers)}"
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        if wanted == "ok-list":
            self._send(handler, 200, {"object": "list", "data": [{"id": "small", "object": "model"}]})
        elif wanted == "ok":
            choice = {"index": 0, "message": {"role": "assistant", "content": "fine"}, "finish_reason": "stop"}
            self._send(handler, 200, {"id": "c", "object": "chat.completion", "choices": [choice], "usage": usage}, key)
        elif wanted in ("stream", "cut", "stream-error"):
            self._stream(handler, wanted, said, usage)
        elif wanted.startswith("html-"):
            self._send(handler, int(wanted[5:]), f"<html><body>{said}</body></html>", key)
        else:
            error = {"message": said, "type": "invalid_request_error", "param": key, "code": f"bad_{key}"}
            self._send(handler, int(wanted), {"error": error}, key)

    def _send(self, handler: BaseHTTPRequestHandler, status: int, content: Any, key: str = "") -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        handler.send_response(status)
        handler.send_header("content-type", "text/html" if isinstance(content, str) else "application/json")
        handler.send_header("content-length", str(len(text.encode())))
        handler.send_header("x-request-id", f"upstream-{key}")
        handler.send_header("x-echo", key)
        handler.end_headers()
        handler.wfile.write(text.encode())

    def _stream(self, handler: BaseHTTPRequestHandler, wanted: str, said: str, usage: dict[str, int]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream")
        handler.end_headers()
        chunk = {"id": "c", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": "fine"}}]}
        events: list[Any] = [chunk]
        if wanted == "stream-error":
            events.append({"error": {"message": said, "type": "server_error", "code": "oops"}})
        if wanted == "stream":
            events += [
                {**chunk, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
                {**chunk, "choices": [], "usage": usage},
                "[DONE]",
            ]
        for event in events:
            data = event if isinstance(event, str) else json.dumps(event)
            handler.wfile.write(f"data: {data}\n\n".encode())
        handler.wfile.flush()
