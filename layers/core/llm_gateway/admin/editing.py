"""How the configuration is changed: read, edited, checked and committed as one revision with one audit event."""

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from llm_gateway.admin.ask import Ask
from llm_gateway.admin.draft import Draft
from llm_gateway.domain.audit import AuditChange, AuditEvent, Outcome
from llm_gateway.domain.ports import AuditTrail, RegistryEditor
from llm_gateway.domain.revisions import Change, Snapshot
from llm_gateway.errors import GatewayError, RevisionConflict, Unavailable

_ATTEMPTS: Final = 10
_PAUSE_S: Final = 0.05
_KINDS: Final = {
    "providers": "provider",
    "models": "model",
    "prices": "price",
    "teams": "team",
    "users": "user",
    "keys": "key",
    "revisions": "revision",
    "apply": "config",
}


class Editing:
    """`now` is in Unix seconds. Every method raises `errors.Unavailable`."""

    def __init__(
        self,
        editor: RegistryEditor,
        trail: AuditTrail,
        now: Callable[[], float],
        warn: Callable[[str], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.editor = editor
        self.trail = trail
        self.now = now
        self._warn = warn
        self._sleep = sleep

    async def draft(self) -> Draft:
        return Draft(await self.editor.read())

    async def apply(self, ask: Ask, edit: Callable[[Draft], None]) -> Draft:
        """Makes the edit one revision; the configuration after it.

        Where somebody else was quicker, the edit is made again on what they left: it says itself what it must find
        there. Raises what `edit` raises, and `Faults`.
        """

        def changes(snapshot: Snapshot) -> Sequence[Change]:
            draft = Draft(snapshot)
            edit(draft)
            return draft.changes()

        await self.commit(ask, changes)
        return await self.draft()

    async def commit(self, ask: Ask, changes: Callable[[Snapshot], Sequence[Change]]) -> int:
        """Commits what `changes` makes of the current revision; the number of the one that it made."""
        event = self._event(ask)
        for attempt in range(_ATTEMPTS):
            snapshot = await self.editor.read()
            try:
                return await self.editor.commit(changes(snapshot), snapshot.revision, event)
            except RevisionConflict:
                await self._sleep(_PAUSE_S * random.random() * (attempt + 1))  # noqa: S311 - spreads those who collide
        raise Unavailable(
            "Others keep changing the configuration at the same time: nothing of this change was made.", retry_after=1
        )

    async def record(self, ask: Ask, changes: Sequence[AuditChange] = (), *, target_kind: str | None = None) -> None:
        """Tells of what was done beside the configuration: a secret, a call."""
        event = replace(self._event(ask), changes=tuple(changes))
        await self.trail.record(event if target_kind is None else replace(event, target_kind=target_kind))

    async def refused(self, ask: Ask, error: GatewayError) -> None:
        """Tells of what was not done. The answer does not wait for a trail that is away: the log has it then."""
        outcome: Outcome = "failed" if error.http_status >= 500 else "refused"
        event = replace(self._event(ask), outcome=outcome, reason=error.message[:1000])
        try:
            await self.trail.record(event)
        except GatewayError as away:
            self._warn(f"not audited: {event.action} {event.target!r} by {event.actor!r}, {outcome}: {away.message}")

    def _event(self, ask: Ask) -> AuditEvent:
        return AuditEvent(
            event_id=uuid.uuid4().hex,
            at_ms=int(self.now() * 1000),
            actor=ask.actor.name,
            action=ask.route.action,
            target_kind=_KINDS.get(ask.route.group, ask.route.group),
            target=ask.target,
            role=ask.actor.role,
            team=ask.actor.team,
            source_ip=ask.source_ip,
            request_id=ask.request_id,
        )
