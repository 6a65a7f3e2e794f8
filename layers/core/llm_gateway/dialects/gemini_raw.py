"""The bytes of function-call arguments in a Gemini answer.

A parser turns integers past 64 bits into floats, and writes numbers in a spelling of its own. What a model passes to a
tool goes to the caller as it stands in the answer, less the white space between tokens.
"""

import re

from llm_gateway.dialects.json_splice import elements, value_of

_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_SPACED = re.compile(rb"(" + _STRING + rb")|[ \t\r\n]+", re.DOTALL)

Arguments = dict[tuple[int, int], str]
"""JSON text by the position of the candidate and of the part."""


def function_arguments(answer: bytes) -> Arguments:
    """The arguments of every function call in a `GenerateContentResponse`, as JSON text; `{}` where there are none."""
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
            found[at, position] = compact(arguments).decode() if given and arguments else "{}"
    return found


def compact(json: bytes) -> bytes:
    """JSON text without the white space between its tokens; every token keeps its bytes."""
    return _SPACED.sub(lambda match: match.group(1) or b"", json)
