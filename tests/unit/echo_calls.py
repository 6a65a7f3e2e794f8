"""Calls to the echo provider, as its tests share them. Every answer must parse as what the `openai` SDK expects."""

import itertools
from typing import Any

import orjson
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.upstream.echo import EchoClient, EchoResponse
from llm_gateway.upstream.framing import SseFramer

BASE = "echo://local/v1"
USER = {"role": "user", "content": "hello wide world"}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer", "minimum": 2},
                "note": {"type": "string"},
            },
            "required": ["city", "unit", "days"],
        },
    },
}
OTHER = {"type": "function", "function": {"name": "other", "parameters": {"type": "object", "properties": {}}}}
CUSTOM = {"type": "custom", "custom": {"name": "run_code"}}
CHOICE = {"type": "function", "function": {"name": "get_weather"}}
ASKING = [{"role": "user", "content": "Please call the tool."}]
NUMBERS = itertools.count()


def new_client() -> EchoClient:
    return EchoClient(clock=lambda: 1_700_000_000.9, new_id=lambda: f"id{next(NUMBERS)}")


async def call(path: str, body: Any, method: str = "POST", **options: Any) -> EchoResponse:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return await new_client().send(HttpRequest(method, f"{BASE}{path}", {}, data, **options))


async def chat(**fields: Any) -> ChatCompletion:
    response = await call("/chat/completions", {"model": "echo", "messages": [USER]} | fields)
    body = orjson.loads(await response.read(1 << 20))
    assert response.status == 200, body
    assert response.headers["content-type"] == "application/json"
    return ChatCompletion.model_validate(body, strict=True)


async def stream(*, check: bool = True, **fields: Any) -> list[dict[str, Any]]:
    """The chunks, each checked by the SDK's model; the stream must end with `[DONE]`."""
    response = await call("/chat/completions", {"model": "echo", "messages": [USER], "stream": True} | fields)
    assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
    framer = SseFramer()
    data = [event.data async for piece in response.chunks() for event in framer.feed(piece)]
    assert data[-1] == b"[DONE]"
    chunks: list[dict[str, Any]] = [orjson.loads(each) for each in data[:-1]]
    for chunk in chunks if check else ():
        ChatCompletionChunk.model_validate(chunk, strict=True)
    assert len({(chunk["id"], chunk["created"], chunk["model"]) for chunk in chunks}) == 1
    return chunks


def assemble(chunks: list[dict[str, Any]]) -> dict[int, dict[str, Any]]:
    """By choice: what a client puts together."""
    found: dict[int, dict[str, Any]] = {}
    for choice in [choice for chunk in chunks for choice in chunk["choices"]]:
        held = found.setdefault(choice["index"], {"content": "", "calls": {}, "finish_reason": None})
        held["content"] += choice["delta"].get("content") or ""
        held["finish_reason"] = choice["finish_reason"] or held["finish_reason"]
        for part in choice["delta"].get("tool_calls") or ():
            one = held["calls"].setdefault(part["index"], {"arguments": ""})
            one |= {key: part[key] for key in ("id", "type") if key in part}
            inner = part.get("function") or part.get("custom")
            one["arguments"] += inner.get("arguments", inner.get("input", ""))
            one["name"] = inner.get("name", one.get("name"))
    return found


async def refusal(body: Any, path: str = "/chat/completions") -> dict[str, Any]:
    response = await call(path, body)
    assert response.status == 400
    error = orjson.loads(await response.read(1 << 16))["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return dict(error)
