"""The bytes of function-call arguments in a Gemini answer.

A parser turns integers past 64 bits into floats, and writes numbers in a spelling of its own. What a model passes to a
tool goes to the caller as it stands in the answer, less the white space between tokens.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from llm_gateway.schemas.json_splice import elements, value_of

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_UNSPACED = re.compile(_STRING + rb'|[^" \t\r\n]+', re.DOTALL)
_ARGS = b'"args"'

Arguments = dict[int, dict[int, str]]
"""By the position of the candidate, then of the part: JSON text."""


def function_arguments(answer: Mapping[str, Any], body: bytes) -> Arguments:
    """The arguments of every function call in a `GenerateContentResponse`, as JSON text; `{}` where there are none.

    `answer` is what `body` parses to.
    """
    if b'"functionCall"' not in body:
        return {}
    calls = _calls(answer)
    given = [args for _, _, args in calls if args is not None]
    texts = written_arguments(body, given)
    if texts is None:
        texts = written_arguments(compact(body), given)
    if texts is None:
        return _by_structure(body)
    found: Arguments = {}
    for at, position, args in calls:
        found.setdefault(at, {})[position] = "{}" if args is None else texts.pop(0)
    return found


def written_arguments(body: bytes, given: Sequence[Any]) -> list[str] | None:
    """The arguments as a parser writes them, if that is byte for byte how they stand in `body`; else None.

    `given` are the arguments of all calls in `body`, parsed. A space behind a colon, as Google's printer puts it, does
    not count; where one inside a string goes with them, the comparison fails. No text passes for the member: a quote in
    a string has a backslash. An object that is there to its last brace is whole.
    """
    if body.count(_ARGS) != len(given):
        return None
    texts = []
    at = 0
    for args in given:
        if type(args) is not dict:
            return None
        try:
            written = orjson.dumps(args)
        except orjson.JSONEncodeError:  # a parser takes deeper nesting than the writer
            return None
        at = body.index(_ARGS, at) + len(_ARGS)
        member = body[at - 1 : at + 2 * len(written) + 2]  # from the name's last quote
        if not member.replace(b'": ', b'":').startswith(b'":' + written):
            return None
        texts.append(written.decode())
    return texts


def _calls(answer: Mapping[str, Any]) -> list[tuple[int, int, Any]]:
    """Each call's candidate, part, and arguments as parsed. What has not the wire's shape is left to its reader."""
    found = []
    candidates = answer.get("candidates")
    for at, candidate in enumerate(candidates if isinstance(candidates, list) else ()):
        content = candidate.get("content") if isinstance(candidate, dict) else None
        parts = content.get("parts") if isinstance(content, dict) else None
        for position, part in enumerate(parts if isinstance(parts, list) else ()):
            call = part.get("functionCall") if isinstance(part, dict) else None
            if isinstance(call, dict):
                found.append((at, position, call.get("args")))
    return found


def _by_structure(answer: bytes) -> Arguments:
    found: Arguments = {}
    for at, candidate in enumerate(elements(value_of(answer, "candidates") or b"")):
        content = value_of(candidate, "content")
        parts = value_of(content, "parts") if content and content.startswith(b"{") else None
        for position, part in enumerate(elements(parts or b"")):
            call = value_of(part, "functionCall") if part.startswith(b"{") else None
            if call is None or not call.startswith(b"{"):
                continue
            arguments = value_of(call, "args")
            given = arguments is not None and arguments != b"null"
            found.setdefault(at, {})[position] = compact(arguments).decode() if given and arguments else "{}"
    return found


def compact(json: bytes) -> bytes:
    """JSON text without the white space between its tokens; every token keeps its bytes."""
    return b"".join(_UNSPACED.findall(json))
