"""Edits of single members in a JSON object's own bytes.

A body that is parsed and written again loses what the parser did not keep: integers past 64 bits, the
spelling of floats, a repeated key, the order of members. So the gateway reads a parsed copy and edits the original.

Every function takes bytes that `orjson.loads` accepted: an object and, in `elements`, an array.
Grammar: https://www.rfc-editor.org/rfc/rfc8259
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

import orjson

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_TOKEN = re.compile(_STRING + rb"|[{}\[\],]", re.DOTALL)
_LEADING_COLON = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*")
_STRING_MEMBER = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*(" + _STRING + rb")", re.DOTALL)
_SPACE = b" \t\r\n"


class Member(NamedTuple):
    """One member at the top level: its name, where that begins, and where its value begins and ends."""

    name: str
    name_start: int
    start: int
    end: int


def members(body: bytes) -> Iterator[Member]:
    """The members at the top level, in order, repeated names included."""
    depth = 0
    name: str | None = None
    name_start = start = 0
    for token in _TOKEN.finditer(body):
        first = body[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
            if depth == 0 and name is not None:
                yield Member(name, name_start, start, _without_trailing_space(body, token.start()))
        elif depth == 1 and first == ord(",") and name is not None:
            yield Member(name, name_start, start, _without_trailing_space(body, token.start()))
            name = None
        elif depth == 1 and first == ord('"') and name is None:
            name, name_start = orjson.loads(token.group()), token.start()
            colon = _LEADING_COLON.match(body, token.end())
            start = colon.end() if colon else token.end()


def set_member(body: bytes, name: str, value: bytes) -> bytes:
    """The object with every top-level `name` set to `value`, or with one added at its end."""
    spans = [member for member in members(body) if member.name == name]
    if not spans:
        return add_member(body, name, value)
    for span in reversed(spans):
        body = body[: span.start] + value + body[span.end :]
    return body


def add_member(body: bytes, name: str, value: bytes) -> bytes:
    """The object with a member added at its end. The caller knows that there is none of that name."""
    close = body.rindex(b"}")
    inside = body[:close].rstrip(_SPACE)
    comma = b"" if inside.endswith(b"{") and inside.lstrip(_SPACE) == b"{" else b","
    return b"".join((inside, comma, orjson.dumps(name), b":", value, body[close:]))


def remove_member(body: bytes, name: str) -> bytes:
    """The object without any top-level `name`."""
    kept = [body[member.name_start : member.end] for member in members(body) if member.name != name]
    return b"{" + b",".join(kept) + b"}"


def rename_member(body: bytes, name: str, new: str) -> bytes:
    """The object with every top-level `name` called `new`, its value untouched."""
    for member in sorted(members(body), key=lambda member: member.start, reverse=True):
        if member.name == name:
            end_of_name = body.rindex(b":", member.name_start, member.start)
            body = body[: member.name_start] + orjson.dumps(new) + body[end_of_name:]
    return body


def set_string_member(body: bytes, name: str, value: str) -> bytes:
    """`set_member` for a string that is known to be there; needs no scan of the body where the name stands in it once.

    A name written with escapes could hide from the search, hence the way round where there are any.
    """
    quoted = orjson.dumps(name)
    if body.count(quoted) == 1 and b"\\u00" not in body:
        at = body.index(quoted)
        found = _STRING_MEMBER.match(body, at + len(quoted))
        if found and body[at - 1 : at] != b"\\":
            return body[: found.start(1)] + orjson.dumps(value) + body[found.end(1) :]
    return set_member(body, name, orjson.dumps(value))


def value_of(body: bytes, name: str) -> bytes | None:
    """The bytes of the last top-level member of that name: the one that parsers take."""
    last = None
    for member in members(body):
        if member.name == name:
            last = member
    return None if last is None else body[last.start : last.end]


def elements(array: bytes) -> Iterator[bytes]:
    """The elements of a JSON array, each as its bytes. What is no array has none."""
    if not array.startswith(b"["):
        return
    depth = 0
    start = 1
    for token in _TOKEN.finditer(array):
        first = array[token.start()]
        if first in b"{[":
            depth += 1
        elif first in b"}]":
            depth -= 1
        if (first == ord(",") and depth == 1) or depth == 0:
            if element := array[start : token.start()].strip():
                yield element
            start = token.end()


def _without_trailing_space(body: bytes, end: int) -> int:
    while body[end - 1] in _SPACE:
        end -= 1
    return end
