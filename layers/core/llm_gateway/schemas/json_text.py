"""JSON as others write it, where orjson is stricter than the standard."""

import re
from typing import Any

import orjson

_ESCAPE = re.compile(
    rb"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(u[dD][89a-fA-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
"""Any escape of a string, a surrogate pair as one; the group is half a pair."""


def parse_json(text: bytes) -> Any:
    """The value, with U+FFFD for each half of a surrogate pair that is escaped alone.

    The grammar allows those, and models write them: a token may end between the halves of an emoji. Kept as they are
    they could not be written to anything. Source: https://www.rfc-editor.org/rfc/rfc8259#section-8.2
    Raises `orjson.JSONDecodeError`.
    """
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        if b"\\u" not in text:
            raise
    return orjson.loads(_ESCAPE.sub(lambda found: rb"\ufffd" if found[1] else found[0], text))
