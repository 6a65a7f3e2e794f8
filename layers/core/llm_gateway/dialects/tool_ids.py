"""Ids of tool calls that another provider gave, in the characters and the length that a wire takes.

Kimi's are `functions.f:0`, some are far longer than 64 characters; a chat that falls back mid-way brings them along.
A call and its result change alike.
Sources: https://platform.claude.com/docs/en/api/messages/create (letters, digits, `_` and `-`),
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ToolUseBlock.html (also `.` and `:`; at most 64)
"""

import re
from hashlib import sha256
from typing import Any

from llm_gateway.errors import InvalidRequest

_NOT_CLAUDES = re.compile(r"[^a-zA-Z0-9_-]")
_NOT_CONVERSES = re.compile(r"[^a-zA-Z0-9_.:-]")
_LONGEST = 64
_KEPT = 40


def claude_tool_id(given: Any, param: str) -> str:
    """What goes up for `given`: the same for the same. Raises `InvalidRequest`."""
    return _NOT_CLAUDES.sub("_", _text(given, param))


def converse_tool_id(given: Any, param: str, *, claude: bool) -> str:
    """The same for Converse, whose other models know ids of their own kind again (Kimi): those stay as they are."""
    name = claude_tool_id(given, param) if claude else _NOT_CONVERSES.sub("_", _text(given, param))
    if len(name) <= _LONGEST:
        return name
    digest = sha256(given.encode(errors="surrogatepass")).hexdigest()
    return f"{name[:_KEPT]}_{digest}"[:_LONGEST]


def _text(given: Any, param: str) -> str:
    if not isinstance(given, str) or not given:
        raise InvalidRequest(f"`{param}` must be a string.", param=param)
    return given
