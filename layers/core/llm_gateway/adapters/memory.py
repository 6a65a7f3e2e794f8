"""The ports without AWS, for tests: the contract suite holds these and the real ones to the same semantics."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from typing import Literal
from uuid import uuid4

from llm_gateway.adapters.memory_audit import MemoryAuditTrail
from llm_gateway.adapters.registry_edits import commit_edit, conflict_message
from llm_gateway.adapters.secret_words import NO_SECRET, NOT_STAGED
from llm_gateway.domain.audit import AuditEvent, audit_change
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.listing import Position, RequestPage, Wanted
from llm_gateway.domain.ports import AnswerClaim, AnswerEntry, KeptAnswer, Kind, RegistryEntry, RegistryView, SecretNote
from llm_gateway.domain.revisions import (
    Change,
    Delete,
    Put,
    RevisionNote,
    Snapshot,
    StoredEntry,
    changed,
    check_size,
    effective,
    etag_of,
    virtual_key,
)
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InternalFailure, NotFound, RevisionConflict


class MemoryLedger:
    """`ports.Ledger` and `ports.RequestIndex` in a dictionary. `records` is open to a test that wants to look."""

    def __init__(self) -> None:
        self.records: dict[str, RequestRecord] = {}
        self._closed: set[str] = set()

    async def open(self, record: RequestRecord) -> None:
        held = self.records.setdefault(record.request_id, _copy(record))
        if (held.at_ms, held.key_id) != (record.at_ms, record.key_id):
            raise InternalFailure("The request's id is taken by another request.")
        if held.status == "open" and (record.holds or not held.holds):
            self.records[record.request_id] = _copy(record)

    async def settle(self, record: RequestRecord) -> bool:
        held = self.records.get(record.request_id)
        if held is not None and (held.status not in ("open", "abandoned") or record.request_id in self._closed):
            return False
        self.records[record.request_id] = _copy(record)
        return True

    async def abandon(self, record: RequestRecord) -> bool:
        held = self.records.get(record.request_id)
        if held is not None and held.status == "open":
            self.records[record.request_id] = held = _copy(record)
        return held is not None and held.status == "abandoned"

    async def close(self, request_id: str) -> None:
        if request_id in self.records and self.records[request_id].status == "abandoned":
            self._closed.add(request_id)

    async def due(self, now: float) -> AsyncIterator[str]:
        for record in list(self.records.values()):
            if record.status == "open" and record.expires_at < now:
                yield record.request_id

    async def get(self, request_id: str) -> RequestRecord | None:
        held = self.records.get(request_id)
        return None if held is None else _copy(held)

    async def page(self, wanted: Wanted, after: Position | None, limit: int) -> RequestPage:
        found = {Position(each.at_ms, each.request_id): each for each in self.records.values() if wanted.has(each)}
        places = sorted((place for place in found if after is None or place < after), reverse=True)
        records = [_copy(found[place]) for place in places[:limit]]
        return RequestPage(records, places[limit - 1] if len(places) > limit else None)

    async def every(self, first_ms: int, until_ms: int) -> AsyncIterator[Sequence[RequestRecord]]:
        wanted = Wanted(first_ms, until_ms)
        yield [_copy(each) for each in self.records.values() if wanted.has(each)]


class MemoryLostSettlements:
    """`ports.LostSettlements` in a list."""

    def __init__(self) -> None:
        self.waiting: list[LostSettlement] = []

    async def put(self, lost: LostSettlement) -> None:
        self.waiting.append(lost)


class MemoryRegistry:
    """`ports.Registry` and `ports.RegistryEditor` in a list of snapshots; `audit` has the events of its commits."""

    def __init__(
        self,
        entries: Sequence[RegistryEntry] = (),
        keys: Sequence[VirtualKey] = (),
        *,
        audit: MemoryAuditTrail | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        first = [*(Put(each.kind, each.name, each.document) for each in entries), *(Put.token(key) for key in keys)]
        stored = {
            (each.kind, each.name): StoredEntry(deepcopy(each.document), etag_of(0), None, None) for each in first
        }
        self._snapshots = [Snapshot(0, stored)]
        self._notes: list[RevisionNote] = []
        self._views: dict[int, _MemoryView] = {}
        self._clock = clock
        self.audit = audit or MemoryAuditTrail()

    async def view(self) -> RegistryView:
        current = self._snapshots[-1]
        view = self._views.get(current.revision)
        if view is None:
            view = _MemoryView(current, *self._views.values())
            self._views = {current.revision: view}
        return view

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        return deepcopy((await self.view()).catalog)

    async def find_key(self, key_id: str) -> VirtualKey | None:
        return await (await self.view()).find_key(key_id)

    async def list_keys(self) -> Sequence[VirtualKey]:
        return sorted(self._snapshots[-1].keys(), key=lambda key: key.key_id)

    async def put_entry(self, entry: RegistryEntry) -> None:
        await commit_edit(self, Put(entry.kind, entry.name, entry.document))

    async def delete_entry(self, kind: Kind, name: str) -> None:
        await commit_edit(self, Delete(kind, name))

    async def put_key(self, key: VirtualKey) -> None:
        await commit_edit(self, Put.token(key))

    async def delete_key(self, key_id: str) -> None:
        await commit_edit(self, Delete("token", key_id))

    async def read(self) -> Snapshot:
        return self._snapshots[-1]

    async def commit(self, changes: Sequence[Change], expected: int, audit: AuditEvent) -> int:
        current = self._snapshots[-1]
        if current.revision != expected:
            raise RevisionConflict(conflict_message(expected, current.revision))
        for change in changes:
            if isinstance(change, Put):
                check_size(change)
        now = int(self._clock())
        made = effective(deepcopy(list(changes)), current.entries)
        told = [audit_change(entry, current.entries.get(entry), change) for entry, change in made.items()]
        revision = expected + 1 if made else expected
        await self.audit.record(replace(audit, outcome="done", revision=revision, changes=told))
        if made:
            self._snapshots.append(Snapshot(revision, changed(current.entries, made, revision, now)))
            self._notes.append(RevisionNote(revision, now, audit.actor, audit.action, audit.event_id))
        return revision

    async def revisions(self, limit: int, before: int | None = None) -> Sequence[RevisionNote]:
        notes = [note for note in reversed(self._notes) if before is None or note.revision < before]
        return notes[:limit]

    async def read_revision(self, revision: int) -> Snapshot | None:
        return self._snapshots[revision] if 0 <= revision < len(self._snapshots) else None


class _MemoryView:
    def __init__(self, snapshot: Snapshot, *before: "_MemoryView") -> None:
        self._snapshot = snapshot
        self._keys: dict[str, VirtualKey] = {}
        catalog = [
            RegistryEntry(kind, name, each.document)
            for (kind, name), each in sorted(snapshot.entries.items(), key=lambda pair: pair[0])
            if kind != "token"
        ]
        same = next((view.catalog for view in before if view.catalog == catalog), None)
        self.catalog: Sequence[RegistryEntry] = catalog if same is None else same

    @property
    def revision(self) -> int:
        return self._snapshot.revision

    async def find_key(self, key_id: str) -> VirtualKey | None:
        stored = self._snapshot.entries.get(("token", key_id))
        if stored is not None and key_id not in self._keys:
            self._keys[key_id] = virtual_key(key_id, stored.document)
        return self._keys.get(key_id)


@dataclass(slots=True)
class _Secret:
    """`versions` by id; a secret that was deleted keeps none."""

    current: str
    versions: dict[str, str] = field(repr=False)
    created_at: int
    changed_at: int
    staged: str | None = None
    rotate_after: int | None = None


class MemorySecrets:
    """`ports.SecretStore` and `ports.SecretWriter` in a dictionary, which is in no repr."""

    def __init__(self, secrets: Mapping[str, str] | None = None, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._secrets: dict[str, _Secret] = {}
        for name, text in (secrets or {}).items():
            self.put(name, text)

    async def get_secret(self, name: str) -> str | None:
        secret = self._secrets.get(name)
        return None if secret is None else secret.versions[secret.current]

    def put(self, name: str, secret: str) -> str:
        version, now = uuid4().hex, int(self._clock())
        before = self._secrets.get(name)
        created = now if before is None else before.created_at
        self._secrets[name] = _Secret(version, {version: secret}, created, now)
        return version

    async def put_secret(self, name: str, text: str) -> str:
        return self.put(name, text)

    async def stage(self, name: str, text: str) -> str:
        secret = self._there(name)
        if secret.staged is not None:
            del secret.versions[secret.staged]
        secret.staged = uuid4().hex
        secret.versions[secret.staged] = text
        return secret.staged

    async def read_staged(self, name: str, version: str) -> str | None:
        secret = self._secrets.get(name)
        return secret.versions[version] if secret is not None and secret.staged == version else None

    async def promote(self, name: str, version: str) -> None:
        secret = self._there(name)
        if version == secret.current:
            return
        if version != secret.staged:
            raise NotFound(NOT_STAGED)
        self._secrets[name] = _Secret(
            version, {version: secret.versions[version]}, secret.created_at, int(self._clock())
        )

    async def discard(self, name: str, version: str) -> None:
        secret = self._secrets.get(name)
        if secret is not None and secret.staged == version:
            secret.staged = None
            del secret.versions[version]

    async def delete_secret(self, name: str) -> bool:
        return self._secrets.pop(name, None) is not None

    async def describe(self, name: str) -> SecretNote | None:
        secret = self._secrets.get(name)
        if secret is None:
            return None
        return SecretNote(
            name, secret.created_at, secret.changed_at, secret.current, secret.staged, secret.rotate_after
        )

    async def schedule_rotation(self, name: str, at: int | None) -> None:
        self._there(name).rotate_after = at

    def _there(self, name: str) -> _Secret:
        secret = self._secrets.get(name)
        if secret is None:
            raise NotFound(NO_SECRET)
        return secret


class MemoryAnswers:
    """`ports.AnswerStore` in dictionaries: of what is there and until when, and of who released what is free."""

    def __init__(self) -> None:
        self.entries: dict[str, tuple[AnswerEntry, int]] = {}
        self.released: dict[str, str] = {}

    async def begin(self, claim: AnswerClaim) -> AnswerEntry | None:
        held, until = self.entries.get(claim.entry, (None, 0))
        if held is not None and (held.owner == claim.owner or until > claim.at):
            return None if (held.owner, held.state) == (claim.owner, "running") else held
        if self.released.pop(claim.entry, None) == claim.owner:
            self.released[claim.entry] = claim.owner
            raise InternalFailure("The request has given its idempotency key back already.")
        self.entries[claim.entry] = AnswerEntry(claim.owner, claim.fingerprint, "running"), claim.until
        return None

    async def finish(self, claim: AnswerClaim, answer: KeptAnswer | None, until: int) -> bool:
        held, _ = self.entries.get(claim.entry, (None, 0))
        if held is None or held.owner != claim.owner:
            return False
        if held.state == "running":
            state: Literal["kept", "too_large"] = "too_large" if answer is None else "kept"
            self.entries[claim.entry] = AnswerEntry(claim.owner, claim.fingerprint, state, answer), until
        return True

    async def release(self, claim: AnswerClaim) -> None:
        held, _ = self.entries.get(claim.entry, (None, 0))
        if held is None:
            self.released.setdefault(claim.entry, claim.owner)
        elif (held.owner, held.state) == (claim.owner, "running"):
            del self.entries[claim.entry]
            self.released[claim.entry] = claim.owner


def _copy(record: RequestRecord) -> RequestRecord:
    return replace(record, tags=dict(record.tags))
