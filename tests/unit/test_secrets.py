"""Specifies how provider keys are remembered: few calls, fresh enough, there when the store is down, never printed."""

import asyncio

import pytest

from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.errors import Unavailable
from tests.fakes.manual_clock import ManualClock, settle
from tests.fakes.virtual_time import run_in_virtual_time

NAME = "llm-gateway/provider/openai"


class CountingSecrets(MemorySecrets):
    """Counts what it is asked, takes a moment to answer, and can be down or held up."""

    def __init__(self, **secrets: str) -> None:
        super().__init__({NAME: secrets.get("openai", "sk-one")})
        self.asked = 0
        self.down = False
        self.gate = asyncio.Event()
        self.gate.set()

    async def get_secret(self, name: str) -> str | None:
        self.asked += 1
        value = await super().get_secret(name)
        await self.gate.wait()
        await asyncio.sleep(0)
        if self.down:
            raise Unavailable("down")
        return value


@pytest.fixture
def store() -> CountingSecrets:
    return CountingSecrets()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def cached(store: CountingSecrets, clock: ManualClock, warnings: list[str]) -> CachedSecrets:
    return CachedSecrets(store, clock=clock, warn=warnings.append)


async def test_a_hundred_misses_are_one_call(store: CountingSecrets, cached: CachedSecrets) -> None:
    found = await asyncio.gather(*(cached.get_secret(NAME) for _ in range(100)))
    assert found == ["sk-one"] * 100
    assert store.asked == 1


async def test_a_hundred_failures_are_one_call_too(store: CountingSecrets, cached: CachedSecrets) -> None:
    store.down = True
    found = await asyncio.gather(*(cached.get_secret(NAME) for _ in range(100)), return_exceptions=True)
    assert all(isinstance(error, Unavailable) for error in found)
    assert store.asked == 1
    store.down = False
    assert await cached.get_secret(NAME) == "sk-one"


async def test_fresh_for_five_minutes(store: CountingSecrets, cached: CachedSecrets, clock: ManualClock) -> None:
    await cached.get_secret(NAME)
    store.put(NAME, "sk-two")
    clock.now += 299
    assert await cached.get_secret(NAME) == "sk-one"
    clock.now += 2
    assert await cached.get_secret(NAME) == "sk-two"
    assert store.asked == 2


async def test_that_there_is_none_is_remembered_for_half_a_minute(
    store: CountingSecrets, cached: CachedSecrets, clock: ManualClock
) -> None:
    assert await cached.get_secret("none") is None
    assert await cached.get_secret("none") is None
    assert store.asked == 1
    store.put("none", "sk-new")
    clock.now += 31
    assert await cached.get_secret("none") == "sk-new"


async def test_invalidated_is_asked_again(store: CountingSecrets, cached: CachedSecrets) -> None:
    await cached.get_secret(NAME)
    store.put(NAME, "sk-two")
    cached.invalidate(NAME)
    assert await cached.get_secret(NAME) == "sk-two"


async def test_a_wrong_key_does_not_turn_into_calls(
    store: CountingSecrets, cached: CachedSecrets, clock: ManualClock
) -> None:
    """Every request with it meets a 401 and invalidates."""
    for _ in range(100):
        await cached.get_secret(NAME)
        cached.invalidate(NAME)
    assert store.asked == 2
    clock.now += 6
    cached.invalidate(NAME)
    await cached.get_secret(NAME)
    assert store.asked == 3


async def test_a_read_from_before_the_invalidation_is_not_kept(store: CountingSecrets, cached: CachedSecrets) -> None:
    store.gate.clear()
    early = asyncio.create_task(cached.get_secret(NAME))
    await settle()
    store.put(NAME, "sk-two")
    cached.invalidate(NAME)
    late = asyncio.create_task(cached.get_secret(NAME))
    await settle()
    store.gate.set()
    assert (await early, await late) == ("sk-one", "sk-two")
    assert await cached.get_secret(NAME) == "sk-two"


async def test_the_old_key_serves_while_the_store_is_down(
    store: CountingSecrets, cached: CachedSecrets, clock: ManualClock, warnings: list[str]
) -> None:
    await cached.get_secret(NAME)
    store.down = True
    clock.now += 301
    assert await cached.get_secret(NAME) == "sk-one"
    assert len(warnings) == 1
    assert NAME in warnings[0]
    assert "sk-one" not in warnings[0]
    asked = store.asked
    assert await cached.get_secret(NAME) == "sk-one"
    assert store.asked == asked, "nobody waits for a store that was down a moment ago"
    clock.now += 6
    assert await cached.get_secret(NAME) == "sk-one"
    await settle()
    assert store.asked == asked + 1
    store.put(NAME, "sk-two")
    store.down = False
    clock.now += 6
    assert await cached.get_secret(NAME) == "sk-one"
    await settle()
    assert await cached.get_secret(NAME) == "sk-two"


async def test_but_not_for_ever(store: CountingSecrets, cached: CachedSecrets, clock: ManualClock) -> None:
    await cached.get_secret(NAME)
    store.down = True
    clock.now += 3599
    assert await cached.get_secret(NAME) == "sk-one"
    clock.now += 2
    with pytest.raises(Unavailable):
        await cached.get_secret(NAME)


async def test_an_invalidated_key_still_serves_while_the_store_is_down(
    store: CountingSecrets, cached: CachedSecrets
) -> None:
    await cached.get_secret(NAME)
    store.down = True
    cached.invalidate(NAME)
    assert await cached.get_secret(NAME) == "sk-one"


async def test_a_cancelled_caller_takes_nobodys_answer_away(store: CountingSecrets, cached: CachedSecrets) -> None:
    first = asyncio.create_task(cached.get_secret(NAME))
    second = asyncio.create_task(cached.get_secret(NAME))
    await asyncio.sleep(0)
    first.cancel()
    assert await second == "sk-one"
    assert store.asked == 1


async def test_a_new_name_pushes_out_the_least_used(store: CountingSecrets, clock: ManualClock) -> None:
    cached = CachedSecrets(store, clock=clock, limit=100)
    for number in range(101):
        store.put(str(number), "sk")
        await cached.get_secret(str(number))
    await cached.get_secret("100")
    assert store.asked == 101
    await cached.get_secret("0")
    assert store.asked == 102


class TestATeamsOwn:
    """Every request of a team asks for its own key, and most teams have none."""

    TEAMS = "llm-gateway/team/search/openai"

    async def test_that_there_is_none_is_remembered_for_five_minutes(
        self, store: CountingSecrets, cached: CachedSecrets, clock: ManualClock
    ) -> None:
        assert await asyncio.gather(*(cached.get_secret(self.TEAMS) for _ in range(100))) == [None] * 100
        assert store.asked == 1
        store.put(self.TEAMS, "sk-own")
        clock.now += 299
        assert await cached.get_secret(self.TEAMS) is None
        clock.now += 2
        assert await cached.get_secret(self.TEAMS) == "sk-own"
        assert store.asked == 2

    async def test_but_not_when_a_key_was_refused(self, store: CountingSecrets, cached: CachedSecrets) -> None:
        assert await cached.get_secret(self.TEAMS) is None
        store.put(self.TEAMS, "sk-own")
        cached.invalidate(self.TEAMS)
        assert await cached.get_secret(self.TEAMS) == "sk-own"

    async def test_teams_without_one_are_served_while_the_store_is_down(
        self, store: CountingSecrets, cached: CachedSecrets, clock: ManualClock, warnings: list[str]
    ) -> None:
        assert await cached.get_secret(self.TEAMS) is None
        store.down = True
        clock.now += 301
        assert await asyncio.gather(*(cached.get_secret(self.TEAMS) for _ in range(100))) == [None] * 100
        assert store.asked == 2
        assert len(warnings) == 1
        assert self.TEAMS in warnings[0]
        clock.now += 4
        assert await cached.get_secret(self.TEAMS) is None
        assert store.asked == 2, "nobody waits for a store that was down a moment ago"
        store.down = False
        store.put(self.TEAMS, "sk-own")
        clock.now += 2
        assert await cached.get_secret(self.TEAMS) == "sk-own"

    async def test_but_not_for_ever(self, store: CountingSecrets, cached: CachedSecrets, clock: ManualClock) -> None:
        assert await cached.get_secret(self.TEAMS) is None
        store.down = True
        clock.now += 3599
        cached.invalidate(self.TEAMS)
        assert await cached.get_secret(self.TEAMS) is None
        clock.now += 10
        with pytest.raises(Unavailable):
            await cached.get_secret(self.TEAMS)

    async def test_what_was_never_asked_is_not_taken_as_not_there(
        self, store: CountingSecrets, cached: CachedSecrets
    ) -> None:
        store.down = True
        with pytest.raises(Unavailable):
            await cached.get_secret(self.TEAMS)


async def test_no_secret_in_a_repr(cached: CachedSecrets, store: CountingSecrets) -> None:
    await cached.get_secret(NAME)
    for thing in (cached, store, cached._cache, *cached._cache._held.values()):
        assert "sk-one" not in repr(thing)
    assert repr(cached._cache._held).find("sk-one") == -1


def test_works_in_one_event_loop_after_another(
    store: CountingSecrets, cached: CachedSecrets, clock: ManualClock
) -> None:
    """A buffered handler may run each request in a loop of its own."""
    store.down = False
    assert asyncio.run(cached.get_secret(NAME)) == "sk-one"
    clock.now += 301
    store.gate = asyncio.Event()  # never set: the load is still under way when its loop ends

    async def gives_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(cached.get_secret(NAME), 0.01)

    run_in_virtual_time(gives_up())
    store.gate = asyncio.Event()
    store.gate.set()
    assert asyncio.run(cached.get_secret(NAME)) == "sk-one"
