"""An edit of the configuration, made on the tables of a gateway.toml, and held to a file's rules.

So nothing can be configured here that a file could not say, and a fault is told in a file's words.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, Final, get_args

from pydantic import ValidationError

from llm_gateway.catalog.as_file import TABLE_OF, file_tables
from llm_gateway.catalog.checks import cross_faults
from llm_gateway.catalog.config import GatewayConfig, entries, pending_keys
from llm_gateway.catalog.schema import GatewayFile
from llm_gateway.catalog.schema_faults import schema_faults
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import Kind, RegistryEntry
from llm_gateway.domain.revisions import Change, Delete, EntryId, Put, Snapshot

SETTINGS: Final = ("default_provider", "default_model", "cors_origins", "x_gateway", "abandoned", "circuit")
_KINDS: Final = frozenset(get_args(Kind))


class Faults(ValueError):
    """What is wrong with the configuration that an edit would make: a line each, `place: what`."""

    def __init__(self, lines: Iterable[str]) -> None:
        self.lines = tuple(lines)
        super().__init__("\n".join(self.lines))


def entries_of(snapshot: Snapshot) -> list[RegistryEntry]:
    """What operators configured, without the tokens."""
    return [
        RegistryEntry(kind, name, stored.document)  # type: ignore[arg-type] # the test below says which kinds
        for (kind, name), stored in snapshot.entries.items()
        if kind in _KINDS
    ]


class Draft:
    """A snapshot, and what is to become of it. `tables` are edited; what was edited is said by `touch`."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.tokens = list(snapshot.keys())
        self._by_name: dict[str, list[VirtualKey]] = {}
        for key in self.tokens:
            self._by_name.setdefault(key.name, []).append(key)
        self.tables = file_tables(entries_of(snapshot), self.tokens)
        self._touched: dict[EntryId, None] = {}
        self._made: dict[str, str] = {}
        self._tokens: dict[str, Change] = {}

    def table(self, kind: Kind, name: str) -> dict[str, Any] | None:
        """One table, or None. It is edited by being replaced (`put`)."""
        if kind == "settings":
            return {member: self.tables[member] for member in SETTINGS if member in self.tables}
        among = self.tables if kind == "organisation" else self.tables[TABLE_OF[kind]]
        found: dict[str, Any] | None = among.get(name)
        return found

    def names(self, kind: Kind) -> list[str]:
        return sorted(self.tables[TABLE_OF[kind]])

    def put(self, kind: Kind, name: str, table: Mapping[str, Any]) -> None:
        self._touched[kind, name] = None
        if kind == "settings":
            for member in SETTINGS:
                self.tables.pop(member, None)
            self.tables.update(table)
        elif kind == "organisation":
            self.tables["organisation"] = dict(table)
        else:
            self.tables[TABLE_OF[kind]][name] = dict(table)

    def delete(self, kind: Kind, name: str) -> None:
        self._touched[kind, name] = None
        if kind == "settings":
            self.put(kind, name, {})
        elif kind == "organisation":
            self.tables.pop("organisation", None)
        else:
            self.tables[TABLE_OF[kind]].pop(name, None)

    def make_token(self, name: str, token: str) -> None:
        """The key of that name, which is in the tables, gets this token."""
        self._made[name] = token

    def put_token(self, key: VirtualKey) -> None:
        """A token as it is to be, whatever its key's table says."""
        self._tokens[key.key_id] = Put.token(key)

    def delete_token(self, key_id: str) -> None:
        self._tokens[key_id] = Delete("token", key_id)

    def tokens_of(self, name: str) -> list[VirtualKey]:
        return self._by_name.get(name, [])

    def changes(self) -> list[Change]:
        """What the edits come to. Raises `Faults` for those that were not there before."""
        config = self._checked()
        documents: dict[EntryId, Mapping[str, Any]] = {
            (entry.kind, entry.name): entry.document for entry in entries(config)
        }
        found: list[Change] = []
        for entry in self._touched:
            kind, name = self._entry_of(entry)
            document = documents.get((kind, name))
            found.append(Delete(kind, name) if document is None else Put(kind, name, document))
            if kind == "organisation":
                # Another name is another entry, and there is one organisation.
                others = [each for of, each in self.snapshot.entries if of == "organisation" and each != name]
                found += [Delete("organisation", other) for other in others]
        return [*found, *self._token_changes(config)]

    def _entry_of(self, entry: EntryId) -> EntryId:
        """As it is stored: an organisation goes by the name it has now."""
        if entry[0] == "organisation" and "organisation" in self.tables:
            return "organisation", self.tables["organisation"].get("name", "default")
        return entry

    def _token_changes(self, config: GatewayConfig) -> list[Change]:
        touched = {name for kind, name in self._touched if kind == "key"}
        pending = {key.name: key for key in pending_keys(config) if key.name in touched}
        changes: dict[str, Change] = {}
        for key in self.tokens:
            if key.name in pending:
                changes[key.key_id] = Put.token(pending[key.name].renew(key))
            elif key.name in touched:
                changes[key.key_id] = Delete("token", key.key_id)
        for name, token in self._made.items():
            issued = pending[name].issue(token)
            changes[issued.key_id] = Put.token(issued)
        return list({**changes, **self._tokens}.values())

    def _checked(self) -> GatewayConfig:
        try:
            file = GatewayFile.model_validate(self.tables)
        except ValidationError as error:
            # `from None`: pydantic's own message shows values.
            raise Faults(schema_faults(error)) from None
        if faults := list(cross_faults(file)):
            known = set(standing_faults(self.snapshot))
            if fresh := [line for line in faults if line not in known]:
                raise Faults(fresh)
        return GatewayConfig("registry", file)


def standing_faults(snapshot: Snapshot) -> list[str]:
    """What is wrong with a configuration as it is stored, a line each."""
    try:
        file = GatewayFile.model_validate(file_tables(entries_of(snapshot), snapshot.keys()))
    except ValidationError as error:
        return list(schema_faults(error))
    return list(cross_faults(file))


def read_time(value: Any) -> Any:
    """A time of JSON as a file has it; what is none stays what it is, and is refused with the rest."""
    if not isinstance(value, str):
        return value
    try:
        at = datetime.fromisoformat(value)
        # One that is in no year in UTC could be stored, and never be shown again.
        return at if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        return value
