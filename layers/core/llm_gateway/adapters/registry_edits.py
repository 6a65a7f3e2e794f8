"""Single edits of the registry, each a commit of its own."""

import asyncio
import random
import time
from typing import Final
from uuid import uuid4

from llm_gateway.domain.audit import AuditEvent
from llm_gateway.domain.ports import RegistryEditor
from llm_gateway.domain.revisions import Change, Put
from llm_gateway.errors import RevisionConflict, Unavailable

_ATTEMPTS: Final = 20
_COMMAND_LINE: Final = "command line"


async def commit_edit(editor: RegistryEditor, change: Change) -> None:
    """Whatever the entry is by now: of two who edit at once, the last one stays, and neither loses the other's entries.

    Raises `errors.Unavailable`, also where others commit all the time.
    """
    for attempt in range(_ATTEMPTS):
        current = await editor.view()
        try:
            await editor.commit([change], current.revision, edit_event(change))
        except RevisionConflict:
            await asyncio.sleep(random.random() * min(1.0, 0.02 * 2**attempt))  # noqa: S311 - jitter is no secret
            continue
        return
    raise Unavailable("The configuration is being changed by too many at once; try again.")


def edit_event(change: Change) -> AuditEvent:
    """Of an edit that came by no API."""
    action = f"{change.kind}.{'put' if isinstance(change, Put) else 'delete'}"
    name = change.name
    if change.kind == "token":
        name = str(change.document.get("name", name)) if isinstance(change, Put) else name
    return command_event(action, change.kind, name)


def command_event(action: str, kind: str = "", name: str = "") -> AuditEvent:
    """Of what somebody does who has the table itself: the command line, or `make run`."""
    return AuditEvent(uuid4().hex, time.time_ns() // 1_000_000, _COMMAND_LINE, action, kind, name)


def conflict_message(expected: int, current: int) -> str:
    return f"The configuration has been changed meanwhile: it is revision {current}, not {expected}."
