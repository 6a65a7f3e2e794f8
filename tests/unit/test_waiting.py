"""Specifies waiting in line: who asks when, how often the store is asked, and who is let in first."""

import asyncio
import random
from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.limits import Budget, Grant, Hold, Policy, Refusal, Scope
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.errors import DeploymentLimited, QuotaExceeded, RateLimited
from llm_gateway.pipeline.admission import Admission, Admitted, queue_s
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Limited, Reservations
from llm_gateway.pipeline.waiting import Lines, Place
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request
from tests.contract.records import open_record
from tests.fakes.virtual_time import in_virtual_time, run_in_virtual_time, virtual_clock

MINUTE = 1_770_000_000 // 60 * 60
KEY, TEAM, MODEL = Scope("key", "prod"), Scope("team", "search"), Scope("model", "fast")
AT_A = Scope("deployment", "corp:a")
NEVER = float("inf")


class CountedScopes(MemoryScopes):
    """Its answers take 10 ms. Knows when it was asked, by whom."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, float]] = []

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        self.asked.append((request_id, now))
        answer = await super().reserve(request_id, hold, policy, now)
        await asyncio.sleep(0.01)
        return answer


class Accounts(MemoryLedger):
    async def settle(self, record: RequestRecord, _holds: object = ()) -> bool:
        return await super().settle(record)


class NoPrices:
    def bound(self, *_: object) -> Any:
        raise AssertionError("nothing here has a hard budget")


class Process:
    """A gateway's admission, on stores that others may share. Its day begins at a minute's beginning."""

    def __init__(self, scopes: MemoryScopes, ledger: Accounts, seed: int = 0) -> None:
        loop = asyncio.get_running_loop()
        self._began = loop.time()
        self.ledger = ledger
        self.clock = virtual_clock(seed)
        self._records: dict[str, RequestRecord] = {}
        self.lines = Lines(self.clock)
        repair = Repair(ledger, scopes, lambda: "charge", self.now)
        reservations = Reservations(ledger, scopes, repair, lambda _: None, lambda *_: None, self.now)
        self.admission = Admission(reservations, NoPrices(), self.now, lines=self.lines)

    def now(self) -> float:
        return MINUTE + asyncio.get_running_loop().time() - self._began

    @property
    def passed_s(self) -> float:
        return self.now() - MINUTE

    def place(self, seconds: float, until: float = NEVER) -> Place:
        return self.lines.place(seconds, until)

    async def admit(self, request_id: str, place: Place | None, *limited: Limited, max_tokens: int = 0) -> Admitted:
        record = self._records.setdefault(request_id, self._record(request_id))
        asked = request(max_completion_tokens=max_tokens) if max_tokens else request()
        return await self.admission.admit(
            "chat.completions", record, limited, asked, 1, Deployment("corp", "a"), Catalog({}, {}), place=place
        )

    def _record(self, request_id: str) -> RequestRecord:
        at = self.now()
        return open_record(request_id, at_ms=int(at * 1000), expires_at=int(at) + 900, reserved_usd=None)

    async def settle(self, admitted: Admitted, tokens: int = 0) -> None:
        settled = replace(admitted.record, status="settled", cost_usd=Decimal(0), usage=Usage(tokens, 0))
        await self.admission.settle(settled, admitted, self.ledger)  # type: ignore[arg-type]

    async def run(self, request_id: str, seconds: float, *limited: Limited, serves_s: float) -> float:
        """When it was let in."""
        admitted = await self.admit(request_id, self.place(seconds), *limited)
        entered = self.passed_s
        await asyncio.sleep(serves_s)
        await self.settle(admitted)
        return entered


def alone() -> tuple[Process, CountedScopes]:
    scopes = CountedScopes()
    return Process(scopes, Accounts()), scopes


def request(**more: Any) -> ModelRequest:
    return read_chat_request(orjson.dumps({"messages": [{"role": "user", "content": "hello"}], **more}))


def of_key(**limits: Any) -> Limited:
    return Limited(KEY, Policy(**limits))


@in_virtual_time
async def test_it_waits_for_the_end_of_the_one_before_it_and_not_a_moment_longer() -> None:
    process, _ = alone()
    first = await process.admit("req_1", None, of_key(parallel=1))
    second = asyncio.ensure_future(process.admit("req_2", process.place(30), of_key(parallel=1)))
    await asyncio.sleep(7)
    assert not second.done()
    ended = process.passed_s
    await process.settle(first)
    await second
    assert process.passed_s - ended < 0.05


@in_virtual_time
async def test_they_are_let_in_as_they_came() -> None:
    process, scopes = alone()
    first = await process.admit("req_0", None, of_key(parallel=1))
    runs = []
    for number in range(1, 9):
        runs.append(asyncio.ensure_future(process.run(f"req_{number}", 60, of_key(parallel=1), serves_s=2)))
        await asyncio.sleep(0.1)
    await process.settle(first)
    entered = await asyncio.gather(*runs)
    assert all(2 <= later - earlier < 2.1 for earlier, later in pairwise(entered))
    # Nobody asks but who is first: each twice or so, and every two seconds or less while nothing ends.
    assert len(scopes.asked) < 1 + 8 * 6


@in_virtual_time
async def test_a_minutes_limit_is_asked_again_when_the_minute_is_over() -> None:
    process, scopes = alone()
    await asyncio.sleep(20)
    for number in range(2):
        await process.settle(await process.admit(f"req_{number}", None, of_key(rpm=2)))
    admitted = await process.admit("req_3", process.place(60), of_key(rpm=2))
    assert 60 <= process.passed_s < 60.5
    assert [each for each, _ in scopes.asked].count("req_3") == 2
    (hold,) = admitted.reservation.holds
    assert hold.minute == MINUTE // 60 + 1


@in_virtual_time
async def test_who_cannot_be_let_in_in_time_hears_it_at_once() -> None:
    process, scopes = alone()
    await process.admit("req_1", None, of_key(rpm=1))
    place = process.place(30)
    with pytest.raises(RateLimited) as refused:
        await process.admit("req_2", place, of_key(rpm=1))
    assert place.waited_s == 0
    assert process.passed_s < 0.1
    assert refused.value.retry_after == pytest.approx(60, abs=1)
    # Nor does it queue up behind one that has the time.
    patient = asyncio.ensure_future(process.admit("req_3", process.place(60), of_key(rpm=1)))
    await asyncio.sleep(1)
    with pytest.raises(RateLimited):
        await process.admit("req_4", process.place(30), of_key(rpm=1))
    assert process.passed_s < 2
    await patient
    assert [each for each, _ in scopes.asked].count("req_3") == 2


@pytest.mark.parametrize("seconds", [0.5, 5, 45])
def test_after_its_time_it_is_a_429(seconds: float) -> None:
    @in_virtual_time
    async def story() -> None:
        process, _ = alone()
        await process.admit("req_1", None, of_key(parallel=1))
        place = process.place(seconds)
        with pytest.raises(RateLimited, match="1 parallel requests, 1 used"):
            await process.admit("req_2", place, of_key(parallel=1))
        assert process.passed_s == pytest.approx(seconds, abs=0.1)
        assert seconds - 1 < place.waited_s <= seconds + 0.1  # the rest went by while it asked
        assert process.lines.waiting(KEY) == 0

    story()


@in_virtual_time
async def test_it_never_waits_past_the_requests_own_time() -> None:
    process, _ = alone()
    await process.admit("req_1", None, of_key(parallel=1))
    with pytest.raises(RateLimited):
        await process.admit("req_2", process.place(60, process.clock.now() + 3), of_key(parallel=1))
    assert process.passed_s == pytest.approx(3, abs=0.1)


@in_virtual_time
async def test_one_that_was_never_first_asks_in_the_end() -> None:
    process, scopes = alone()
    await process.admit("req_1", None, of_key(parallel=1))
    first = asyncio.ensure_future(process.admit("req_2", process.place(60), of_key(parallel=1)))
    await asyncio.sleep(0.1)
    with pytest.raises(RateLimited, match="1 used"):
        await process.admit("req_3", process.place(5), of_key(parallel=1))
    assert [each for each, _ in scopes.asked].count("req_3") == 1
    first.cancel()


@in_virtual_time
async def test_tokens_that_were_not_used_make_room_before_the_minute_ends() -> None:
    process, _ = alone()
    first = await process.admit("req_1", None, of_key(tpm=1000), max_tokens=900)
    second = asyncio.ensure_future(process.admit("req_2", process.place(60), of_key(tpm=1000), max_tokens=900))
    await asyncio.sleep(5)
    assert not second.done()
    await process.settle(first, tokens=30)
    await second
    assert process.passed_s < 5.1


@in_virtual_time
async def test_who_leaves_is_out_of_the_line_at_once() -> None:
    process, scopes = alone()
    first = await process.admit("req_1", None, of_key(parallel=1))
    places = [process.place(60) for _ in range(3)]
    waiting = [
        asyncio.ensure_future(process.admit(f"req_w{at}", each, of_key(parallel=1))) for at, each in enumerate(places)
    ]
    await asyncio.sleep(5)
    asked = len(scopes.asked)
    for gone in (1, 0):
        places[gone].give_up()
        with pytest.raises(RateLimited):
            await waiting[gone]
    assert process.passed_s == pytest.approx(5, abs=0.05)
    assert process.lines.waiting(KEY) == 1
    assert {each for each, _ in scopes.asked[asked:]} <= {"req_w2"}
    await process.settle(first)
    await waiting[2]
    assert process.passed_s < 5.1


@in_virtual_time
async def test_one_that_waits_for_two_scopes_blocks_nobody_for_ever() -> None:
    """Each is first in one line and comes upon the other's: the older one goes first in both."""
    process, _ = alone()
    team = Limited(TEAM, Policy(parallel=1))
    in_key = await process.admit("req_k", None, of_key(parallel=1))
    in_team = await process.admit("req_t", None, team)
    older = asyncio.ensure_future(process.run("req_older", 60, of_key(parallel=1), team, serves_s=1))
    await asyncio.sleep(0.1)
    newer = asyncio.ensure_future(process.run("req_newer", 60, of_key(parallel=1), team, serves_s=1))
    await asyncio.sleep(0.1)
    await process.settle(in_team)
    await asyncio.sleep(3)
    await process.settle(in_key)
    assert await older < await newer < 8


@in_virtual_time
async def test_nothing_is_held_while_it_waits() -> None:
    process, scopes = alone()
    await process.admit("req_1", None, of_key(parallel=1))
    team = Limited(TEAM, Policy(parallel=5, rpm=9))
    waiting = asyncio.ensure_future(process.admit("req_2", process.place(20), of_key(parallel=1), team))
    await asyncio.sleep(10)
    level = await scopes.level(TEAM, MINUTE // 60, ())
    assert (level.in_flight, level.requests) == (0, 0)
    with pytest.raises(RateLimited):
        await waiting


@in_virtual_time
async def test_a_deployments_own_limit_is_not_waited_for_and_the_place_is_kept() -> None:
    process, _ = alone()
    full = Limited(AT_A, Policy(rpm=1))
    await process.admit("req_1", None, full)
    first = await process.admit("req_2", None, of_key(parallel=1))
    place = process.place(60)
    older = asyncio.ensure_future(process.admit("req_3", place, of_key(parallel=1), full))
    await asyncio.sleep(0.1)
    newer = asyncio.ensure_future(process.admit("req_4", process.place(60), of_key(parallel=1)))
    await asyncio.sleep(0.1)
    await process.settle(first)
    with pytest.raises(DeploymentLimited):
        await older
    assert (await newer).record.request_id == "req_4"
    second_try = asyncio.ensure_future(process.admit("req_3", place, of_key(parallel=1)))
    await asyncio.sleep(0.1)
    late = asyncio.ensure_future(process.admit("req_5", process.place(60), of_key(parallel=1)))
    await asyncio.sleep(0.1)
    assert process.lines.first(KEY) is place
    await process.settle(await newer)
    await process.settle(await second_try)
    await late


@pytest.mark.parametrize(
    ("limited", "max_tokens", "kind"),
    [
        (of_key(tpm=100), 500, RateLimited),  # more than the whole limit
        (Limited(AT_A, Policy(parallel=1)), 0, DeploymentLimited),
    ],
)
def test_what_waiting_does_not_help_is_not_waited_for(limited: Limited, max_tokens: int, kind: type[Exception]) -> None:
    @in_virtual_time
    async def story() -> None:
        process, _ = alone()
        await process.admit("req_1", None, limited)
        with pytest.raises(kind):
            await process.admit("req_2", process.place(50), limited, max_tokens=max_tokens)
        assert process.passed_s < 0.5

    story()


@in_virtual_time
async def test_one_that_does_not_wait_is_refused_as_ever_and_not_held_up() -> None:
    process, _ = alone()
    await process.admit("req_1", None, of_key(parallel=1))
    waiting = asyncio.ensure_future(process.admit("req_2", process.place(50), of_key(parallel=1)))
    await asyncio.sleep(1)
    with pytest.raises(RateLimited):
        await process.admit("req_3", None, of_key(parallel=1))
    assert process.passed_s < 1.5
    waiting.cancel()


@in_virtual_time
async def test_two_processes_take_turns_at_one_store_without_wearing_it_out() -> None:
    scopes, ledger = CountedScopes(), Accounts()
    one, other = Process(scopes, ledger, 1), Process(scopes, ledger, 2)
    runs = [
        asyncio.ensure_future(process.run(f"req_{name}{at}", 60, of_key(parallel=1), serves_s=1))
        for at in range(5)
        for name, process in (("a", one), ("b", other))
    ]
    entered = await asyncio.gather(*runs)
    assert all(later - earlier >= 1 for earlier, later in pairwise(sorted(entered)))
    assert max(entered) < 10 * (1 + 2)
    # With ten in line, and one that ends each second, two processes ask the store five times a second at the most.
    assert len(scopes.asked) < 5 * max(entered)


@given(
    st.lists(st.tuples(st.floats(0, 30), st.floats(0.1, 10), st.sampled_from([1, 5, 60])), min_size=1, max_size=15),
    st.integers(1, 3),
)
def test_parallel_requests_are_never_more_and_room_is_not_left_lying(
    drawn: list[tuple[float, float, int]], parallel: int
) -> None:
    """Whoever comes when, and takes however long: no more are in than may be, and nobody is refused beside free room."""

    async def story() -> None:
        process, _ = alone()
        served: list[tuple[float, float]] = []
        refused: list[float] = []

        async def one(at: int, comes: float, serves: float, seconds: int) -> None:
            await asyncio.sleep(comes)
            try:
                admitted = await process.admit(f"req_{at}", process.place(seconds), of_key(parallel=parallel))
            except RateLimited:
                refused.append(process.passed_s)
                return
            entered = process.passed_s
            await asyncio.sleep(serves)
            served.append((entered, process.passed_s))
            await process.settle(admitted)

        def inside(at: float) -> int:
            return sum(entered <= at < left for entered, left in served)

        await asyncio.gather(*(one(at, *each) for at, each in enumerate(drawn)))
        assert all(inside(entered) <= parallel for entered, _ in served)
        for at in refused:
            # The store's answer takes its time: who was in its way may have come or gone just then.
            moments = [at, *(moment for pair in served for moment in pair if abs(moment - at) <= 0.05)]
            assert max(inside(moment - shift) for moment in moments for shift in (0, 0.001)) == parallel
        assert process.lines.waiting(KEY) == 0

    run_in_virtual_time(story())


@pytest.mark.parametrize(
    ("asked", "of_scopes", "of_alias", "seconds"),
    [
        (None, {}, None, 0),
        (None, {}, 7, 7),
        (None, {TEAM: 3.0}, 7, 3),
        (None, {KEY: 0.0, TEAM: 3.0}, 7, 0),
        (12, {KEY: 1.0}, 7, 1),
        (0, {KEY: 1.0}, 7, 0),
    ],
)
def test_whose_word_counts(
    asked: float | None, of_scopes: Mapping[Scope, float], of_alias: float | None, seconds: float
) -> None:
    limited = [Limited(scope, Policy(rpm=1, queue_s=of_scopes.get(scope))) for scope in (KEY, TEAM)]
    assert queue_s(limited, asked, of_alias) == seconds


def test_pauses_grow_to_two_seconds_and_differ() -> None:
    async def pauses(seed: int) -> list[float]:
        scopes = CountedScopes()
        process = Process(scopes, Accounts(), seed)
        await process.admit("req_1", None, of_key(parallel=1))
        with pytest.raises(RateLimited):
            await process.admit("req_2", process.place(60), of_key(parallel=1))
        asked = [at for name, at in scopes.asked if name == "req_2"]
        return [later - earlier for earlier, later in pairwise(asked)]

    first, second = (run_in_virtual_time(pauses(seed)) for seed in (1, 2))
    assert first != second
    for drawn in (first, second):
        assert 0.12 < drawn[0] < 0.27
        assert all(1 <= pause < 2.05 for pause in drawn[5:-1])
        assert len(drawn) < 50


def test_a_hard_budget_is_not_waited_for() -> None:
    """Money that others hold is asked for again for a moment, as it is without a line, and then refused."""

    class Bounds:
        def bound(self, *_: object) -> Any:
            return Bound()

    class Bound:
        output_tokens, most_output_tokens, answers = 10, None, 1
        members: Mapping[str, Any] = {}

        def usd(self, _: int) -> Decimal:
            return Decimal(1)

        def output_that_fits(self, _: Decimal) -> int:
            return -1

    @in_virtual_time
    async def story() -> None:
        process, _ = alone()
        process.admission._pricing = Bounds()
        limited = Limited(KEY, Policy(parallel=9, budgets=(Budget(Decimal(1), "total"),)))
        await process.admit("req_1", None, limited)
        with pytest.raises(QuotaExceeded):
            await process.admit("req_2", process.place(50), limited)
        assert process.passed_s < 0.5

    story()


def test_chance_is_the_clocks() -> None:
    drawn = random.Random(7)  # noqa: S311 - nothing secret
    lines = Lines(Clock(random=drawn.random))
    assert lines.clock.random() == random.Random(7).random()  # noqa: S311
