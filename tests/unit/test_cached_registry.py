"""Specifies how the registry is remembered: at most 30 s old, there when the store is down, safe from guessers."""

import asyncio

import pytest

from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.adapters.registry_edits import edit_event
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import RegistryEntry, RegistryView
from llm_gateway.domain.revisions import Put
from llm_gateway.errors import Unavailable
from tests.fakes.manual_clock import ManualClock, settle

ENTRY = RegistryEntry("provider", "corp", {"dialect": "openai_chat"})
OTHER = RegistryEntry("provider", "other", {"dialect": "openai_chat"})
KEY = VirtualKey("id-1", "search-prod", "hash")


class CountingRegistry(MemoryRegistry):
    def __init__(self) -> None:
        super().__init__([ENTRY], [KEY])
        self.loads = 0
        self.down = False

    async def view(self) -> RegistryView:
        self.loads += 1
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("down")
        return await super().view()


@pytest.fixture
def store() -> CountingRegistry:
    return CountingRegistry()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cached(store: CountingRegistry, clock: ManualClock, warnings: list[str]) -> CachedRegistry:
    return CachedRegistry(store, clock=clock, warn=warnings.append, spare=0)


async def test_the_catalog_is_one_object_until_it_changes(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    found = await asyncio.gather(*(cached.load_catalog() for _ in range(100)))
    assert all(entries is found[0] for entries in found)
    assert list(found[0]) == [ENTRY]
    assert store.loads == 1
    await store.put_key(VirtualKey("id-2", "new", "hash"))
    loads = store.loads
    clock.now += 31
    assert await cached.load_catalog() is found[0]
    assert store.loads == loads + 1
    await store.put_entry(OTHER)
    clock.now += 31
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]


async def test_in_the_last_third_the_old_catalog_serves_while_it_is_loaded(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    await cached.load_catalog()
    await store.put_entry(OTHER)
    loads = store.loads
    clock.now += 19
    assert list(await cached.load_catalog()) == [ENTRY]
    await settle()
    assert store.loads == loads
    clock.now += 2
    assert list(await cached.load_catalog()) == [ENTRY]
    await settle()
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]
    assert store.loads == loads + 1


async def test_past_thirty_seconds_no_old_catalog_serves(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    await cached.load_catalog()
    await store.put_entry(OTHER)
    clock.now += 30
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]


async def test_the_old_catalog_serves_while_the_store_is_down(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock, warnings: list[str]
) -> None:
    await cached.load_catalog()
    store.down = True
    for _ in range(3):
        clock.now += 86_400
        assert list(await cached.load_catalog()) == [ENTRY]
        await settle()
    assert len(warnings) == 3
    store.down = False
    await store.put_entry(OTHER)
    clock.now += 6
    await cached.load_catalog()
    await settle()
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]


async def test_nothing_held_and_the_store_down(store: CountingRegistry, cached: CachedRegistry) -> None:
    store.down = True
    with pytest.raises(Unavailable):
        await cached.load_catalog()
    with pytest.raises(Unavailable):
        await cached.find_key("id-1")


async def test_an_empty_catalog_is_a_catalog() -> None:
    store = MemoryRegistry()
    cached = CachedRegistry(store)
    first = await cached.load_catalog()
    assert list(first) == []
    assert await cached.load_catalog() is first


async def test_a_key_is_read_once_in_thirty_seconds(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    found = await asyncio.gather(*(cached.find_key("id-1") for _ in range(100)))
    assert found == [KEY] * 100
    clock.now += 19
    assert await cached.find_key("id-1") == KEY
    await settle()
    assert store.loads == 1


async def test_a_revoked_key_is_gone_within_thirty_seconds(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    await cached.find_key("id-1")
    await store.delete_key("id-1")
    clock.now += 30
    assert await cached.find_key("id-1") is None


async def test_a_key_outlives_the_store_for_five_minutes_and_no_longer(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock, warnings: list[str]
) -> None:
    await cached.find_key("id-1")
    store.down = True
    clock.now += 31
    assert await cached.find_key("id-1") == KEY
    assert len(warnings) == 1
    clock.now += 299 - 31
    assert await cached.find_key("id-1") == KEY
    await settle()
    clock.now += 1
    with pytest.raises(Unavailable):
        await cached.find_key("id-1")


async def test_that_a_key_is_unknown_is_remembered_for_five_seconds(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    for _ in range(3):
        assert await cached.find_key("id-2") is None
    assert store.loads == 1
    await store.put_key(VirtualKey("id-2", "new", "hash"))
    clock.now += 4.9
    assert await cached.find_key("id-2") is None
    clock.now += 0.1
    assert await cached.find_key("id-2") is not None


async def test_guessing_asks_the_store_every_five_seconds_however_many_guess(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    for number in range(1_000):
        clock.now += 0.01
        await asyncio.gather(*(cached.find_key(f"guess-{number}-{other}") for other in range(3)))
    assert store.loads == 2
    assert await cached.find_key("id-1") == KEY


async def test_an_unknown_key_is_not_refused_by_what_is_not_current(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    """It may be a new one: while the store cannot say, nor do we; and nobody waits for it each time."""
    assert await cached.find_key("id-2") is None
    store.down = True
    clock.now += 6
    for _ in range(5):
        with pytest.raises(Unavailable):
            await cached.find_key("id-2")
    assert store.loads == 2
    assert await cached.find_key("id-1") == KEY
    store.down = False
    await store.put_key(VirtualKey("id-2", "new", "hash"))
    clock.now += 5
    assert await cached.find_key("id-2") is not None


async def test_whoever_guesses_makes_nobody_else_wait(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cached.find_key("id-1")
    answer = asyncio.Event()

    async def slow_view() -> RegistryView:
        await answer.wait()
        return await MemoryRegistry.view(store)

    monkeypatch.setattr(store, "view", slow_view)
    clock.now += 6
    guesses = [asyncio.create_task(cached.find_key(f"guess-{number}")) for number in range(3)]
    await settle()
    async with asyncio.timeout(1):
        assert await cached.find_key("id-1") == KEY
    answer.set()
    assert await asyncio.gather(*guesses) == [None] * 3


async def test_key_and_catalog_are_of_one_revision(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    await cached.load_catalog()
    changes = [Put.token(VirtualKey("id-2", "new", "hash")), Put("provider", "other", OTHER.document)]
    await store.commit(changes, 0, edit_event(changes[0]))
    assert (await cached.find_key("id-2"), list(await cached.load_catalog())) == (None, [ENTRY])
    clock.now += 5
    assert await cached.find_key("id-2") is not None
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]


async def test_what_is_written_here_is_seen_here_at_once(store: CountingRegistry, cached: CachedRegistry) -> None:
    await cached.load_catalog()
    await cached.put_entry(OTHER)
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]
    await cached.delete_entry("provider", "corp")
    assert list(await cached.load_catalog()) == [OTHER]

    assert await cached.find_key("id-2") is None
    key = VirtualKey("id-2", "new", "hash")
    await cached.put_key(key)
    assert await cached.find_key("id-2") == key
    assert list(await cached.list_keys()) == [KEY, key]
    await cached.delete_key("id-2")
    assert await cached.find_key("id-2") is None


async def test_a_key_deleted_here_does_not_come_back_when_the_store_goes_down(
    store: CountingRegistry, cached: CachedRegistry
) -> None:
    await cached.find_key("id-1")
    await cached.delete_key("id-1")
    store.down = True
    with pytest.raises(Unavailable):
        await cached.find_key("id-1")


async def test_a_key_that_was_just_made_works_at_once(store: CountingRegistry, clock: ManualClock) -> None:
    cached = CachedRegistry(store, clock=clock)
    await cached.load_catalog()
    for number in range(3):
        new = Put.token(VirtualKey(f"id-new-{number}", "new", "hash"))
        await store.commit([new], number, edit_event(new))
        assert await cached.find_key(f"id-new-{number}") is not None
    asked = store.loads
    for number in range(50):
        assert await cached.find_key(f"id-guessed-{number}") is None
    assert store.loads == asked, "guessing costs no more than that"
    clock.now += 5
    assert await cached.find_key("id-guessed") is None
    assert store.loads == asked + 1
