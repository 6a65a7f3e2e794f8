"""`POST /api/chat`, the gateway's own shape: a message in, a reply out.

    {"message": "Hi", "system": "Be brief.", "model": "fast", "session_id": "ann-7"}
    {"reply": "Hello!", "model": "gpt-4.1-mini", "finish_reason": "stop", "usage": {…}, "session_id": "ann-7"}

`usage` is that of Chat Completions: https://platform.openai.com/docs/api-reference/chat/object
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from llm_gateway.errors import InvalidRequest, UpstreamMalformed
from llm_gateway.schemas.json_text import parse_json
from llm_gateway.schemas.openai_chat import check_model_name, read_object

LONGEST_SESSION_ID: Final = 128
_KNOWN: Final = ("message", "system", "model", "session_id")


@dataclass(frozen=True, slots=True)
class SimpleChat:
    """What a caller asks. `session_id` is the caller's own name for a conversation; an empty `system` is none."""

    message: str
    system: str | None = None
    model: str | None = None
    session_id: str | None = None


@dataclass(frozen=True, slots=True)
class Reply:
    """What came of it; `usage` as the answer has it, None where it has none."""

    text: str
    model: str | None
    finish_reason: str | None
    usage: Mapping[str, Any] | None


def read_simple_chat(body: bytes) -> SimpleChat:
    """Nulls are as good as absent. Raises `InvalidRequest` with the `param` at fault."""
    fields = {name: value for name, value in read_object(body).items() if value is not None}
    for name in fields:
        if name not in _KNOWN:
            raise InvalidRequest(
                f"`{name}` is not known here: /api/chat takes {', '.join(f'`{known}`' for known in _KNOWN)}."
                " /v1/chat/completions takes every parameter.",
                param=name if len(name) <= LONGEST_SESSION_ID else None,
            )
    texts = {name: _text(fields, name) for name in _KNOWN}
    message, model, session_id = texts["message"], texts["model"], texts["session_id"]
    if not message or not message.strip():
        raise InvalidRequest("`message` must be a non-empty string.", param="message")
    if model is not None:
        check_model_name(model)
    if session_id is not None:
        _check_session_id(session_id)
    return SimpleChat(message, texts["system"], model, session_id)


def chat_body(model: str | None, system: str | None, turns: Sequence[tuple[str, str]], message: str) -> bytes:
    """The request for Chat Completions: what was said before, and what is said now."""
    messages = [{"role": "system", "content": system}] if system else []
    for said, answered in turns:
        messages += [{"role": "user", "content": said}, {"role": "assistant", "content": answered}]
    messages.append({"role": "user", "content": message})
    named = {} if model is None else {"model": model}
    return orjson.dumps({**named, "messages": messages})


def read_reply(body: bytes) -> Reply:
    """The reply in a chat completion; what the model refused in words of its own counts as one.

    Raises `UpstreamMalformed` where there is no message.
    """
    try:
        answer = parse_json(body)
        choice = answer["choices"][0]
        message = choice["message"]
        text = str(message.get("content") or message.get("refusal") or "")
        return Reply(text, answer.get("model"), choice.get("finish_reason"), answer.get("usage"))
    except (orjson.JSONDecodeError, AttributeError, LookupError, TypeError):
        raise UpstreamMalformed("The provider's answer has no message.") from None


def reply_body(reply: Reply, session_id: str | None, warning: str | None) -> bytes:
    told: dict[str, Any] = {
        "reply": reply.text,
        "model": reply.model,
        "finish_reason": reply.finish_reason,
        "usage": reply.usage,
    }
    if session_id is not None:
        told["session_id"] = session_id
    if warning is not None:
        told["warning"] = warning
    return orjson.dumps(told)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f"`{name}` must be a string.", param=name)
    return value


def _check_session_id(session_id: str) -> None:
    if not (0 < len(session_id) <= LONGEST_SESSION_ID and session_id.isprintable() and session_id.strip()):
        raise InvalidRequest(
            f"`session_id` must be 1 to {LONGEST_SESSION_ID} printable characters of your choosing.",
            param="session_id",
        )
