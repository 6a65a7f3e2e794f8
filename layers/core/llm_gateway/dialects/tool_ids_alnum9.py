"""Ids of tool calls in the one form that a vendor takes: a history may bring those of any provider.

An id of another form becomes its digest, which is the same in call and result and on every turn, so that nothing has to
be remembered and prompt caches hold. One that fits stays as it is.
Source of `alnum9`: https://github.com/langchain-ai/langchain/pull/24668 and
https://github.com/anomalyco/opencode/issues/1680 (Mistral: "must be a-z, A-Z, 0-9, with a length of 9")
"""

import re
from base64 import b32encode
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, TypeGuard

from llm_gateway.schemas.json_splice import elements, set_member, set_string_member, value_of

_NINE = re.compile(r"[A-Za-z0-9]{9}")


def alnum9(call_id: str) -> str:
    """Nine of the 32 letters and digits of base32: 45 bits, far apart for the calls of a conversation."""
    return b32encode(sha256(call_id.encode("utf-8", "surrogatepass")).digest())[:9].decode()


def is_foreign(call_id: Any) -> TypeGuard[str]:
    """Whether it has to be told otherwise. What is no id at all is the vendor's to judge."""
    return isinstance(call_id, str) and call_id != "" and _NINE.fullmatch(call_id) is None


def has_foreign_ids(message: Mapping[str, Any]) -> bool:
    return is_foreign(message.get("tool_call_id")) or any(is_foreign(_id_of(call)) for call in _calls(message))


def with_own_ids(piece: bytes, message: Mapping[str, Any]) -> bytes:
    """`piece`, the bytes of `message`, with every foreign id told otherwise and all else as it was."""
    if is_foreign(answered := message.get("tool_call_id")):
        piece = set_string_member(piece, "tool_call_id", alnum9(answered))
    calls = _calls(message)
    if not any(is_foreign(_id_of(call)) for call in calls):
        return piece
    told = [
        set_string_member(each, "id", alnum9(call_id)) if is_foreign(call_id := _id_of(call)) else each
        for each, call in zip(elements(value_of(piece, "tool_calls") or b""), calls, strict=True)
    ]
    return set_member(piece, "tool_calls", b"[" + b",".join(told) + b"]")


def _calls(message: Mapping[str, Any]) -> list[Any]:
    calls = message.get("tool_calls")
    return calls if isinstance(calls, list) else []


def _id_of(call: Any) -> Any:
    return call.get("id") if isinstance(call, dict) else None
