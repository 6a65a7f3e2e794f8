"""The ports without AWS, for tests: the contract suite holds these and the real ones to the same semantics."""

from collections.abc import AsyncIterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Literal

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.listing import Position, RequestPage, Wanted
from llm_gateway.domain.ports import AnswerClaim, AnswerEntry, KeptAnswer, Kind, RegistryEntry
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InternalFailure


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
    """`ports.Registry` in dictionaries."""

    def __init__(self, entries: Sequence[RegistryEntry] = (), keys: Sequence[VirtualKey] = ()) -> None:
        self._entries = {(entry.kind, entry.name): deepcopy(entry) for entry in entries}
        self._keys = {key.key_id: deepcopy(key) for key in keys}

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        return [deepcopy(entry) for _, entry in sorted(self._entries.items(), key=lambda pair: pair[0])]

    async def put_entry(self, entry: RegistryEntry) -> None:
        self._entries[entry.kind, entry.name] = deepcopy(entry)

    async def delete_entry(self, kind: Kind, name: str) -> None:
        self._entries.pop((kind, name), None)

    async def find_key(self, key_id: str) -> VirtualKey | None:
        return deepcopy(self._keys.get(key_id))

    async def put_key(self, key: VirtualKey) -> None:
        self._keys[key.key_id] = deepcopy(key)

    async def delete_key(self, key_id: str) -> None:
        self._keys.pop(key_id, None)

    async def list_keys(self) -> Sequence[VirtualKey]:
        return [deepcopy(self._keys[key_id]) for key_id in sorted(self._keys)]


class MemorySecrets:
    """`ports.SecretStore` in a dictionary, which is in no repr."""

    def __init__(self, secrets: Mapping[str, str] | None = None) -> None:
        self._secrets = dict(secrets or {})

    async def get_secret(self, name: str) -> str | None:
        return self._secrets.get(name)

    def put(self, name: str, secret: str) -> None:
        self._secrets[name] = secret


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
