"""Drives an ASGI app as the Lambda runtime does: no HTTP server in front, nobody who could hang up."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from tests.bench.wire import KEY

Message = MutableMapping[str, Any]
App = Callable[
    [dict[str, Any], Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]
]

_HEADERS = [
    (b"accept", b"application/json"),
    (b"accept-encoding", b"gzip, deflate"),
    (b"authorization", f"Bearer {KEY}".encode()),
    (b"content-type", b"application/json"),
    (b"host", b"abcdefghij.execute-api.us-east-1.amazonaws.com"),
    (b"user-agent", b"OpenAI/Python 3.0"),
    (b"x-forwarded-for", b"192.0.2.1"),
    (b"x-forwarded-proto", b"https"),
    (b"x-amzn-trace-id", b"Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700"),
]


def scope(body: bytes) -> dict[str, Any]:
    """As `llm_gateway.runtime` makes it: ASGI 2.4, so that frameworks start no listener for a disconnect."""
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "https",
        "path": "/v1/chat/completions",
        "raw_path": b"/v1/chat/completions",
        "root_path": "",
        "query_string": b"",
        "headers": [*_HEADERS, (b"content-length", str(len(body)).encode())],
        "client": ("192.0.2.1", 0),
        "server": ("abcdefghij.execute-api.us-east-1.amazonaws.com", 443),
        "extensions": {"llm_gateway.no_disconnect": {}, "llm_gateway.deadline": {"unix_ms": 4_000_000_000_000}},
    }


class Exchange:
    """One request. `run` raises `RuntimeError` unless the answer is a 200 of at least `least` bytes."""

    __slots__ = ("_body", "_least", "first_byte_at", "size", "status")

    def __init__(self, body: bytes, least: int) -> None:
        self._body: bytes | None = body
        self._least = least
        self.status = 0
        self.size = 0
        self.first_byte_at = 0.0
        """A `time.perf_counter` reading."""

    async def run(self, app: App) -> None:
        if self._body is None:
            raise RuntimeError("an exchange runs once")
        await app(scope(self._body), self._receive, self._send)
        if self.status != 200 or self.size < self._least:
            raise RuntimeError(f"status {self.status}, {self.size} bytes, expected 200 and {self._least}")

    async def _receive(self) -> Message:
        if self._body is None:
            raise RuntimeError("the app waits for a caller who never leaves")
        body, self._body = self._body, None
        return {"type": "http.request", "body": body, "more_body": False}

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            if not self.size:
                self.first_byte_at = time.perf_counter()
            self.size += len(message.get("body", b""))


async def cpu_s(app: App, body: bytes, least: int, *, parallel: int, times: int) -> float:
    """CPU seconds that this process, with all its threads, spends on `parallel` requests at a time, `times` over."""
    begun = time.process_time()
    for _ in range(times):
        if parallel == 1:
            await Exchange(body, least).run(app)
        else:
            await asyncio.gather(*[Exchange(body, least).run(app) for _ in range(parallel)])
    return time.process_time() - begun


async def first_byte_s(app: App, body: bytes, least: int, times: int) -> list[float]:
    """Seconds from the call of the app to its first byte of body, for each of `times` requests."""
    waits = []
    for _ in range(times):
        exchange = Exchange(body, least)
        begun = time.perf_counter()
        await exchange.run(app)
        waits.append(exchange.first_byte_at - begun)
    return waits
