"""The contract of `ports.Registry`: what was put is found, whole, in any number; what was deleted is not."""

import asyncio
from random import Random
from typing import get_args

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.registry_edits import edit_event
from llm_gateway.adapters.registry_tree import bucket_of
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import Kind, Registry, RegistryEntry
from llm_gateway.domain.revisions import Put, token_document
from llm_gateway.errors import InternalFailure, InvalidRequest
from tests.contract.conftest import create_registry_table

DOCUMENT = {
    "dialect": "openai_chat",
    "base_url": "https://llm.corp.example/v1",
    "enabled": True,
    "nothing": None,
    "headers": {"x-title": "Größe 🦊", "": "empty name"},
    "deployments": [{"provider": "corp", "weight": 3}, []],
    "input": "0.10",
    "ratio": 0.5,
}


def key(token: str, **more: object) -> VirtualKey:
    fields: dict[str, object] = {"key_id": lookup_id(token), "name": token, "key_hash": hash_key(token), **more}
    return VirtualKey(**fields)  # type: ignore[arg-type] # a table of fields


async def test_empty(registry: Registry) -> None:
    assert list(await registry.load_catalog()) == []
    assert list(await registry.list_keys()) == []
    assert await registry.find_key(lookup_id("sk-unknown")) is None
    assert await registry.find_key("") is None


async def test_entries_come_back_whole(registry: Registry) -> None:
    entries = [RegistryEntry(kind, "corp", {**DOCUMENT, "kind": kind}) for kind in sorted(get_args(Kind))]
    for entry in reversed(entries):
        await registry.put_entry(entry)
    assert list(await registry.load_catalog()) == entries


@pytest.mark.parametrize("name", ["corp:small-1", "a#b#c", "模型", "with space", "x" * 500, ""])
async def test_any_name(registry: Registry, name: str) -> None:
    entry = RegistryEntry("price", name, {"input": "0.1"})
    await registry.put_entry(entry)
    assert list(await registry.load_catalog()) == [entry]
    await registry.delete_entry("price", name)
    assert list(await registry.load_catalog()) == []


async def test_put_again_replaces(registry: Registry) -> None:
    await registry.put_entry(RegistryEntry("model", "fast", {"a": 1, "b": 2}))
    await registry.put_entry(RegistryEntry("model", "fast", {"b": 3}))
    assert list(await registry.load_catalog()) == [RegistryEntry("model", "fast", {"b": 3})]


async def test_delete_what_is_not_there(registry: Registry) -> None:
    await registry.put_entry(RegistryEntry("model", "fast", {}))
    await registry.delete_entry("provider", "fast")
    await registry.delete_key("unknown")
    assert len(await registry.load_catalog()) == 1


async def test_a_catalog_of_several_pages(registry: Registry) -> None:
    """DynamoDB answers a query with at most 1 MB."""
    entries = [RegistryEntry("model", f"model-{number:02}", {"text": "ü" * 100_000}) for number in range(12)]
    for entry in entries:
        await registry.put_entry(entry)
    assert list(await registry.load_catalog()) == entries


async def test_a_key_comes_back_whole(registry: Registry) -> None:
    whole = key(
        "sk-one",
        role="team-admin",
        team="search",
        user="ü",
        models=("fast", "echo:*"),
        enabled=False,
        expires_at=1_900_000_000,
        tags={"env": "prod", "": "é"},
        providers=("openai", "echo"),
        owner="ops@corp.example",
        metadata={"ticket": "ÖPS-1", "": ""},
        rotated=True,
    )
    await registry.put_key(whole)
    found = await registry.find_key(whole.key_id)
    assert found == whole
    assert found.matches("sk-one")


@pytest.mark.parametrize("models", [None, (), ("fast",)])
async def test_all_models_is_not_none_of_them(registry: Registry, models: tuple[str, ...] | None) -> None:
    await registry.put_key(key("sk-one", models=models, providers=models))
    found = await registry.find_key(lookup_id("sk-one"))
    assert found is not None
    assert (found.models, found.providers) == (models, models)


async def test_keys_are_put_found_listed_deleted(registry: Registry) -> None:
    keys = [key(f"sk-{number}") for number in range(40)]
    await asyncio.gather(*(registry.put_key(one) for one in keys))
    assert list(await registry.list_keys()) == sorted(keys, key=lambda one: one.key_id)
    await registry.put_key(key("sk-7", enabled=False))
    changed = await registry.find_key(lookup_id("sk-7"))
    assert changed is not None
    assert not changed.enabled
    assert len(await registry.list_keys()) == 40
    await registry.delete_key(lookup_id("sk-7"))
    assert await registry.find_key(lookup_id("sk-7")) is None
    assert len(await registry.list_keys()) == 39


async def test_keys_are_no_catalog(registry: Registry) -> None:
    await registry.put_key(key("sk-one"))
    await registry.put_entry(RegistryEntry("team", "search", {}))
    assert [entry.kind for entry in await registry.load_catalog()] == ["team"]
    assert [one.name for one in await registry.list_keys()] == ["sk-one"]


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | _text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_text, inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(document=st.dictionaries(_text, _json, max_size=4))
async def test_any_document(registry: Registry, document: dict[str, object]) -> None:
    await registry.put_entry(RegistryEntry("settings", "any", document))
    (entry,) = await registry.load_catalog()
    assert entry.document == document


async def test_too_large_is_said(dynamodb: AwsJsonClient) -> None:
    registry = DynamoDBRegistry(dynamodb, await create_registry_table(dynamodb))
    with pytest.raises(InvalidRequest, match=r"provider 'corp' takes 4\d\d KB.*400 KB"):
        await registry.put_entry(RegistryEntry("provider", "corp", {"text": "x" * 410_000}))
    assert dynamodb.calls["PutItem"] == 0


@pytest.mark.dynamodb_local
async def test_what_just_fits_is_stored(real_dynamodb: AwsJsonClient) -> None:
    """Also where it cannot be compressed, and more of its size are in one leaf: a leaf is cut into items that fit."""
    registry = DynamoDBRegistry(real_dynamodb, await create_registry_table(real_dynamodb))
    room = 400 * 1024 - len('{"text":""}')
    with pytest.raises(InvalidRequest):
        await registry.put_entry(RegistryEntry("provider", "corp", {"text": "x" * (room + 1)}))
    noise = Random(1).randbytes(room).hex()[:room]  # noqa: S311
    same_leaf = [f"p{number}" for number in range(60) if bucket_of(("provider", f"p{number}")) == "c3"]
    largest = [RegistryEntry("provider", name, {"text": noise[::-1] if name == "p0" else noise}) for name in same_leaf]
    assert len(largest) > 2
    for entry in largest[:3]:
        await registry.put_entry(entry)
    assert list(await DynamoDBRegistry(real_dynamodb, registry._items._table).load_catalog()) == largest[:3]


async def test_what_cannot_be_read_is_named(dynamodb: AwsJsonClient) -> None:
    """Of the layout before revisions."""
    table = await create_registry_table(dynamodb)
    registry = DynamoDBRegistry(dynamodb, table)
    for sk, document in (("model#torn", '{"a"'), ("model#list", "[]"), ("planet#mars", "{}")):
        item = {"pk": {"S": "catalog"}, "sk": {"S": sk}, "document": {"S": document}}
        await dynamodb.call("PutItem", {"TableName": table, "Item": item})
        with pytest.raises(InternalFailure, match=sk.partition("#")[0]):
            await registry.load_catalog()
        await dynamodb.call("DeleteItem", {"TableName": table, "Key": {"pk": item["pk"], "sk": item["sk"]}})


async def test_a_later_versions_fields_are_passed_over(dynamodb: AwsJsonClient) -> None:
    table = await create_registry_table(dynamodb)
    registry = DynamoDBRegistry(dynamodb, table)
    later = {**token_document(key("sk-one")), "limits": {"rpm": 1}}
    change = Put("token", lookup_id("sk-one"), later)
    await registry.commit([change], 0, edit_event(change))
    assert await registry.find_key(lookup_id("sk-one")) == key("sk-one")


@pytest.mark.dynamodb_local
async def test_finding_a_key_is_one_small_read(real_dynamodb: AwsJsonClient) -> None:
    table = await create_registry_table(real_dynamodb)
    await DynamoDBRegistry(real_dynamodb, table).put_key(key("sk-one"))
    view = await DynamoDBRegistry(real_dynamodb, table).view()
    real_dynamodb.calls.clear()
    real_dynamodb.capacity.clear()
    assert await view.find_key(lookup_id("sk-one")) == key("sk-one")
    assert await view.find_key(lookup_id("sk-one")) == key("sk-one")
    assert await view.find_key(lookup_id("sk-guess")) is None
    assert real_dynamodb.calls == {"GetItem": 1}
    assert real_dynamodb.capacity == {"GetItem": 1.0}
