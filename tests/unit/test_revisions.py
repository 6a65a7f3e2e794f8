"""Revisions without a store: what changes something, the way from one to another, how one is written down."""

from base64 import b64encode
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.registry_tree import (
    CATALOG_BUCKETS,
    TOKEN_BUCKETS,
    Leaf,
    Root,
    bucket_of,
    by_bucket,
    chain,
    decode_leaf,
    decode_root,
    encode_leaf,
    encode_root,
    leaf_items,
)
from llm_gateway.domain.audit import MASK, masked
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.revisions import (
    Delete,
    Put,
    Snapshot,
    StoredEntry,
    changed,
    changes_between,
    effective,
    token_document,
    virtual_key,
)
from llm_gateway.errors import InternalFailure

_names = st.sampled_from(["a", "b", "c", "模型"])
_ids = st.tuples(st.sampled_from(["model", "team", "token"]), _names)
_documents = st.dictionaries(_names, st.none() | st.booleans() | st.integers(-1, 1) | st.text(max_size=3), max_size=2)
_stored = st.builds(
    StoredEntry, _documents, st.just("r0"), st.none() | st.integers(0, 9), st.none() | st.integers(0, 9)
)
_entries = st.dictionaries(_ids, _stored, max_size=8)


@given(_entries, _entries)
def test_the_way_from_one_revision_to_another(here: Any, there: Any) -> None:
    now, wanted = Snapshot(3, here), Snapshot(1, there)
    changes = changes_between(now, wanted, tokens=True)
    made = changed(here, effective(changes, here), 4, 10)
    assert {entry: each.document for entry, each in made.items()} == {
        entry: each.document for entry, each in there.items()
    }
    assert not changes_between(Snapshot(4, made), wanted, tokens=True)
    assert all(change.kind != "token" for change in changes_between(now, wanted))
    assert all(made[entry] is here[entry] for entry in made.keys() & here.keys() if made[entry].etag == "r0")


def test_a_keys_new_token_is_as_old_as_its_first() -> None:
    def token(key_id: str, name: str = "prod") -> Put:
        return Put.token(VirtualKey(key_id, name, "hash"))

    now: dict[Any, StoredEntry] = {}
    turns: list[list[Put | Delete]] = [
        [token("1"), Put("team", "prod", {})],
        [token("2")],
        [Delete("token", "1"), token("3"), token("4", "other")],
        [Delete("token", "2"), Delete("token", "3")],
        [token("5")],
    ]
    made = []
    for revision, changes in enumerate(turns, 1):
        now = changed(now, effective(changes, now), revision, revision * 10)
        made.append({name: each.created_at for (kind, name), each in now.items() if kind == "token"})
    assert made == [{"1": 10}, {"1": 10, "2": 10}, {"2": 10, "3": 10, "4": 30}, {"4": 30}, {"4": 30, "5": 50}]


def test_what_changes_nothing_is_left_out() -> None:
    stored = {("model", "a"): StoredEntry({"n": 1, "list": [1, {"b": True}]}, "r0", None, None)}
    same = Put("model", "a", {"list": (1, {"b": True}), "n": 1})
    assert effective([same, Delete("model", "b")], stored) == {}  # type: ignore[arg-type] # a literal's kind
    for other in ({"n": True, "list": [1, {"b": True}]}, {"n": 1, "list": [1, {"b": 1}]}, {"n": 1}):
        assert effective([Put("model", "a", other)], stored)  # type: ignore[arg-type] # as above
    last = effective([Put("team", "x", {}), Delete("team", "x"), Put("team", "x", {"n": 2})], {})
    assert last == {("team", "x"): Put("team", "x", {"n": 2})}


def test_a_virtual_key_is_a_document_and_back() -> None:
    key = VirtualKey("id", "n", "hash", "admin", "search", "ann", ("a",), tags={"x": "y"}, providers=(), rotated=True)
    assert virtual_key("id", token_document(key)) == key
    assert virtual_key("id", {"name": "n", "key_hash": "h", "later": 1}) == VirtualKey("id", "n", "h")


@given(_entries)
def test_leaves_hold_what_they_were_given(entries: Any) -> None:
    found = {}
    for bucket, leaf_entries in by_bucket(entries).items():
        chunks = encode_leaf(leaf_entries)
        leaf = Leaf("attempt", bucket, len(chunks))
        found.update(decode_leaf(leaf, leaf_items(leaf, chunks)))
    assert found == entries


def test_a_large_leaf_is_cut_into_items_that_fit() -> None:
    noise = Random(1).randbytes(1_000_000).hex()  # noqa: S311 - it only has to be hard to compress
    entries = {("model", "a"): StoredEntry({"text": noise}, "r1", 1, 2)}
    chunks = encode_leaf(entries)  # type: ignore[arg-type] # a literal's kind
    assert len(chunks) > 3
    leaf = Leaf("attempt", "c0", len(chunks))
    items = leaf_items(leaf, chunks)
    assert all(len(item["content"]["B"]) <= 400_000 for item in items)
    assert decode_leaf(leaf, items) == entries


@pytest.mark.parametrize("content", [b"", b"no zlib", encode_leaf({})[0][:-1]])
def test_a_torn_leaf_is_named(content: bytes) -> None:
    item = {"content": {"B": b64encode(content).decode()}}
    with pytest.raises(InternalFailure, match="a1#c0"):
        decode_leaf(Leaf("a1", "c0", 1), [item])


@pytest.mark.parametrize(("attempts", "most"), [(1, 4_000), (272, 10_000)])
def test_a_root_is_written_down_whole_and_small(attempts: int, most: int) -> None:
    buckets = CATALOG_BUCKETS + TOKEN_BUCKETS
    leaves = {bucket: Leaf(f"{n % attempts:016}", bucket, 1 + n % 2) for n, bucket in enumerate(buckets)}
    root = Root(12, "me", "parent", 1_900_000_000, "ann", "key.create", "event", leaves)
    item = encode_root(root)
    assert decode_root(item) == root
    assert len(item["leaves"]["S"]) < most


def test_the_line_of_revisions_leaves_lost_attempts_out() -> None:
    def root(revision: int, attempt: str, parent: str) -> Root:
        return Root(revision, attempt, parent, 0, "", "", "", {})

    line = [root(3, "c", "b"), root(2, "b", "a"), root(1, "a", "")]
    lost = [root(2, "x", "a"), root(4, "y", "c"), root(3, "z", "x")]
    assert chain([*lost, *reversed(line)], "c") == line
    assert chain([*lost, *line[:2]], "c") == line[:2], "what is older has been collected"


def test_buckets_do_not_move() -> None:
    """They are in every table: whoever changes them loses what is there."""
    assert [bucket_of(("model", "fast")), bucket_of(("token", "6716e79c65c151b518cbd505"))] == ["c13", "t245"]
    assert (len(CATALOG_BUCKETS), len(TOKEN_BUCKETS)) == (16, 256)


def test_what_may_be_secret_is_masked() -> None:
    document = {
        "name": "prod",
        "key_hash": "h",
        "api_key_env": "CORP_API_KEY",
        "headers": {"x-title": "t", "X-Key": "sk-1"},
        "credentials": [{"any": "sk-2", "none": None, "on": True}],
        "nested": [{"Api_Key": "sk-3", "limit": 3}],
    }
    assert masked(document) == {
        "name": "prod",
        "key_hash": MASK,
        "api_key_env": "CORP_API_KEY",
        "headers": {"x-title": MASK, "X-Key": MASK},
        "credentials": [{"any": MASK, "none": None, "on": True}],
        "nested": [{"Api_Key": MASK, "limit": 3}],
    }
