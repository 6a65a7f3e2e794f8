"""The registry as revisions: each a whole configuration that never changes, one of them the current one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Final, Literal

import orjson

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import InvalidRequest

EntryKind = Literal["settings", "provider", "model", "price", "organisation", "team", "user", "key", "token"]
"""A `ports.Kind`, or `token`: one virtual key, whose name is its `key_id`. A `key` says what a key's name may do."""
EntryId = tuple[EntryKind, str]

ENTRY_LIMIT: Final = 400 * 1024
"""Bytes of one document. No limit of a store: it keeps a configuration worth reading."""
_BOUNDS: Final = ("limits", "budget")
_TOKEN_FIELDS: Final = frozenset(field.name for field in fields(VirtualKey))


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """An entry as it is in a revision. Its documents are shared between snapshots: nobody writes to them.

    `etag` is another one after every change of the entry, and the same while only others change. Times are Unix
    seconds; None for what was there before revisions were kept.
    """

    document: Mapping[str, Any]
    etag: str
    created_at: int | None
    updated_at: int | None


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One revision, whole: what operators configured, and the tokens. 0 is the one before the first commit."""

    revision: int
    entries: Mapping[EntryId, StoredEntry]

    def keys(self) -> Iterator[VirtualKey]:
        """The virtual keys, in no order."""
        return (virtual_key(name, each.document) for (kind, name), each in self.entries.items() if kind == "token")


@dataclass(frozen=True, slots=True)
class Put:
    """The entry is to be this, whether there is one of that name or not."""

    kind: EntryKind
    name: str
    document: Mapping[str, Any]

    @classmethod
    def token(cls, key: VirtualKey) -> "Put":
        return cls("token", key.key_id, token_document(key))


@dataclass(frozen=True, slots=True)
class Delete:
    """The entry is to be gone; one that is not there is no fault."""

    kind: EntryKind
    name: str


Change = Put | Delete


@dataclass(frozen=True, slots=True)
class RevisionNote:
    """Of one revision: when it became the current one (Unix seconds), by whom and through what."""

    revision: int
    at: int
    actor: str
    action: str
    event_id: str
    """The audit event that tells what it changed."""


def token_document(key: VirtualKey) -> dict[str, Any]:
    document = asdict(key)
    del document["key_id"]
    return document


def virtual_key(key_id: str, document: Mapping[str, Any]) -> VirtualKey:
    """Fields that a later version added are passed over; those it has not are the defaults."""
    known = {name: value for name, value in document.items() if name in _TOKEN_FIELDS and name != "key_id"}
    for patterns in ("models", "providers"):
        known[patterns] = None if known.get(patterns) is None else tuple(known[patterns])
    for texts in ("tags", "metadata"):
        known[texts] = dict(known.get(texts) or {})
    return VirtualKey(key_id=key_id, **known)


def effective(changes: Sequence[Change], entries: Mapping[EntryId, StoredEntry]) -> dict[EntryId, Change]:
    """Those that change something, one for an entry: of several the last."""
    last: dict[EntryId, Change] = {(change.kind, change.name): change for change in changes}
    return {entry: change for entry, change in last.items() if _changes(change, entries.get(entry))}


def _changes(change: Change, stored: StoredEntry | None) -> bool:
    if isinstance(change, Delete):
        return stored is not None
    return stored is None or _plain(stored.document) != _plain(change.document)


def _plain(value: Any) -> Any:
    """As JSON has it: a tuple is a list, and `true` is not 1."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return (type(value), value)


def check_size(put: Put) -> None:
    """Raises `errors.InvalidRequest` for a document past the limit."""
    size = len(orjson.dumps(dict(put.document)))
    if size > ENTRY_LIMIT:
        name = put.document.get("name", put.name) if put.kind == "token" else put.name
        what = "key" if put.kind == "token" else put.kind
        raise InvalidRequest(
            f"{what} {name!r} takes {-(-size // 1024)} KB; the most that can be stored of one is 400 KB."
        )


def changed(
    entries: Mapping[EntryId, StoredEntry], changes: Mapping[EntryId, Change], revision: int, now: int
) -> dict[EntryId, StoredEntry]:
    """The entries as `revision` has them; `now` in Unix seconds.

    A token beside or after others of its key's name was made with the first of them: that is when the key was made.
    """
    made = dict(entries)
    first = _keys_made(entries) if any(kind == "token" for kind, _ in changes) else {}
    for entry, change in changes.items():
        before = made.pop(entry, None)
        if isinstance(change, Put):
            otherwise = first.get(change.document.get("name"), now) if change.kind == "token" else now
            created = otherwise if before is None else before.created_at
            made[entry] = StoredEntry(change.document, etag_of(revision), created, now)
    return made


def _keys_made(entries: Mapping[EntryId, StoredEntry]) -> dict[Any, int]:
    """When each key's first token was made, by the key's name, as far as that is known."""
    made: dict[Any, int] = {}
    for (kind, _), stored in entries.items():
        if kind == "token" and stored.created_at is not None:
            name = stored.document.get("name")
            made[name] = min(stored.created_at, made.get(name, stored.created_at))
    return made


def etag_of(revision: int) -> str:
    """Of an entry that was last changed in it: no two states of one entry share a revision."""
    return f"r{revision}"


def changes_between(now: Snapshot, wanted: Snapshot, *, tokens: bool = False) -> list[Change]:
    """What makes `now` into `wanted`. Without `tokens` the virtual keys stay: a rollback revives no revoked one.

    And it takes no limit or budget off one that there is: what `wanted` does not say of it stays as it is now.
    """
    there = {entry: each.document for entry, each in wanted.entries.items() if tokens or entry[0] != "token"}
    if not tokens:
        there.update(_bounds_of_keys(now, there))
    here = {entry for entry in now.entries if tokens or entry[0] != "token"}
    changes: list[Change] = [Put(kind, name, document) for (kind, name), document in there.items()]
    changes += [Delete(kind, name) for kind, name in here - there.keys()]
    return list(effective(changes, now.entries).values())


def _bounds_of_keys(
    now: Snapshot, there: Mapping[EntryId, Mapping[str, Any]]
) -> Iterator[tuple[EntryId, Mapping[str, Any]]]:
    """What a rollback to `there` makes of the entries of keys that have a token."""
    with_token = {each.document.get("name") for (kind, _), each in now.entries.items() if kind == "token"}
    for (kind, name), stored in now.entries.items():
        if kind == "key" and name in with_token:
            then = there.get((kind, name))
            yield (kind, name), _with_bounds(then, stored.document) if then is not None else stored.document


def _with_bounds(then: Mapping[str, Any], now: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**{member: now[member] for member in _BOUNDS if member in now}, **then}
