"""The ports without AWS, for tests: the contract suite holds these and the real ones to the same semantics."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InternalFailure


class MemoryLedger:
    """`ports.Ledger` in a dictionary. `records` is open to a test that wants to look."""

    def __init__(self) -> None:
        self.records: dict[str, RequestRecord] = {}

    async def open(self, record: RequestRecord) -> None:
        held = self.records.setdefault(record.request_id, _copy(record))
        if (held.at_ms, held.key_id) != (record.at_ms, record.key_id):
            raise InternalFailure("The request's id is taken by another request.")

    async def settle(self, record: RequestRecord) -> bool:
        held = self.records.get(record.request_id)
        if held is not None and held.status not in ("open", "abandoned"):
            return False
        self.records[record.request_id] = _copy(record)
        return True

    async def get(self, request_id: str) -> RequestRecord | None:
        held = self.records.get(request_id)
        return None if held is None else _copy(held)


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


def _copy(record: RequestRecord) -> RequestRecord:
    return replace(record, tags=dict(record.tags))
