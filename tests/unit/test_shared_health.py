"""Specifies what one process tells others of failing deployments, what they make of it, and what it costs."""

import asyncio
from collections.abc import Collection, Mapping

import pytest

from llm_gateway.adapters.memory_health import MemoryHealth
from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Provider
from llm_gateway.domain.health import Finding
from llm_gateway.domain.ports import HealthStore
from llm_gateway.domain.strategies import Condition, Rule
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.shared_health import EVERY_S, JITTER_S, SharedHealth, SharedNames
from llm_gateway.routing.circuits import Circuits, Opening
from llm_gateway.routing.faults import Fault
from tests.fakes.virtual_time import in_virtual_time, virtual_clock

ONE = "corp:small-1"
BROKEN = Fault("passing", code="upstream_cut")
UNIX_S = 1_770_000_000.0
"""Of the loop's time 0."""


def catalog(*deployments: Deployment, fallbacks: tuple[str, ...] = ("openai:gpt-4.1",)) -> Catalog:
    providers = {name: Provider(name, "openai_chat", "http://x") for name in ("corp", "openai")}
    aliases = {"fast": Alias("fast", deployments or (Deployment("corp", "small-1"),), fallbacks)}
    return Catalog(providers, aliases)


class Process:
    """One of several on a store. Its wall clock is `skew_s` ahead."""

    def __init__(
        self,
        store: HealthStore | None,
        *,
        seed: int = 0,
        skew_s: float = 0.0,
        own: Catalog | None = None,
    ) -> None:
        self.clock: Clock = virtual_clock(seed)
        self.circuits = Circuits(self.clock.now)
        self.turns: list[tuple[str, bool]] = []
        self.failing: list[Collection[str]] = []
        self.warnings: list[str] = []
        found = own or catalog()
        self.health = SharedHealth(
            self.circuits,
            None if store is None else lambda: store,
            lambda: found,
            self.clock,
            turned=self._turned,
            failing=self.failing.append,
            warn=self.warnings.append,
            wall=lambda: UNIX_S + self.clock.now() + skew_s,
        )

    def _turned(self, name: str, opening: Opening | None) -> None:
        self.turns.append((name, opening is not None))

    async def breaks(self, name: str = ONE, times: int = 5) -> None:
        for _ in range(times):
            self.circuits.failed(name, BROKEN, 0.1)
        await self.settles()

    async def settles(self) -> None:
        """What a request does after its last byte."""
        if self.health.due:
            await self.health.look()

    async def works(self, name: str = ONE) -> None:
        await asyncio.sleep(0.1)
        self.circuits.succeeded(name, 0.1)
        await self.settles()


@in_virtual_time
async def test_what_one_finds_out_protects_the_other() -> None:
    store = MemoryHealth()
    one, other = Process(store), Process(store, seed=1)
    await one.breaks()
    assert not other.circuits.open(ONE)
    await other.settles()
    assert other.circuits.open(ONE)
    told = other.circuits.opening(ONE)
    assert told is not None
    assert told.error == "upstream_cut"
    assert other.turns == [], "only what a process finds out itself is its own news"
    assert one.turns == [(ONE, True)]


@in_virtual_time
async def test_a_success_lets_everybody_back_at_once() -> None:
    store = MemoryHealth()
    one, other = Process(store), Process(store, seed=1)
    await one.breaks()
    await other.settles()
    await asyncio.sleep(5)
    assert one.circuits.try_enter(ONE)
    await one.works()
    assert other.circuits.opening(ONE) is not None
    await other.settles()
    assert other.circuits.opening(ONE) is None
    assert store.findings[ONE].until is None


@in_virtual_time
async def test_others_wait_a_little_longer_and_not_all_alike() -> None:
    store = MemoryHealth()
    one, *others = (Process(store, seed=number) for number in range(20))
    await one.breaks()
    own = one.circuits.opening(ONE)
    assert own is not None
    later = []
    for each in others:
        await each.settles()
        told = each.circuits.opening(ONE)
        assert told is not None
        later.append(told.rests_until - own.rests_until)
    assert -0.001 <= min(later) < 0.5
    assert JITTER_S / 2 < max(later) <= JITTER_S
    assert len(set(later)) == len(later)


@in_virtual_time
async def test_who_has_seen_it_work_since_believes_nothing_else() -> None:
    store = MemoryHealth()
    one, other = Process(store), Process(store, seed=1)
    await other.settles()
    for _ in range(5):
        one.circuits.failed(ONE, Fault("silent"), 100)  # they began long ago
    await other.works()
    await one.settles()
    await asyncio.sleep(EVERY_S)
    await other.settles()
    assert not other.circuits.open(ONE)


@in_virtual_time
async def test_a_try_that_hung_and_fails_late_keeps_nobody_away() -> None:
    store = MemoryHealth()
    one, other = Process(store), Process(store, seed=1)
    await one.breaks()
    await other.settles()
    await asyncio.sleep(5)
    assert one.circuits.try_enter(ONE)
    hung = one.clock.now()
    await asyncio.sleep(4)
    assert other.circuits.try_enter(ONE)
    await other.works()
    one.circuits.failed(ONE, Fault("silent"), one.clock.now() - hung)
    assert one.circuits.open(ONE)
    await one.settles()
    assert not one.circuits.open(ONE), "the store knew of a call that began later"
    assert store.findings[ONE].until is None


@in_virtual_time
async def test_only_its_own_circuits_are_told_of_and_once() -> None:
    store = MemoryHealth()
    one = Process(store)
    await one.breaks()
    for _ in range(10):
        one.circuits.failed(ONE, BROKEN, 0.1)
        await one.settles()
    assert store.calls == {"tell": 1, "read": 1}


@in_virtual_time
async def test_while_all_is_well_a_reading_every_two_seconds_of_requests_is_all() -> None:
    store = MemoryHealth()
    one = Process(store)
    for _ in range(100):
        await one.works()  # 0.1 s each
    assert store.calls == {"tell": 0, "read": 5}
    await asyncio.sleep(3600)
    assert store.calls["read"] == 5, "no requests, no readings"


@pytest.mark.parametrize("fallbacks", [(), ("openai:gpt-4.1",)])
def test_where_there_is_nobody_else_nothing_is_read_or_told(fallbacks: tuple[str, ...]) -> None:
    @in_virtual_time
    async def run() -> None:
        store = MemoryHealth()
        one = Process(store, own=catalog(fallbacks=fallbacks))
        await one.breaks()
        assert store.calls == ({"tell": 1, "read": 1} if fallbacks else {"tell": 0, "read": 0})
        assert one.turns == [(ONE, True)]
        assert one.failing == [[ONE]]

    run()


@in_virtual_time
async def test_names_that_callers_make_up_stay_here() -> None:
    store = MemoryHealth()
    one = Process(store)
    await one.breaks("openai:made-up")
    assert store.findings == {}


@in_virtual_time
async def test_names_in_the_store_that_nobody_configured_are_passed_over() -> None:
    store = MemoryHealth()
    now_ms = round((UNIX_S + asyncio.get_running_loop().time()) * 1000)
    await store.tell("corp:gone", Finding(now_ms, now_ms, now_ms + 5000, now_ms, "x"), {})
    one = Process(store)
    await one.settles()
    assert one.circuits.states() == {}


@in_virtual_time
async def test_what_is_long_over_says_nothing_and_is_forgotten() -> None:
    store = MemoryHealth()
    own = catalog(Deployment("corp", "small-1"), Deployment("corp", "small-2"))
    one, other = Process(store, own=own), Process(store, seed=1, own=own)
    await one.breaks("corp:small-2")
    await asyncio.sleep(70)
    await other.settles()
    assert other.circuits.opening("corp:small-2") is None
    await other.breaks()
    assert set(store.findings) == {ONE}


@pytest.mark.parametrize("skew_s", [-60.0, 60.0])
def test_clocks_that_differ_shorten_the_protection_and_never_lengthen_it(skew_s: float) -> None:
    @in_virtual_time
    async def run() -> None:
        store = MemoryHealth()
        one, other = Process(store, skew_s=skew_s), Process(store, seed=1)
        await one.breaks()
        await other.settles()
        told = other.circuits.opening(ONE)
        assert told is None or told.rests_until <= other.clock.now() + 10 + JITTER_S
        if told is not None:
            await asyncio.sleep(max(0.0, told.rests_until - other.clock.now()))
            assert other.circuits.try_enter(ONE)
            await other.works()
        assert other.circuits.opening(ONE) is None, "its own success counts, whatever another's clock says"

    run()


class Broken(MemoryHealth):
    """A store that is away, or hangs."""

    def __init__(self, hang_s: float | None = None) -> None:
        super().__init__()
        self._hang_s = hang_s

    async def tell(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> Finding | None:
        await self._fail()
        return await super().tell(name, finding, over)

    async def read(self) -> Mapping[str, Finding]:
        self.calls["read"] += 1
        await self._fail()
        return {}

    async def _fail(self) -> None:
        if self._hang_s is None:
            raise Unavailable("The gateway's own store does not answer.")
        await asyncio.sleep(self._hang_s)


@pytest.mark.parametrize("hang_s", [None, 3600.0])
def test_a_store_that_is_away_costs_a_second_at_most_and_is_left_alone(hang_s: float | None) -> None:
    @in_virtual_time
    async def run() -> None:
        store = Broken(hang_s)
        one = Process(store)
        began = one.clock.now()
        await one.breaks()
        assert one.clock.now() - began <= 1.0
        assert one.circuits.open(ONE)
        for _ in range(80):
            await one.works("openai:gpt-4.1")
        assert store.calls["read"] == 1
        assert len(one.warnings) == 1
        assert "not shared" in one.warnings[0]

    run()


@in_virtual_time
async def test_without_a_store_a_process_goes_by_what_it_finds_out_alone() -> None:
    one = Process(None)
    await one.breaks()
    assert one.circuits.open(ONE)
    assert one.turns == [(ONE, True)]
    assert one.failing == [[ONE]]


@in_virtual_time
async def test_those_that_fail_are_reported_every_two_seconds_of_requests_while_there_are_any() -> None:
    store = MemoryHealth()
    one, other = Process(store), Process(store, seed=1)
    await one.breaks()
    for _ in range(50):
        await other.works("openai:gpt-4.1")
    assert other.failing == [[ONE]] * 3
    await asyncio.sleep(JITTER_S)
    assert other.circuits.try_enter(ONE)
    await other.works()
    reported = len(other.failing)
    await asyncio.sleep(EVERY_S)
    await other.settles()
    assert len(other.failing) == reported


@in_virtual_time
async def test_an_outage_seen_by_twenty_processes() -> None:
    """A request a second each; the primary fails for half a minute. Who would have called it, and when all are back."""
    store = MemoryHealth()
    processes = [Process(store, seed=number) for number in range(20)]
    fails_from, well_from = 1010.0, 1040.0
    calls: list[float] = []
    served: dict[int, float] = {}

    async def request(number: int) -> None:
        process = processes[number]
        now = process.clock.now()
        if not process.circuits.open(ONE) and process.circuits.try_enter(ONE):
            failing = fails_from <= now < well_from
            await asyncio.sleep(0.1)
            if failing:
                calls.append(now)
                process.circuits.failed(ONE, BROKEN, 0.1)
            else:
                process.circuits.succeeded(ONE, 0.1)
                if now >= well_from:
                    served.setdefault(number, now)
        await process.settles()

    async def caller(number: int) -> None:
        await asyncio.sleep(number / 20)
        while processes[number].clock.now() < 1060:
            await request(number)
            await asyncio.sleep(1)

    await asyncio.gather(*(caller(number) for number in range(20)))
    opened = min(call for call in calls if sum(each <= call for each in calls) >= 5)
    after = [call for call in calls if call > opened + EVERY_S + 3]
    assert len(after) <= 30, "tries, and not requests: 20 a second would have come"
    assert len(served) == 20
    assert max(served.values()) - well_from <= 15
    assert store.calls["tell"] <= 60
    assert store.calls["read"] <= 20 * 60 / EVERY_S + 20


def test_shared_are_those_that_an_operator_wrote_down_where_there_are_others() -> None:
    found = Catalog(
        {name: Provider(name, "openai_chat", "http://x") for name in ("corp", "azure_openai")},
        {
            "alone": Alias("alone", (Deployment("corp", "alone"),)),
            "two": Alias("two", (Deployment("corp", "a", region="eu"), Deployment("corp", "b", key="k"))),
            "falls": Alias("falls", (Deployment("corp", "c"),), ("alone", "azure-openai/gpt", "bare")),
            "ruled": Alias(
                "ruled", (Deployment("corp", "d"),), rules=(Rule(Condition(stream=True), "corp:for-streams"),)
            ),
        },
        default_provider="corp",
    )
    assert SharedNames().of(found) == {
        "corp:a@eu",
        "corp:b#k",
        "corp:c",
        "corp:alone",
        "azure_openai:gpt",
        "corp:bare",
        "corp:d",
        "corp:for-streams",
    }
