"""Specifies how the registry is remembered: at most 30 s old, there when the store is down, safe from guessers."""

import asyncio
from collections.abc import Sequence

import pytest

from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.errors import Unavailable
from tests.fakes.manual_clock import ManualClock, settle

ENTRY = RegistryEntry("provider", "corp", {"dialect": "openai_chat"})
OTHER = RegistryEntry("provider", "other", {"dialect": "openai_chat"})
KEY = VirtualKey("id-1", "search-prod", "hash")


class CountingRegistry(MemoryRegistry):
    def __init__(self) -> None:
        super().__init__([ENTRY], [KEY])
        self.loads = 0
        self.finds = 0
        self.down = False

    async def load_catalog(self) -> Sequence[RegistryEntry]:
        self.loads += 1
        await self._answer()
        return await super().load_catalog()

    async def find_key(self, key_id: str) -> VirtualKey | None:
        self.finds += 1
        await self._answer()
        return await super().find_key(key_id)

    async def _answer(self) -> None:
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("down")


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
    return CachedRegistry(store, clock=clock, warn=warnings.append)


async def test_the_catalog_is_one_object_until_it_is_loaded_anew(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    found = await asyncio.gather(*(cached.load_catalog() for _ in range(100)))
    assert all(entries is found[0] for entries in found)
    assert list(found[0]) == [ENTRY]
    assert store.loads == 1
    clock.now += 31
    assert await cached.load_catalog() is not found[0]


async def test_in_the_last_third_the_old_catalog_serves_while_it_is_loaded(
    store: CountingRegistry, cached: CachedRegistry, clock: ManualClock
) -> None:
    await cached.load_catalog()
    await store.put_entry(OTHER)
    clock.now += 19
    assert list(await cached.load_catalog()) == [ENTRY]
    await settle()
    assert store.loads == 1
    clock.now += 2
    assert list(await cached.load_catalog()) == [ENTRY]
    await settle()
    assert list(await cached.load_catalog()) == [ENTRY, OTHER]
    assert store.loads == 2


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
    clock.now += 29
    assert await cached.find_key("id-1") == KEY
    assert store.finds == 1


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
    assert store.finds == 1
    await store.put_key(VirtualKey("id-2", "new", "hash"))
    clock.now += 5
    assert await cached.find_key("id-2") is not None


async def test_guessing_fills_no_memory_and_pushes_out_no_key(store: CountingRegistry, cached: CachedRegistry) -> None:
    await cached.find_key("id-1")
    for number in range(10_500):
        await cached.find_key(f"guess-{number}")
    assert len(cached._keys) == 10_001
    finds = store.finds
    assert await cached.find_key("id-1") == KEY
    assert store.finds == finds


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
