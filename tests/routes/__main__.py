"""`make routes`: 10,000 requests over four providers that drift, fail and change their prices, by every strategy.

It takes no time but the processor's, calls nobody, and prints the same for the same seed. Exit code 1 where anything
that docs/routing.md says of it does not hold.
"""

import argparse
import sys
import time
from collections.abc import Sequence

from rich.console import Console

from llm_gateway.domain.strategies import Hedge, Strategy
from tests.routes.choosers import BASELINES, STRATEGIES, Baseline, way
from tests.routes.claims import Played, broken_claims
from tests.routes.play import Play
from tests.routes.report import Summary, hedging_table, strategies_table, summary
from tests.routes.world import RATE, World, orders

HEDGE = Hedge(percentile=0.95)
HEDGED: tuple[Strategy, ...] = ("weighted", "priority", "lowest_latency", "lowest_cost", "sticky")


def played(name: Strategy | Baseline, *, requests: int, seed: int, hedge: Hedge | None = None) -> Summary:
    """What the strategy, or the baseline, comes to. The same world for all: its drifts take the whole run."""
    world = World(seed, requests / RATE)
    return summary(name, Play(way(name, seed, world, hedge), world, seed).of(orders(seed, requests)))


def main(words: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.routes")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    asked = parser.parse_args(words)
    console, began = Console(width=max(Console().width, 140)), time.monotonic()
    with console.status("playing"):
        off: Played = {
            name: played(name, requests=asked.requests, seed=asked.seed) for name in (*BASELINES, *STRATEGIES)
        }
        on = {name: played(name, requests=asked.requests, seed=asked.seed, hedge=HEDGE) for name in HEDGED}
    console.print(strategies_table(list(off.values())))
    console.print(hedging_table([(off[name], on[name]) for name in HEDGED]))
    broken = broken_claims(off, on)
    for claim in broken:
        console.print(claim, style="red", markup=False, soft_wrap=True)
    console.print(
        f"{asked.requests:,} requests in {asked.requests / RATE / 60:.0f} minutes of virtual time, seed {asked.seed}; "
        f"{time.monotonic() - began:.0f} s; "
        + (f"{len(broken)} claims do not hold" if broken else "what docs/routing.md says of it holds")
    )
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
