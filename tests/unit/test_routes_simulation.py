"""Specifies that the strategies, and hedging, are worth what docs/routing.md says: `make routes`, on a smaller scale."""

import re
from functools import cache

import pytest

from llm_gateway.domain.strategies import Hedge, Strategy
from tests.routes.__main__ import HEDGE, HEDGED, main, played
from tests.routes.choosers import BASELINES, STRATEGIES, Baseline, way
from tests.routes.claims import HEDGING, Played, broken_claims
from tests.routes.play import Play
from tests.routes.report import Summary, extra_cost, p99_factor
from tests.routes.timeline import Story, Timeline
from tests.routes.world import RATE, World, orders

REQUESTS = 2000


@cache
def of(name: Strategy | Baseline, hedge: Hedge | None = None) -> Summary:
    return played(name, requests=REQUESTS, seed=1, hedge=hedge)


def test_virtual_time_goes_in_order() -> None:
    timeline, seen = Timeline(), list[tuple[str, float]]()

    def story(name: str, *waits: float) -> Story:
        for wait in waits:
            seen.append((name, timeline.now))
            yield wait
        seen.append((name, timeline.now))

    timeline.tell(story("a", 2.0, 1.0), 1.0)
    timeline.tell(story("b", 1.0), 2.0)
    timeline.run()
    assert seen == [("a", 1.0), ("b", 2.0), ("a", 3.0), ("b", 3.0), ("a", 4.0)]


def test_a_seed_tells_everything() -> None:
    assert played("lowest_latency", requests=300, seed=7, hedge=HEDGE) == played(
        "lowest_latency", requests=300, seed=7, hedge=HEDGE
    )
    assert played("lowest_latency", requests=300, seed=7) != played("lowest_latency", requests=300, seed=8)


@pytest.mark.parametrize("name", [*BASELINES, *STRATEGIES])
def test_every_request_comes_to_an_end(name: Strategy | Baseline) -> None:
    world = World(3, 300 / RATE)
    all_got = Play(way(name, 3, world), world, 3).of(orders(3, 300))
    assert len(all_got) == 300
    assert all(got.calls >= 1 for got in all_got)
    for got in all_got:
        assert (got.whole_s is None) == (got.by is None)
        assert got.whole_s is None or got.cost > 0


def test_what_is_said_of_the_strategies_holds() -> None:
    off: Played = {name: of(name) for name in (*BASELINES, *STRATEGIES)}
    assert broken_claims(off, {}) == []


def test_the_claims_can_be_broken() -> None:
    swapped: dict[Strategy | Baseline, Summary] = {name: of(name) for name in (*BASELINES, *STRATEGIES)}
    swapped["lowest_latency"], swapped["lowest_cost"] = swapped["lowest_cost"], swapped["lowest_latency"]
    told = broken_claims(swapped, {"weighted": of("weighted")})
    assert "random has the lower p95 of whole answers than lowest_latency" in told
    assert "random is cheaper than lowest_cost" in told
    assert "under weighted, hedging leaves 1.00 of the p99 to the first content, not 0.7" in told


def test_lowest_cost_follows_the_prices() -> None:
    """`thrifty` is the cheapest for 60 % of the time, and then `shaky`; each has room for most."""
    shares = of("lowest_cost").shares
    assert shares["thrifty"] > 0.35
    assert shares["shaky"] > 0.3
    assert shares["swift"] < 0.05


def test_weights_share_the_answers() -> None:
    shares = of("weighted").shares
    assert [round(shares[name], 1) for name in ("swift", "steady", "thrifty", "shaky")] == [0.4, 0.3, 0.2, 0.1]


@pytest.mark.parametrize("name", HEDGED)
def test_hedging_cuts_the_tail(name: Strategy) -> None:
    """Few of 2,000 are beyond the 99th percentile, so that less is asked of them than of 10,000."""
    off, on = of(name), of(name, HEDGE)
    assert p99_factor(off, on) < HEDGING[name].p99_is + 0.1
    assert extra_cost(off, on) < HEDGING[name].extra_cost + 0.05
    assert extra_cost(off, on) <= extra_cost(off, on, written_out=True)
    assert 0.03 < on.hedged < 0.1
    assert on.calls > off.calls
    assert on.errors <= off.errors + 0.002


def test_the_budget_holds_where_more_would_be_hedged() -> None:
    on = of("weighted", Hedge(percentile=0.5, percent=4))
    assert 0.035 < on.hedged <= 0.04


def test_it_prints_what_the_documentation_promises(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--requests", "10", "--seed", "1"]) in (0, 1)
    printed = capsys.readouterr().out
    assert all(re.search(rf"^  {name} ", printed, re.MULTILINE) for name in (*BASELINES, *STRATEGIES))
    assert printed.count("    hedged ") == len(HEDGED)
    assert "10 requests in 0 minutes of virtual time, seed 1" in printed
