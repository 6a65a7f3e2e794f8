"""What a compatible vendor calls by another name, or does not have: its row's quirks, applied to a request's bytes.

The rule, for a member that a vendor's documentation does not have: another name there is a rename; what the answer is
as good without is left out with a warning; what the answer would be another without is refused. A member that asks
for what happens anyway (`n: 1`) is left out without a word.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gateway.dialects.json_splice import (
    elements,
    remove_member,
    rename_member,
    set_member,
    set_string_member,
    value_of,
)
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest

_UNASKED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "store": (False,),
    "parallel_tool_calls": (True,),
    "tool_choice": ("auto",),
    "service_tier": ("auto", "default"),
    "modalities": ([], ["text"]),
}
"""Values that say what happens unsaid. Source: https://platform.openai.com/docs/api-reference/chat/create"""


def adapt(body: bytes, fields: Mapping[str, Any], provider: Provider) -> tuple[bytes, tuple[str, ...]]:
    """The body as the vendor takes it, and the warnings. Raises `InvalidRequest` for what cannot be left out."""
    quirks = provider.quirks
    for name in quirks.refuse:
        if _asks(fields, name):
            raise InvalidRequest(
                f"`{name}` is not supported by provider `{provider.name}`.", param=name, code="unsupported_parameter"
            )
    left_out = [name for name in quirks.drop if _asks(fields, name)]
    for name in (*quirks.drop, *quirks.refuse):
        if name in fields:
            body = remove_member(body, name)
    for name, new in quirks.rename.items():
        if name in fields:
            body = _rename(body, fields, name, new)
    if not quirks.developer_role or quirks.drop_from_messages:
        body, members = _adapt_messages(body, fields.get("messages") or (), quirks)
        left_out += [f"{name} of messages" for name in members]
    return body, tuple(f"{name} is not supported by {provider.name} and was left out" for name in left_out)


def _rename(body: bytes, fields: Mapping[str, Any], name: str, new: str) -> bytes:
    """A member that is there under both names stays as it is, unless one of them is the null of a client's model."""
    if fields.get(new) is not None:
        return remove_member(body, name)
    return rename_member(remove_member(body, new) if new in fields else body, name, new)


def _asks(fields: Mapping[str, Any], name: str) -> bool:
    value = fields.get(name)
    return value is not None and value not in _UNASKED.get(name, ())


def _adapt_messages(body: bytes, messages: Sequence[Mapping[str, Any]], quirks: Quirks) -> tuple[bytes, list[str]]:
    """Only messages that must change are touched; the members that were left out of any."""
    unknown_role = not quirks.developer_role and any(message["role"] == "developer" for message in messages)
    present = [name for name in quirks.drop_from_messages if any(name in message for message in messages)]
    array = value_of(body, "messages") if unknown_role or present else None
    if array is None:
        return body, []
    pieces = list(elements(array))
    for at, message in enumerate(messages):
        if unknown_role and message["role"] == "developer":
            pieces[at] = set_string_member(pieces[at], "role", "system")
        for name in present:
            if name in message:
                pieces[at] = remove_member(pieces[at], name)
    told = [name for name in present if any(message.get(name) is not None for message in messages)]
    return set_member(body, "messages", b"[" + b",".join(pieces) + b"]"), told
