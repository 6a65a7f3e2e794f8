"""A revision as it is stored: a root that names leaves, and leaves that hold entries; none of them ever changes.

An entry's leaf follows from its name, so that a change writes one leaf and one root and shares the other leaves with
the revision before. What operators configure is in 16 leaves, which a gateway reads all; virtual keys are in 256, of
which it reads the one that a caller's key is in. Nothing here does I/O.
"""

import secrets
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast, get_args

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.revisions import EntryId, EntryKind, RevisionNote, StoredEntry
from llm_gateway.errors import InternalFailure

CATALOG_BUCKETS: Final = tuple(f"c{number}" for number in range(16))
TOKEN_BUCKETS: Final = tuple(f"t{number}" for number in range(256))
_CHUNK: Final = 300_000
_KINDS: Final = frozenset(get_args(EntryKind))


@dataclass(frozen=True, slots=True)
class Leaf:
    """Where a leaf is: what the attempt wrote for the bucket, in so many items."""

    attempt: str
    bucket: str
    chunks: int

    def places(self) -> list[Item]:
        return [item_key(f"leaf#{self.attempt}#{self.bucket}", f"{chunk:03}") for chunk in range(self.chunks)]


@dataclass(frozen=True, slots=True)
class Root:
    """`attempt` is whoever wrote it: of several that wanted to be one revision, the pointer names one.

    `parent` is the attempt that is the revision before, or empty; `at` is Unix seconds.
    """

    revision: int
    attempt: str
    parent: str
    at: int
    actor: str
    action: str
    event_id: str
    leaves: Mapping[str, Leaf]

    def note(self) -> RevisionNote:
        return RevisionNote(self.revision, self.at, self.actor, self.action, self.event_id)


Entries = dict[EntryId, StoredEntry]


def item_key(pk: str, sk: str) -> Item:
    return {"pk": {"S": pk}, "sk": {"S": sk}}


POINTER: Final = item_key("registry", "pointer")


@dataclass(frozen=True, slots=True)
class Pointer:
    """Which root is the current revision: the one thing that changes."""

    revision: int
    attempt: str


def pointed(item: Item | None) -> Pointer | None:
    return None if item is None else Pointer(int(item["revision"]["N"]), item["attempt"]["S"])


def new_attempt() -> str:
    return secrets.token_hex(8)


def bucket_of(entry: EntryId) -> str:
    kind, name = entry
    buckets = TOKEN_BUCKETS if kind == "token" else CATALOG_BUCKETS
    return buckets[zlib.crc32(f"{kind}#{name}".encode()) % len(buckets)]


def by_bucket(entries: Mapping[EntryId, StoredEntry]) -> dict[str, Entries]:
    sorted_out: dict[str, Entries] = {}
    for entry, stored in entries.items():
        sorted_out.setdefault(bucket_of(entry), {})[entry] = stored
    return sorted_out


def catalog_of(entries: Iterable[Entries]) -> list[RegistryEntry]:
    """The entries of catalog leaves, by kind and name."""
    found = [
        RegistryEntry(cast("Any", kind), name, stored.document)
        for leaf in entries
        for (kind, name), stored in leaf.items()
    ]
    return sorted(found, key=lambda entry: (entry.kind, entry.name))


def leaf_items(leaf: Leaf, chunks: Sequence[bytes]) -> list[Item]:
    return [
        {**key, "content": {"B": b64encode(chunk).decode()}} for key, chunk in zip(leaf.places(), chunks, strict=True)
    ]


def encode_leaf(entries: Entries) -> list[bytes]:
    """JSON, compressed to a fifth or so: what a change costs is the size of what it writes. In pieces that fit."""
    rows = [
        [kind, name, dict(stored.document), stored.etag, stored.created_at, stored.updated_at]
        for (kind, name), stored in sorted(entries.items(), key=lambda pair: pair[0])
    ]
    packed = zlib.compress(orjson.dumps(rows))
    return [packed[start : start + _CHUNK] for start in range(0, len(packed), _CHUNK)]


def decode_leaf(leaf: Leaf, items: Sequence[Item]) -> Entries:
    """Raises `errors.InternalFailure` for what this version cannot read."""
    try:
        packed = b"".join(b64decode(item["content"]["B"]) for item in items)
        rows = orjson.loads(zlib.decompress(packed))
        entries: Entries = {(kind, name): StoredEntry(document, *more) for kind, name, document, *more in rows}
    except (KeyError, TypeError, ValueError, zlib.error) as error:
        raise InternalFailure(f"The registry's leaf {leaf.attempt}#{leaf.bucket} cannot be read.") from error
    if unknown := {kind for kind, _ in entries} - _KINDS:
        raise InternalFailure(f"The registry holds entries of an unknown kind: {sorted(unknown)}.")
    return entries


def root_key(revision: int, attempt: str) -> Item:
    return item_key("revisions", f"{revision:012}#{attempt}")


def encode_root(root: Root) -> Item:
    leaves: dict[str, dict[str, int]] = {}
    for leaf in root.leaves.values():
        leaves.setdefault(leaf.attempt, {})[leaf.bucket] = leaf.chunks
    return {
        **root_key(root.revision, root.attempt),
        "parent": {"S": root.parent},
        "at": {"N": str(root.at)},
        "actor": {"S": root.actor},
        "action": {"S": root.action},
        "event": {"S": root.event_id},
        "leaves": {"S": orjson.dumps(leaves).decode()},
    }


def decode_root(item: Item) -> Root:
    """Without its leaves where the item has been read without them."""
    revision, _, attempt = item["sk"]["S"].partition("#")
    named = orjson.loads(item["leaves"]["S"]) if "leaves" in item else {}
    leaves = {bucket: Leaf(writer, bucket, chunks) for writer, each in named.items() for bucket, chunks in each.items()}
    return Root(
        int(revision),
        attempt,
        item["parent"]["S"],
        int(item["at"]["N"]),
        item["actor"]["S"],
        item["action"]["S"],
        item["event"]["S"],
        leaves,
    )


def chain(roots: Iterable[Root], current: str) -> list[Root]:
    """Those that were the current revision, newest first: what the others are is left over of lost attempts."""
    known = {root.attempt: root for root in roots}
    found = []
    attempt = current
    while attempt in known:
        found.append(known[attempt])
        attempt = known[attempt].parent
    return found
