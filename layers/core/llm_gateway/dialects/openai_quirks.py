"""What a compatible vendor calls by another name, or does not have: its row's quirks, applied to a request's bytes.

The rule, for a member that a vendor's documentation does not have: another name there is a rename; what the answer is
as good without is left out with a warning; what the answer would be another without is refused. A member that asks
for what happens anyway (`n: 1`) is left out without a word.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gateway.dialects.tool_ids_alnum9 import has_foreign_ids, with_own_ids
from llm_gateway.dialects.unsent import asks
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.json_splice import (
    elements,
    remove_member,
    rename_member,
    set_member,
    set_string_member,
    value_of,
)


def adapt(body: bytes, fields: Mapping[str, Any], provider: Provider) -> tuple[bytes, tuple[str, ...]]:
    """The body as the vendor takes it, and the warnings. Raises `InvalidRequest` for what cannot be left out."""
    quirks = provider.quirks
    for name in quirks.refuse:
        if asks(fields, name):
            raise InvalidRequest(
                f"`{name}` is not supported by provider `{provider.name}`.", param=name, code="unsupported_parameter"
            )
    doubled: list[str] = []
    left_out = [name for name in quirks.drop if asks(fields, name)]
    for name in (*quirks.drop, *quirks.refuse):
        if name in fields:
            body = remove_member(body, name)
    for name, new in quirks.rename.items():
        if name in fields:
            body, said = _rename(body, fields, name, new)
            doubled += said
    if not quirks.developer_role or quirks.drop_from_messages or quirks.tool_call_ids:
        body, members = _adapt_messages(body, fields.get("messages") or (), quirks)
        left_out += [f"{name} of messages" for name in members]
    told = [f"{name} is not supported by {provider.name} and was left out" for name in left_out]
    return body, (*told, *doubled)


def _rename(body: bytes, fields: Mapping[str, Any], name: str, new: str) -> tuple[bytes, list[str]]:
    """OpenAI's name, where both are there: the one that every client means alike; a null says nothing."""
    own = fields.get(new)
    if fields[name] is None and own is not None:
        return remove_member(body, name), []
    if new in fields:
        body = remove_member(body, new)
    told = [] if own in (None, fields[name]) else [f"{new} was left out: {name} says otherwise"]
    return rename_member(body, name, new), told


def _adapt_messages(body: bytes, messages: Sequence[Mapping[str, Any]], quirks: Quirks) -> tuple[bytes, list[str]]:
    """Only messages that must change are touched; the members with a value that were left out of any."""
    dropped = [_dropped(message, quirks) for message in messages]
    unknown_role = not quirks.developer_role and any(message["role"] == "developer" for message in messages)
    foreign = {at for at, each in enumerate(messages) if has_foreign_ids(each)} if quirks.tool_call_ids else set()
    array = value_of(body, "messages") if unknown_role or foreign or any(dropped) else None
    if array is None:
        return body, []
    pieces = list(elements(array))
    for at, message in enumerate(messages):
        if unknown_role and message["role"] == "developer":
            pieces[at] = set_string_member(pieces[at], "role", "system")
        for name in dropped[at]:
            pieces[at] = remove_member(pieces[at], name)
        if at in foreign:
            pieces[at] = with_own_ids(pieces[at], message)
    lost = {
        name for names, message in zip(dropped, messages, strict=True) for name in names if message[name] is not None
    }
    told = [name for name in dict.fromkeys(map(_member, quirks.drop_from_messages)) if name in lost]
    return set_member(body, "messages", b"[" + b",".join(pieces) + b"]"), told


def _dropped(message: Mapping[str, Any], quirks: Quirks) -> list[str]:
    """What goes out of one message: what the row names, and what a client's model left null (`refusal`, `audio`)."""
    named = quirks.drop_from_messages
    if not named:
        return []
    role = message["role"]
    if role == "developer" and not quirks.developer_role:
        role = "system"
    return [
        name
        for name, value in message.items()
        if name in named or f"{role}.{name}" in named or (value is None and name != "content")
    ]


def _member(named: str) -> str:
    """`user.name` is the member `name`, in messages of users."""
    return named.rpartition(".")[2]
