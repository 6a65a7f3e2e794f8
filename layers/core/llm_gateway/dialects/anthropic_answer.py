"""A Claude message as a chat completion.

Text blocks are joined to `content`, thinking becomes `reasoning_content`, and `reasoning_details` keeps what the next
turn has to give back byte for byte. `native_finish_reason` is the wire's own word, as OpenRouter has it. Blocks that
Chat Completions has no place for (server tools and their results) are left out.
Sources: https://platform.claude.com/docs/en/api/messages/create (response),
https://platform.claude.com/docs/en/build-with-claude/handling-stop-reasons,
https://openrouter.ai/docs/use-cases/reasoning-tokens (`reasoning_details`)
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.anthropic_errors import error_event
from llm_gateway.dialects.anthropic_usage import openai_usage, read_usage, service_tier
from llm_gateway.dialects.dialect import DecodedAnswer
from llm_gateway.dialects.openai_chat_stream import written_in
from llm_gateway.dialects.thinking_places import Before, placed
from llm_gateway.errors import UpstreamMalformed
from llm_gateway.schemas.json_splice import elements, value_of

FORMAT = "anthropic-claude-v1"
"""What marks `reasoning_details` as Claude's."""

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "pause_turn": "length",  # the turn is not over: a server tool's loop was cut, and "stop" would hide it
    "compaction": "length",  # the context was summed up, and nothing answered yet
    "refusal": "content_filter",
}


def answer_id(message: Mapping[str, Any], created: int) -> str:
    """The provider's own id of its answer."""
    return _string(message, "id") or f"chatcmpl-{created}"


def finish_reason(stop_reason: str) -> str:
    """OpenAI's word for a `stop_reason`; for one that is not known, `stop`."""
    return _FINISH_REASONS.get(stop_reason, "stop")


def refusal_text(details: Any) -> str | None:
    """The explanation in `stop_details` of a refusal, if it gives one."""
    explanation = details.get("explanation") if isinstance(details, dict) else None
    return explanation if isinstance(explanation, str) and explanation else None


def decode_answer(body: bytes, created: int) -> DecodedAnswer:
    """`created` is in Unix seconds. Raises `UpstreamMalformed`, and the provider's error for one sent with 200."""
    answer = _object(body)
    if answer.get("type") == "error":
        raise error_event(answer.get("error"))
    blocks = answer.get("content")
    if not isinstance(blocks, list) or not all(isinstance(block, dict) for block in blocks):
        raise UpstreamMalformed("The provider's answer holds no content.")
    message = _message(blocks, body)
    stop = answer.get("stop_reason")
    if stop == "refusal":
        message["refusal"] = refusal_text(answer.get("stop_details"))
    reason = finish_reason(stop) if isinstance(stop, str) else "stop"
    usage = read_usage(answer.get("usage"))
    model = answer.get("model")
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": reason,
        "native_finish_reason": stop if isinstance(stop, str) else None,
    }
    completion: dict[str, Any] = {
        "id": answer_id(answer, created),
        "object": "chat.completion",
        "created": created,
        "model": model if isinstance(model, str) else None,
        "choices": [choice],
    }
    if usage is not None:
        completion["usage"] = openai_usage(usage)
    if tier := service_tier(answer.get("usage")):
        completion["service_tier"] = tier
    return DecodedAnswer(
        orjson.dumps(completion),
        model if isinstance(model, str) else None,
        reason,
        usage,
        lambda: "".join(written_in(message)),
    )


def _message(blocks: list[dict[str, Any]], body: bytes) -> dict[str, Any]:
    texts: list[str] = []
    thoughts: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    inputs: list[bytes] | None = None
    server_tool = False
    for at, block in enumerate(blocks):
        kind = block.get("type")
        if kind == "text":
            texts.append(_string(block, "text"))
        elif kind == "thinking":
            thoughts.append(_string(block, "thinking"))
            before = Before(sum(map(len, texts)), len(calls), server_tool)
            details.append(thinking_detail(len(details), before, block))
        elif kind == "redacted_thinking":
            before = Before(sum(map(len, texts)), len(calls), server_tool)
            details.append(redacted_detail(len(details), before, block))
        elif kind == "tool_use":
            inputs = _inputs(body) if inputs is None else inputs
            calls.append(tool_call(block, inputs[at].decode()))
        else:
            server_tool = True
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) or None, "refusal": None}
    if any(thoughts):
        message["reasoning_content"] = "".join(thoughts)
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message


def thinking_detail(index: int, before: Before, block: Mapping[str, Any]) -> dict[str, Any]:
    """A thinking block as a member of `reasoning_details`."""
    detail = {"type": "reasoning.text", "text": _string(block, "thinking"), "format": FORMAT, "index": index}
    if signature := _string(block, "signature"):
        detail["signature"] = signature
    return placed(detail, before)


def redacted_detail(index: int, before: Before, block: Mapping[str, Any]) -> dict[str, Any]:
    detail = {"type": "reasoning.encrypted", "data": _string(block, "data"), "format": FORMAT, "index": index}
    return placed(detail, before)


def tool_call(block: Mapping[str, Any], arguments: str) -> dict[str, Any]:
    return {
        "id": _string(block, "id"),
        "type": "function",
        "function": {"name": _string(block, "name"), "arguments": arguments},
    }


def _inputs(body: bytes) -> list[bytes]:
    """Every block's `input` as the bytes it came in: a parser would not keep integers past 64 bits."""
    return [input_bytes(block) for block in elements(value_of(body, "content") or b"[]")]


def input_bytes(block: bytes) -> bytes:
    """The `input` of a block, which is a JSON object, as it came; `{}` where there is none."""
    given = value_of(block, "input")
    return b"{}" if given is None or given == b"null" else given


def _string(block: Mapping[str, Any], name: str) -> str:
    value = block.get(name)
    return value if isinstance(value, str) else ""


def _object(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider's answer is not JSON.") from None
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider's answer is not a JSON object.")
    return answer
