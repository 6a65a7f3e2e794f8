"""A Converse answer as a chat completion.

Reasoning comes as `reasoning_content`, its opaque state as `reasoning_details`; a guardrail's trace as `trace`, the
model's own fields as `additionalModelResponseFields`. Converse names neither an id, a time nor a model; a prompt router
tells which model it chose.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html#API_runtime_Converse_ResponseSyntax
"""

from collections.abc import Mapping
from typing import Any

import orjson

from llm_gateway.dialects.bedrock_messages import REASONING_FORMAT
from llm_gateway.dialects.bedrock_usage import openai_usage, read_converse_usage
from llm_gateway.dialects.dialect import DecodedAnswer
from llm_gateway.dialects.thinking_places import Before, placed
from llm_gateway.errors import UpstreamFailed, UpstreamMalformed
from llm_gateway.schemas.json_splice import elements, value_of

_FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_calls",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "guardrail_intervened": "content_filter",
    "content_filtered": "content_filter",
}


def finish_reason_of(stop_reason: Any) -> str:
    """OpenAI's word; `stop` for one that is not known. Raises `UpstreamFailed` for output that is malformed."""
    if isinstance(stop_reason, str) and stop_reason.startswith("malformed_"):
        raise UpstreamFailed(f"The model's answer was unusable ({stop_reason}).", code=stop_reason)
    return _FINISH_REASONS.get(stop_reason, "stop")


def extra_fields(answer: Mapping[str, Any]) -> dict[str, Any]:
    """What an answer, or a stream's last events, tells beyond OpenAI's wire."""
    extra = {name: answer[name] for name in ("trace", "additionalModelResponseFields") if answer.get(name)}
    tier = answer.get("serviceTier")
    if isinstance(tier, dict) and tier.get("type"):
        extra["service_tier"] = tier["type"]
    return extra


def routed_model(answer: Mapping[str, Any]) -> str | None:
    """The model that a prompt router invoked."""
    trace = answer.get("trace")
    router = trace.get("promptRouter") if isinstance(trace, dict) else None
    invoked = router.get("invokedModelId") if isinstance(router, dict) else None
    return invoked if isinstance(invoked, str) else None


def decode_converse(body: bytes, model: str, answer_id: str, created: int) -> DecodedAnswer:
    """Raises `UpstreamMalformed` for what is no answer, `UpstreamFailed` for one whose content is malformed."""
    answer = parse_answer(body)
    output = answer.get("output")
    message = output.get("message") if isinstance(output, dict) else None
    content = message.get("content") if isinstance(message, dict) else None
    if not isinstance(content, list) or not all(isinstance(block, dict) for block in content):
        raise UpstreamMalformed("The provider's answer holds no message.")
    finish_reason = finish_reason_of(answer.get("stopReason"))
    usage = read_converse_usage(answer.get("usage"), answer.get("serviceTier"))
    spoken = _message(content, body)
    invoked = routed_model(answer)
    completion = {
        "id": answer_id,
        "object": "chat.completion",
        "created": created,
        "model": invoked or model,
        "choices": [{"index": 0, "message": spoken, "logprobs": None, "finish_reason": finish_reason}],
        **({"usage": openai_usage(usage)} if usage else {}),
        **extra_fields(answer),
    }
    return DecodedAnswer(orjson.dumps(completion), invoked, finish_reason, usage, lambda: _written(spoken))


def parse_answer(body: bytes) -> dict[str, Any]:
    """Raises `UpstreamMalformed`."""
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider's answer is not JSON.") from None
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider's answer is not a JSON object.")
    return answer


def reasoning_text(index: int, before: Before, **told: str) -> dict[str, Any]:
    """An entry of `reasoning_details`; in a stream the first delta of one, with the text or the signature."""
    return placed({"type": "reasoning.text", **told, "format": REASONING_FORMAT, "index": index}, before)


def reasoning_encrypted(index: int, before: Before, data: str) -> dict[str, Any]:
    """An entry of `reasoning_details`; `data` is base64."""
    return placed({"type": "reasoning.encrypted", "data": data, "format": REASONING_FORMAT, "index": index}, before)


def is_own_tool(use: Mapping[str, Any]) -> bool:
    """Whether the provider runs the tool itself: there is nothing for the caller to answer."""
    return use.get("type") == "server_tool_use"


def _message(content: list[dict[str, Any]], body: bytes) -> dict[str, Any]:
    texts: list[str] = []
    details: list[dict[str, Any]] = []
    calls: list[dict[str, Any]] = []
    server_tool = False
    for at, block in enumerate(content):
        if isinstance(block.get("text"), str):
            texts.append(block["text"])
        elif isinstance(block.get("reasoningContent"), dict):
            before = Before(sum(map(len, texts)), len(calls), server_tool)
            details += _reasoning(block["reasoningContent"], len(details), before)
        elif isinstance(block.get("toolUse"), dict) and not is_own_tool(block["toolUse"]):
            calls.append(_tool_call(block["toolUse"], body, at))
        elif isinstance(block.get("citationsContent"), dict):
            texts += _cited_text(block["citationsContent"])
        else:
            server_tool = True
    message: dict[str, Any] = {"role": "assistant", "content": "".join(texts) if texts else None, "refusal": None}
    if reasoning := "".join(detail.get("text", "") for detail in details):
        message["reasoning_content"] = reasoning
    if details:
        message["reasoning_details"] = details
    if calls:
        message["tool_calls"] = calls
    return message


def _reasoning(block: dict[str, Any], index: int, before: Before) -> list[dict[str, Any]]:
    said = block.get("reasoningText")
    if isinstance(said, dict) and isinstance(said.get("text"), str):
        signature = said.get("signature")
        signed = {"signature": signature} if isinstance(signature, str) else {}
        return [reasoning_text(index, before, text=said["text"], **signed)]
    redacted = block.get("redactedContent")
    return [reasoning_encrypted(index, before, redacted)] if isinstance(redacted, str) else []


def _tool_call(use: dict[str, Any], body: bytes, at: int) -> dict[str, Any]:
    arguments = _input_bytes(body, at).decode() if use.get("input") else "{}"
    function = {"name": use.get("name"), "arguments": arguments}
    return {"id": use.get("toolUseId"), "type": "function", "function": function}


def _input_bytes(body: bytes, at: int) -> bytes:
    """The bytes of a tool call's input as they came: integers past 64 bits would not survive being parsed."""
    for name in ("output", "message", "content"):
        body = value_of(body, name) or b""
    block = next(item for place, item in enumerate(elements(body)) if place == at)
    return value_of(value_of(block, "toolUse") or b"{}", "input") or b"{}"


def _cited_text(block: dict[str, Any]) -> list[str]:
    pieces = block.get("content")
    return [
        piece["text"]
        for piece in (pieces if isinstance(pieces, list) else ())
        if isinstance(piece, dict) and isinstance(piece.get("text"), str)
    ]


def _written(message: Mapping[str, Any]) -> str:
    texts = [message.get("reasoning_content"), message.get("content")]
    for call in message.get("tool_calls") or ():
        texts += [call["function"]["name"], call["function"]["arguments"]]
    return "".join(text for text in texts if isinstance(text, str))
