"""What Claude's API can be asked to do beside the answer, whose bill or result a chat completion cannot hold: refused.

Compaction samples once more to write a summary that the next turn has to give back; without it that turn pays again.
An advisor is a second model, billed at its own prices.
Sources: https://platform.claude.com/docs/en/build-with-claude/compaction,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/advisor-tool
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

NO_COMPACTION = "Compaction is not supported: a chat completion cannot carry its summary to the next turn."


def refuse_compaction(fields: Mapping[str, Any]) -> None:
    """Raises `InvalidRequest` for `compaction`, and for an edit of `context_management` that compacts."""
    if fields.get("compaction") is not None:
        raise InvalidRequest(NO_COMPACTION, param="compaction", code="unsupported_parameter")
    management = fields.get("context_management")
    edits = management.get("edits") if isinstance(management, dict) else None
    for at, edit in enumerate(edits if isinstance(edits, list) else ()):
        kind = edit.get("type") if isinstance(edit, dict) else None
        if isinstance(kind, str) and kind.startswith("compact"):
            param = f"context_management.edits[{at}].type"
            raise InvalidRequest(NO_COMPACTION, param=param, code="unsupported_parameter")


def refuse_advisor(tool: Mapping[str, Any], place: str) -> None:
    """Raises `InvalidRequest` for a tool that asks another model."""
    kind = tool.get("type")
    if isinstance(kind, str) and kind.startswith("advisor"):
        message = "The advisor tool is not supported: it calls a second model, which has prices of its own."
        raise InvalidRequest(message, param=f"{place}.type", code="unsupported_parameter")
