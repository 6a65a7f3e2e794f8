"""The contract of `ports.RegistryEditor` and `ports.AuditTrail`: a commit is made whole or not at all, whoever is killed
when, of two who build on one revision one wins, and no reader ever sees a part of one."""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_audit import DynamoDBAuditTrail
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import decode_root
from llm_gateway.domain.audit import AuditEvent, AuditFilter, AuditPosition
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import AuditTrail, RegistryEditor, RegistryEntry
from llm_gateway.domain.revisions import Change, Delete, Put, Snapshot, changes_between
from llm_gateway.errors import InvalidRequest, RevisionConflict, Unavailable
from tests.contract.conftest import PATIENT, AwsClients, create_registry_table, engine_url

EVERYTHING = AuditFilter()


@dataclass(frozen=True)
class Stage:
    """`editor` makes one that knows nothing yet, as in another process."""

    editor: Callable[[], RegistryEditor]
    trail: AuditTrail


@pytest.fixture
async def stage(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> Stage:
    if calm_engine == "memory":
        registry = MemoryRegistry()
        return Stage(lambda: registry, registry.audit)
    client = aws(engine_url(request, calm_engine))
    return on_table(client, await create_registry_table(client))


def on_table(client: AwsJsonClient, table: str) -> Stage:
    return Stage(lambda: DynamoDBRegistry(client, table), DynamoDBAuditTrail(client, table))


def event(actor: str = "ann", **more: Any) -> AuditEvent:
    return AuditEvent(uuid4().hex, time.time_ns() // 1_000_000, actor, "provider.update", "provider", "corp", **more)


def key(token: str, **more: Any) -> VirtualKey:
    return VirtualKey(key_id=lookup_id(token), name=token, key_hash=hash_key(token), **more)


def generation(number: int, width: int = 12) -> list[Change]:
    """A configuration in which everything says the same number."""
    names = [f"n{each}" for each in range(width)]
    entries: list[Change] = [Put("model", name, {"n": number}) for name in names]
    return [*entries, *(Put.token(key(name, tags={"n": str(number)})) for name in names)]


async def numbers(editor: RegistryEditor, width: int = 12) -> set[int]:
    """Those that a reader finds in one view: of the catalog, and of each key."""
    view = await editor.view()
    found = {int(entry.document["n"]) for entry in view.catalog}
    for each in range(width):
        token = await view.find_key(lookup_id(f"n{each}"))
        found.add(-1 if token is None else int(token.tags["n"]))
    return found


def documents(snapshot: Snapshot) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {(kind, name): stored.document for (kind, name), stored in snapshot.entries.items()}


async def test_a_commit_is_one_revision(stage: Stage) -> None:
    editor = stage.editor()
    assert await editor.read() == Snapshot(0, {})
    told = event(role="admin", source_ip="192.0.2.1", request_id="req_1")
    changes: list[Change] = [
        Put("provider", "corp", {"dialect": "openai_chat", "headers": {"x-key": "sk-canary"}}),
        Put("team", "search", {}),
        Put.token(key("sk-one", team="search")),
        Delete("model", "not there"),
    ]
    assert await editor.commit(changes, 0, told) == 1
    for reader in (editor, stage.editor()):
        snapshot = await reader.read()
        assert snapshot.revision == 1
        assert documents(snapshot).keys() == {("provider", "corp"), ("team", "search"), ("token", lookup_id("sk-one"))}
        assert list(snapshot.keys()) == [key("sk-one", team="search")]
        view = await reader.view()
        assert view.revision == 1
        assert [entry.kind for entry in view.catalog] == ["provider", "team"]
        assert await view.find_key(lookup_id("sk-one")) == key("sk-one", team="search")
    (said,) = (await stage.trail.page(EVERYTHING, None, 10)).events
    assert replace(said, changes=()) == replace(told, outcome="done", revision=1, changes=())
    assert {(change.kind, change.before is None) for change in said.changes} == {
        ("provider", True),
        ("team", True),
        ("token", True),
    }
    assert "sk-canary" not in repr(said)
    assert hash_key("sk-one") not in repr(said)


async def test_a_stale_commit_changes_nothing(stage: Stage) -> None:
    first, second = stage.editor(), stage.editor()
    await first.commit(generation(1), 0, event())
    assert await numbers(second) == {1}
    await first.commit(generation(2), 1, event())
    for expected in (0, 1, 3):
        with pytest.raises(RevisionConflict):
            await second.commit(generation(3), expected, event("bob"))
    assert await numbers(second) == {2}
    assert (await stage.trail.page(AuditFilter(actor="bob"), None, 10)).events == []


async def test_of_many_who_build_on_one_revision_one_wins(stage: Stage) -> None:
    editors = [stage.editor() for _ in range(6)]
    await editors[0].commit(generation(0), 0, event())
    for each in editors:
        await each.read()
    tried = await asyncio.gather(
        *(each.commit(generation(n), 1, event(f"actor-{n}")) for n, each in enumerate(editors, 1)),
        return_exceptions=True,
    )
    won = [n for n, result in enumerate(tried, 1) if result == 2]
    assert len(won) == 1
    assert all(isinstance(result, RevisionConflict) for n, result in enumerate(tried, 1) if n not in won)
    assert [await numbers(each) for each in (*editors, stage.editor())] == [set(won)] * 7
    events = (await stage.trail.page(EVERYTHING, None, 10)).events
    assert {(each.actor, each.revision) for each in events} == {("ann", 1), (f"actor-{won[0]}", 2)}
    assert [note.actor for note in await stage.editor().revisions(10)] == [f"actor-{won[0]}", "ann"]


async def test_what_changes_nothing_is_no_revision(stage: Stage) -> None:
    editor = stage.editor()
    await editor.commit(generation(1), 0, event())
    before = await editor.read()
    assert await editor.commit([*generation(1), Delete("team", "none")], 1, event("bob")) == 1
    assert await editor.read() == before
    (said,) = (await stage.trail.page(AuditFilter(actor="bob"), None, 10)).events
    assert (said.outcome, said.revision, list(said.changes)) == ("done", 1, [])
    assert await editor.commit([Put("model", "n0", {"n": True})], 1, event()) == 2, "true is not 1"


async def test_an_entrys_etag_changes_with_it_alone(stage: Stage) -> None:
    editor = stage.editor()
    await editor.commit([Put("model", "a", {"n": 1}), Put("model", "b", {"n": 1})], 0, event())
    first = (await editor.read()).entries
    await editor.commit([Put("model", "a", {"n": 2}), Put("model", "b", {"n": 1})], 1, event())
    second = (await stage.editor().read()).entries
    assert second["model", "b"] == first["model", "b"]
    assert second["model", "a"].etag != first["model", "a"].etag
    assert second["model", "a"].created_at == first["model", "a"].created_at
    await editor.commit([Put("model", "a", {"n": 1})], 2, event())
    again = (await editor.read()).entries["model", "a"]
    assert again.document == first["model", "a"].document
    assert again.etag not in (first["model", "a"].etag, second["model", "a"].etag)


async def test_earlier_revisions_and_the_way_back(stage: Stage) -> None:
    editor = stage.editor()
    await editor.commit([Put("model", "a", {"n": 1}), Put.token(key("sk-one"))], 0, event())
    await editor.commit(
        [Put("model", "a", {"n": 2}), Put("model", "b", {}), Delete("token", lookup_id("sk-one"))], 1, event("bob")
    )
    await editor.commit([Delete("model", "a")], 2, event("eve"))
    reader = stage.editor()
    notes = await reader.revisions(2)
    assert [(note.revision, note.actor, note.action) for note in notes] == [
        (3, "eve", "provider.update"),
        (2, "bob", "provider.update"),
    ]
    assert [note.revision for note in await reader.revisions(10, before=2)] == [1]
    old = await reader.read_revision(1)
    assert old is not None
    assert documents(old)["model", "a"] == {"n": 1}
    assert await reader.read_revision(7) is None

    now = await reader.read()
    assert await reader.commit(changes_between(now, old), 3, event()) == 4
    assert documents(await editor.read()) == {("model", "a"): {"n": 1}}, "no revoked key comes back"
    assert changes_between(await editor.read(), old, tokens=True) == [Put.token(key("sk-one"))]


async def test_the_audit_is_read_in_pages(stage: Stage) -> None:
    events = [
        AuditEvent(f"id-{number:02}", 1_000 + number // 2, f"actor-{number % 2}", "key.create", "token", f"k{number}")
        for number in range(11)
    ]
    for each in (*events, events[0]):
        await stage.trail.record(each)
    await stage.trail.record(replace(events[0], actor="forger"))
    read: list[AuditEvent] = []
    page = await stage.trail.page(EVERYTHING, None, 3)
    while page.after is not None:
        assert len(page.events) == 3
        read += page.events
        page = await stage.trail.page(EVERYTHING, page.after, 3)
    assert [*read, *page.events] == events[::-1]
    some = AuditFilter(first_ms=1_001, until_ms=1_004, actor="actor-1", action="key")
    assert [each.target for each in (await stage.trail.page(some, None, 9)).events] == ["k7", "k5", "k3"]
    refused = replace(event(), outcome="refused", reason="no", target="")
    await stage.trail.record(refused)
    assert list((await stage.trail.page(AuditFilter(outcome="refused"), None, 9)).events) == [refused]
    late = AuditFilter(first_ms=events[-1].at_ms + 10**9)
    assert list((await stage.trail.page(late, AuditPosition(0, "x"), 9)).events) == []
    assert list((await stage.trail.page(replace(late, until_ms=0), None, 9)).events) == [], "it ends before it begins"


async def test_readers_never_see_a_part(stage: Stage) -> None:
    """Writers and readers of their own, all at once, on a configuration in which everything says one number."""
    done = asyncio.Event()
    seen: list[set[int]] = []
    await stage.editor().commit(generation(0), 0, event())

    async def write() -> None:
        editor = stage.editor()
        for _ in range(8):
            revision = (await editor.view()).revision
            await asyncio.sleep(0)
            try:
                await editor.commit(generation(revision), revision, event())
            except RevisionConflict:
                continue

    async def read() -> None:
        reader = stage.editor()
        while not done.is_set():
            seen.append(await numbers(reader))
            await asyncio.sleep(0)

    readers = [asyncio.create_task(read()) for _ in range(3)]
    await asyncio.gather(write(), write())
    done.set()
    await asyncio.gather(*readers)
    assert all(len(found) == 1 for found in seen)
    assert len({min(found) for found in seen}) > 2


class Killed(BaseException):
    """Nobody catches this."""


class DyingClient:
    """An `AwsJsonClient` whose process dies at one of its writes, before it or after it."""

    def __init__(self, client: AwsJsonClient, at: int, *, carried_out: bool) -> None:
        self._client = client
        self._left = at
        self._carried_out = carried_out

    async def call(self, operation: str, payload: Any) -> dict[str, Any]:
        writes = operation in ("PutItem", "TransactWriteItems", "UpdateItem", "DeleteItem")
        self._left -= writes
        if writes and self._left < 0:
            if self._carried_out and self._left == -1:
                await self._client.call(operation, payload)
            raise Killed
        return await self._client.call(operation, payload)


@pytest.mark.parametrize("carried_out", [False, True])
async def test_killed_at_any_write_it_is_the_old_or_the_new(dynamodb: AwsJsonClient, carried_out: bool) -> None:
    stage = on_table(dynamodb, table := await create_registry_table(dynamodb))
    await stage.editor().commit(generation(0, 3), 0, event())
    outcomes = []
    for step in range(40):
        before = await stage.editor().read()
        dying = DyingClient(dynamodb, step, carried_out=carried_out)
        told = event(f"step-{step}")
        survived = True
        try:
            editor = DynamoDBRegistry(dying, table)  # type: ignore[arg-type] # stands in for the client
            await editor.commit(generation(step + 1, 3), before.revision, told)
        except (Killed, BaseExceptionGroup):
            survived = False
        after = await stage.editor().read()
        found = await numbers(stage.editor(), 3)
        assert len(found) == 1
        moved = after.revision == before.revision + 1
        assert found == {step + 1} if moved else after == before
        events = (await stage.trail.page(AuditFilter(actor=f"step-{step}"), None, 9)).events
        assert [each.revision for each in events] == ([after.revision] if moved else [])
        outcomes.append(moved)
        if survived:
            break
    assert outcomes[-1] is True
    assert len(outcomes) > 5
    assert sum(outcomes) == (2 if carried_out else 1), "it counts from the last write on"


async def test_a_flip_whose_answer_is_lost_is_made_once(
    request: pytest.FixtureRequest, aws: AwsClients, moto: Any
) -> None:
    """Behind a proxy that refuses, delays, repeats and swallows a third of the calls."""
    calm = aws(moto.url)
    table = await create_registry_table(calm)
    stage = on_table(aws(request.getfixturevalue("moto_faults").url, **PATIENT), table)
    editor = stage.editor()
    for number in range(12):
        revision = (await editor.view()).revision
        assert await editor.commit(generation(number, 2), revision, event(f"commit-{number}")) == number + 1
    calm_stage = on_table(calm, table)
    assert await numbers(calm_stage.editor(), 2) == {11}
    events = (await calm_stage.trail.page(EVERYTHING, None, 99)).events
    assert [(each.actor, each.revision) for each in reversed(events)] == [(f"commit-{n}", n + 1) for n in range(12)]


class FailingOnce:
    """Carries out the first flip, and says that a condition failed: as a retry that comes after others' edits hears."""

    def __init__(self, client: AwsJsonClient, between: Callable[[], Any]) -> None:
        self._client = client
        self._between: Callable[[], Any] | None = between

    async def call(self, operation: str, payload: Any) -> dict[str, Any]:
        answer = await self._client.call(operation, payload)
        if operation == "TransactWriteItems" and self._between is not None:
            between, self._between = self._between, None
            await between()
            return await self._client.call(operation, {**payload, "ClientRequestToken": uuid4().hex})
        return answer


async def test_a_flip_is_known_as_ours_though_others_have_gone_on(dynamodb: AwsJsonClient) -> None:
    stage = on_table(dynamodb, table := await create_registry_table(dynamodb))

    async def another() -> None:
        await stage.editor().commit([Put("team", "other", {})], 1, event("bob"))

    editor = DynamoDBRegistry(FailingOnce(dynamodb, another), table)  # type: ignore[arg-type] # as above
    assert await editor.commit([Put("team", "search", {})], 0, event()) == 1
    assert documents(await editor.read()).keys() == {("team", "search"), ("team", "other")}


async def fill_before_revisions(client: AwsJsonClient, table: str) -> tuple[list[RegistryEntry], list[VirtualKey]]:
    """What an earlier version left: items as it wrote them."""
    from zlib import crc32

    import orjson

    entries = [RegistryEntry("model", "fast", {"a": [1]}), RegistryEntry("team", "a#b", {})]
    keys = sorted((key(f"sk-{n}", models=("fast",), tags={"n": "1"}) for n in range(5)), key=lambda one: one.key_id)
    rows: list[tuple[str, str, Mapping[str, Any]]] = [
        ("catalog", f"{entry.kind}#{entry.name}", entry.document) for entry in entries
    ]
    for each in keys:
        document: Mapping[str, Any] = {
            "name": each.name,
            "key_hash": each.key_hash,
            "models": ["fast"],
            "tags": {"n": "1"},
        }
        rows.append((f"keys#{crc32(each.key_id.encode()) % 16}", each.key_id, document))
    for pk, sk, document in rows:
        item = {"pk": {"S": pk}, "sk": {"S": sk}, "document": {"S": orjson.dumps(document).decode()}}
        await client.call("PutItem", {"TableName": table, "Item": item})
    return entries, keys


async def test_what_was_there_before_revisions_is_read_and_taken_along(dynamodb: AwsJsonClient) -> None:
    table = await create_registry_table(dynamodb)
    entries, keys = await fill_before_revisions(dynamodb, table)
    now = [1_000_000.0]
    registry = DynamoDBRegistry(dynamodb, table, clock=lambda: now[0])
    view = await registry.view()
    assert (view.revision, list(view.catalog)) == (0, entries)
    dynamodb.calls.clear()
    assert [await view.find_key(one.key_id) for one in (keys[0], keys[0])] == [keys[0], keys[0]]
    assert dynamodb.calls == {"GetItem": 1}
    assert list(await registry.list_keys()) == keys

    await registry.put_key(replace(keys[0], enabled=False))
    fresh = DynamoDBRegistry(dynamodb, table, clock=lambda: now[0])
    snapshot = await fresh.read()
    assert snapshot.revision == 1
    assert list(await fresh.load_catalog()) == entries
    assert list(await fresh.list_keys()) == [replace(keys[0], enabled=False), *keys[1:]]
    assert snapshot.entries["model", "fast"].created_at is None

    assert await partitions(dynamodb, table) >= {"catalog"}, "a stack that is rolled back finds its own"
    now[0] += 86_401
    await fresh.collect()
    assert not await partitions(dynamodb, table) & {"catalog", *(f"keys#{n}" for n in range(16))}
    assert list(await DynamoDBRegistry(dynamodb, table).load_catalog()) == entries


async def partitions(client: AwsJsonClient, table: str) -> set[str]:
    return {item["pk"]["S"] for item in (await client.call("Scan", {"TableName": table}))["Items"]}


async def test_what_nobody_needs_is_collected_a_day_later(dynamodb: AwsJsonClient) -> None:
    table = await create_registry_table(dynamodb)
    now = [1_000_000.0]

    def registry(client: Any = dynamodb) -> DynamoDBRegistry:
        return DynamoDBRegistry(client, table, clock=lambda: now[0])

    editor = registry()
    await editor.commit(generation(0, 2), 0, event())
    with pytest.raises((Killed, BaseExceptionGroup)):
        await registry(DyingClient(dynamodb, 3, carried_out=False)).commit(generation(9, 2), 1, event())
    for revision in range(1, 110):
        now[0] += 60
        await editor.commit([Put("model", "n0", {"n": revision})], revision, event())
    assert await editor.collect() == 0, "nothing is a day old"
    reader = registry()
    await reader.view()

    now[0] += 86_400 - 60
    assert await editor.collect() == 11, "ten revisions, and what the killed one left"
    assert await editor.collect() == 0
    assert await unreferenced(dynamodb, table) == (0, 103)
    assert len(await registry().revisions(1_000)) == 100
    assert await registry().read_revision(5) is None
    oldest = await registry().read_revision(11)
    assert oldest is not None
    assert documents(oldest)["model", "n0"] == {"n": 10}
    for each in (reader, registry()):
        assert documents(await each.read())["model", "n0"] == {"n": 109}
        assert await each.find_key(lookup_id("n1")) == key("n1", tags={"n": "0"})
    assert len((await DynamoDBAuditTrail(dynamodb, table).page(EVERYTHING, None, 1_000)).events) == 110


async def unreferenced(client: AwsJsonClient, table: str) -> tuple[int, int]:
    """How many leaves no root names, and how many leaves there are."""
    items = RegistryItems(client, table)
    named = {
        leaf for root in [decode_root(item) async for item in items.query("revisions")] for leaf in root.leaves.values()
    }
    needed = {place["pk"]["S"] for leaf in named for place in leaf.places()}
    there, payload = set(), {"TableName": table}
    while True:
        page = await client.call("Scan", payload)
        there |= {item["pk"]["S"] for item in page["Items"] if item["pk"]["S"].startswith("leaf#")}
        if not page.get("LastEvaluatedKey"):
            return len(there - needed), len(there)
        payload["ExclusiveStartKey"] = page["LastEvaluatedKey"]


@pytest.mark.dynamodb_local
async def test_a_large_configuration(real_dynamodb: AwsJsonClient) -> None:
    """5,000 keys, 300 models: a change stays small, and so does what a reader reads of it."""
    table = await create_registry_table(real_dynamodb)
    keys = [
        key(f"sk-{n}", team=f"team-{n % 50}", models=("fast", "echo:*"), owner=f"o{n}@corp.example")
        for n in range(5_000)
    ]
    models: Sequence[Change] = [
        Put("model", f"model-{n}", {"deployments": [{"provider": "openai", "model": f"gpt-{n}", "weight": 1}]})
        for n in range(300)
    ]
    editor = DynamoDBRegistry(real_dynamodb, table)
    assert await editor.commit([*models, *map(Put.token, keys)], 0, event()) == 1
    reader = DynamoDBRegistry(real_dynamodb, table)

    spent = await units(real_dynamodb, reader.view())
    assert spent == {"GetItem": pytest.approx(2.0, abs=1.5), "BatchGetItem": pytest.approx(16, abs=8)}
    view = await reader.view()
    spent = await units(real_dynamodb, view.find_key(keys[4_321].key_id))
    assert spent["GetItem"] <= 2
    assert await units(real_dynamodb, reader.view()) == {"GetItem": 1.0}

    spent = await units(real_dynamodb, editor.put_key(replace(keys[7], enabled=False)))
    assert sum(spent.values()) < 50
    spent = await units(real_dynamodb, reader.view())
    assert sum(spent.values()) < 8, "nothing of the catalog has changed"
    assert (await reader.view()).catalog is view.catalog
    assert len(await reader.list_keys()) == 5_000
    (said, *_) = (await DynamoDBAuditTrail(real_dynamodb, table).page(AuditFilter(actor="ann"), None, 1)).events
    assert len(said.changes) + said.more_changes == 5_300


async def units(client: AwsJsonClient, work: Any) -> dict[str, float]:
    client.capacity.clear()
    await work
    return dict(client.capacity)


async def test_a_document_that_is_too_large_stops_all_of_it(stage: Stage) -> None:
    editor = stage.editor()
    with pytest.raises(InvalidRequest, match="provider 'corp'"):
        await editor.commit([Put("team", "search", {}), Put("provider", "corp", {"text": "x" * 410_000})], 0, event())
    assert await stage.editor().read() == Snapshot(0, {})


async def test_what_took_too_long_is_not_made(dynamodb: AwsJsonClient) -> None:
    """What it has written may be garbage by then."""
    ticks = iter([0.0, 4_000.0])
    registry = DynamoDBRegistry(dynamodb, table := await create_registry_table(dynamodb), clock=lambda: next(ticks))
    with pytest.raises(Unavailable):
        await registry.commit([Put("team", "search", {})], 0, event())
    assert (await DynamoDBRegistry(dynamodb, table).view()).revision == 0
