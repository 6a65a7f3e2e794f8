"""What a caller got, as an OpenAI client reads it: status, text, whether it was whole, and what was wrong with its form."""

import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import orjson

from tests.faults.case import Mode

PROMPT = [{"role": "user", "content": "Tell me of the flood, please."}]


@dataclass
class Got:
    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""
    models: set[str] = field(default_factory=set)
    ids: set[str] = field(default_factory=set)
    finish_reason: str | None = None
    usage: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    """The envelope's inside, from a status or from the stream."""
    done: bool = False
    """A buffered body that is whole, a stream that ended with `[DONE]`."""
    roles: int = 0
    first_s: float | None = None
    """Until the first bytes of the answer."""
    seconds: float = 0.0
    broken: list[str] = field(default_factory=list)
    """What no OpenAI client could read."""

    @property
    def request_id(self) -> str:
        return self.headers.get("x-request-id", "")


async def ask(client: httpx.AsyncClient, model: str, mode: Mode, headers: dict[str, str]) -> Got:
    body: dict[str, Any] = {"model": model, "messages": PROMPT, "max_tokens": 100}
    if mode == "stream":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    got, began = Got(), time.monotonic()
    try:
        async with client.stream("POST", "/chat/completions", json=body, headers=headers) as response:
            got.status, got.headers = response.status_code, dict(response.headers)
            data = b""
            async for piece in response.aiter_bytes():
                got.first_s = got.first_s or time.monotonic() - began
                data += piece
        _read(got, data, streamed=response.headers.get("content-type", "").startswith("text/event-stream"))
    except httpx.HTTPError as error:
        got.broken.append(f"{type(error).__name__}: {error}")
    got.seconds = time.monotonic() - began
    return got


def _read(got: Got, data: bytes, *, streamed: bool) -> None:
    if streamed:
        for event in data.decode().split("\n\n"):
            _read_event(got, event)
        return
    try:
        body = orjson.loads(data)
    except orjson.JSONDecodeError:
        got.broken.append(f"no JSON: {data[:80]!r}")
        return
    if got.status != 200:
        got.error = body.get("error")
        if got.error is None or not {"message", "type", "param", "code"} <= got.error.keys():
            got.broken.append(f"no envelope: {data[:80]!r}")
        return
    choice = body["choices"][0]
    got.text, got.finish_reason, got.done = choice["message"]["content"] or "", choice["finish_reason"], True
    got.usage, got.models, got.ids = body.get("usage"), {body["model"]}, {body["id"]}


def _read_event(got: Got, event: str) -> None:
    lines = [line for line in event.split("\n") if line and not line.startswith(":")]
    if not lines:
        return
    data = "".join(line.removeprefix("data:").strip() for line in lines if line.startswith("data:"))
    if data == "[DONE]":
        if got.done:
            got.broken.append("two ends")
        got.done = True
        return
    if got.done or got.error is not None:
        got.broken.append(f"after the end: {data[:60]}")
    try:
        chunk = orjson.loads(data)
    except orjson.JSONDecodeError:
        got.broken.append(f"an event that is no JSON: {data[:60]}")
        return
    if "error" in chunk:
        got.error = chunk["error"]
        return
    _read_chunk(got, chunk)


def _read_chunk(got: Got, chunk: dict[str, Any]) -> None:
    got.models.add(chunk["model"])
    got.ids.add(chunk["id"])
    if chunk.get("usage") is not None:
        if got.usage is not None:
            got.broken.append("two usage chunks")
        got.usage = chunk["usage"]
    for choice in chunk["choices"]:
        if got.finish_reason is not None:
            got.broken.append("a choice after its finish reason")
        delta = choice["delta"]
        got.roles += bool(delta.get("role"))
        got.text += delta.get("content") or ""
        got.finish_reason = choice.get("finish_reason") or got.finish_reason
