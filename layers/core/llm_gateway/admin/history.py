"""What has happened to the configuration: the audit trail, and its revisions."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final, get_args

from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.draft import Draft, standing_faults
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.listing import Listing
from llm_gateway.admin.provider_keys import ProviderKeys, left_behind
from llm_gateway.admin.rendering import shown_time
from llm_gateway.domain.audit import AuditEvent, AuditFilter, AuditPosition, Outcome, masked
from llm_gateway.domain.revisions import (
    Change,
    Delete,
    RevisionNote,
    Snapshot,
    changed,
    changes_between,
    effective,
)
from llm_gateway.errors import InvalidRequest, NotFound, StillInUse
from llm_gateway.pipeline.page_tokens import read_moment

_HIDDEN: Final = frozenset({"key_hash"})


class History:
    def __init__(self, editing: Editing, keys: ProviderKeys) -> None:
        self._editing = editing
        self._keys = keys

    def handlers(self) -> dict[str, Handler]:
        return {
            "list_audit": self.audit,
            "list_revisions": self.revisions,
            "get_revision": self.revision,
            "restore_revision": self.restore,
        }

    async def audit(self, ask: Ask) -> Reply:
        listing = Listing(ask, read_moment)
        after = None if listing.after is None else AuditPosition(*listing.after)
        page = await self._editing.trail.page(_filter(listing.wanted), after, listing.limit)
        onward = None if page.after is None else listing.token([page.after.at_ms, page.after.event_id])
        return Reply({"object": "list", "data": [_event(event) for event in page.events], "next": onward})

    async def revisions(self, ask: Ask) -> Reply:
        listing = Listing(ask, _revision)
        current = (await self._editing.editor.read()).revision
        found = await self._editing.editor.revisions(listing.limit + 1, listing.after)
        shown = found[: listing.limit]
        onward = listing.token(shown[-1].revision) if len(found) > listing.limit else None
        return Reply({"object": "list", "data": [_note(note, current) for note in shown], "next": onward})

    async def revision(self, ask: Ask) -> Reply:
        snapshot = await self._kept(_number(ask))
        current = (await self._editing.editor.read()).revision
        entries: dict[str, dict[str, Any]] = {}
        for (kind, name), stored in sorted(snapshot.entries.items()):
            document = {key: value for key, value in stored.document.items() if key not in _HIDDEN}
            entries.setdefault(kind, {})[name] = masked(document)
        shown = {"object": "revision_contents", "revision": snapshot.revision}
        return Reply({**shown, "current": snapshot.revision == current, "entries": entries})

    async def restore(self, ask: Ask) -> Reply:
        """As a new revision. Tokens stay as they are: a rollback revives no key that was revoked.

        Raises `StillInUse` where something that stays, such as a key, names what that revision has not.
        """
        wanted = await self._kept(_number(ask))
        secrets: dict[str, str] = {}

        def changes(now: Snapshot) -> list[Change]:
            found = changes_between(now, wanted)
            _check_restored(now, found, wanted.revision)
            secrets.clear()
            secrets.update(self._removed(now, found))
            return found

        number = await self._editing.commit(ask, changes)
        if left := await self._keys.forget(ask, secrets):
            raise left_behind(left)
        found = await self._editing.editor.revisions(1, number + 1)
        return Reply(_note(found[0], number) if found else _before_the_first(number))

    def _removed(self, now: Snapshot, changes: Sequence[Change]) -> dict[str, str]:
        """Secrets that go with what is deleted: another team of that name must not call with them."""
        gone = [change for change in changes if isinstance(change, Delete)]
        providers, teams = ([each.name for each in gone if each.kind == kind] for kind in ("provider", "team"))
        return self._keys.of_removed(Draft(now), providers, teams) if providers or teams else {}

    async def _kept(self, number: int) -> Snapshot:
        snapshot = await self._editing.editor.read_revision(number)
        if snapshot is None:
            raise NotFound(f"The revision {number} is not kept, or never was.")
        return snapshot


def _revision(position: Any) -> int:
    if type(position) is not int:
        raise ValueError("no revision")
    return position


def _check_restored(now: Snapshot, changes: Sequence[Change], number: int) -> None:
    after = Snapshot(now.revision + 1, changed(now.entries, effective(changes, now.entries), now.revision + 1, 0))
    known = set(standing_faults(now))
    if fresh := [line for line in standing_faults(after) if line not in known]:
        raise StillInUse(
            f"Revision {number} does not go together with what there is now: {'; '.join(fresh[:5])}."
            " Delete or change that first. Nothing was changed."
        )


def _number(ask: Ask) -> int:
    text = ask.path["revision"]
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise NotFound("A revision is a number.")
    return int(text)


def _filter(wanted: Mapping[str, str]) -> AuditFilter:
    outcomes: dict[str, Outcome] = {each: each for each in get_args(Outcome)}
    outcome = wanted.get("outcome")
    if outcome is not None and outcome not in outcomes:
        raise InvalidRequest(f"`outcome` is one of {', '.join(outcomes)}.", param="outcome")
    return AuditFilter(
        first_ms=_milliseconds(wanted, "from") or 0,
        until_ms=_milliseconds(wanted, "to"),
        actor=wanted.get("actor"),
        action=wanted.get("action"),
        target_kind=wanted.get("target_kind"),
        target=wanted.get("target"),
        team=wanted.get("team"),
        outcome=None if outcome is None else outcomes[outcome],
    )


def _milliseconds(wanted: Mapping[str, str], name: str) -> int | None:
    text = wanted.get(name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
        # A day is its first moment (UTC); a time without an offset would mean another thing on each machine.
        if len(text) == 10:
            at = at.replace(tzinfo=UTC)
        if at.tzinfo is not None:
            return max(0, int(at.timestamp() * 1000))
    except (ValueError, OverflowError):
        pass
    raise InvalidRequest(f"`{name}` is a day, or a time with an offset, such as 2026-11-21T17:00:00Z.", param=name)


def _event(event: AuditEvent) -> dict[str, Any]:
    shown = asdict(event)
    at_ms, event_id = shown.pop("at_ms"), shown.pop("event_id")
    changes = [{**asdict(change)} for change in event.changes]
    return {"object": "audit_event", "id": event_id, "at": shown_time(at_ms / 1000), **shown, "changes": changes}


def _before_the_first(number: int) -> dict[str, Any]:
    """Of what was there before revisions were kept there is no note."""
    nothing = dict.fromkeys(("at", "actor", "action", "audit_event"))
    return {"object": "revision", "revision": number, "current": True, **nothing}


def _note(note: RevisionNote, current: int) -> dict[str, Any]:
    return {
        "object": "revision",
        "revision": note.revision,
        "current": note.revision == current,
        "at": shown_time(note.at),
        "actor": note.actor,
        "action": note.action,
        "audit_event": note.event_id,
    }
