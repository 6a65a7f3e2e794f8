"""A primary that fails and recovers, again and again, with a healthy fallback behind it; four minutes in twelve seconds.

A circuit's cool-down of 5 s is 0.25 s here: everything is twenty times as fast.
"""

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx

from llm_gateway.pipeline.clock import Clock
from tests.fakes.faulty_upstream import FaultyUpstream, Seen, Steps
from tests.fakes.faulty_wires import TEXT, WIRES
from tests.fakes.gateway_app import GatewayApp
from tests.faults.answers import Got, ask
from tests.faults.plays import healthy, spare, status, vanish

FASTER = 20
PHASE_S = 40 / FASTER
"""How long the primary is well, or not."""
PHASES = 6
BACK_WITHIN_S = 15 / FASTER
"""From a recovery until the primary serves again."""
ASKED_EVERY_S = 0.04
SETTLED_S = BACK_WITHIN_S + 0.35
"""After a change, on a machine that has other things to do: what comes later is certain to know of it."""
MOST_WHILE_DOWN = 0.35
"""Of the requests that came while the primary was known to be down, the calls that it saw for them at most."""

_CONFIG = """
[circuit]
cool_down_s = {cool_down_s}
[providers.p]
base_url = "{primary}/v1"
credential = "none"
[providers.s]
base_url = "{spare}/v1"
credential = "none"
[models.flaky]
deployments = [{{ provider = "p", model = "m" }}]
fallbacks = ["s:m"]
timeouts = {{ connect_s = 1, first_token_s = 2, idle_s = 2, total_s = 10 }}
"""


@dataclass(frozen=True)
class Asked:
    at: float
    """Seconds from the beginning."""
    got: Got


@dataclass(frozen=True)
class Flapped:
    asked: Sequence[Asked]
    calls: Sequence[float]
    """When the primary was called."""

    def faults(self) -> list[str]:
        return [*self._answers(), *itertools.chain.from_iterable(map(self._phase, range(PHASES)))]

    def told(self) -> Iterator[str]:
        """A line for each phase."""
        for phase in range(PHASES):
            within = [each for each in self.asked if _phase_of(each.at) == phase]
            served = Counter(each.got.headers.get("x-gateway-provider") for each in within)
            calls = sum(_phase_of(at) == phase for at in self.calls)
            state = "up" if is_up(phase) else "down"
            yield f"{phase * PHASE_S * FASTER:.0f} s, {state}: {len(within)} requests, by {dict(served)}, {calls} calls"

    def _answers(self) -> Iterator[str]:
        for each in self.asked:
            if each.got.status != 200 or each.got.text != TEXT or each.got.broken:
                yield f"at {each.at:.2f} s a caller got {each.got.status} {each.got.text!r} {each.got.error}"

    def _phase(self, phase: int) -> Iterator[str]:
        begins = phase * PHASE_S
        late = [each for each in self.asked if begins + SETTLED_S <= each.at < begins + PHASE_S - 0.1]
        if is_up(phase):
            elsewhere = [each.at for each in late if each.got.headers.get("x-gateway-provider") != "p"]
            if elsewhere:
                yield f"the primary is well since {begins:.1f} s, and did not serve at {elsewhere[0]:.2f} s"
            return
        calls = [at for at in self.calls if begins + SETTLED_S <= at < begins + PHASE_S - 0.1]
        if len(calls) > MOST_WHILE_DOWN * len(late):
            yield f"the primary is down since {begins:.1f} s, and saw {len(calls)} calls for {len(late)} requests"


def is_up(phase: int) -> bool:
    return phase % 2 == 0


def _phase_of(at: float) -> int:
    return int(at / PHASE_S)


def flap() -> Flapped:
    wire = WIRES[0]
    fails = (status(500), vanish, status(503))
    began = time.monotonic()

    def primary(seen: Seen) -> Steps:
        phase = _phase_of(seen.at - began)
        return (healthy if is_up(phase) else fails[phase // 2 % len(fails)])(wire, seen)

    with FaultyUpstream() as upstream:
        upstream.serve("p", primary)
        upstream.serve("s", lambda seen: spare(wire, seen))
        config = _CONFIG.format(cool_down_s=5 / FASTER, primary=upstream.url("p"), spare=upstream.url("s"))
        with GatewayApp(config, clock=Clock()) as app:
            began = time.monotonic()
            asked = asyncio.run(_ask_all(app, began))
        return Flapped(asked, [seen.at - began for seen in upstream.seen("p")])


async def _ask_all(app: GatewayApp, began: float) -> list[Asked]:
    async with httpx.AsyncClient(base_url=app.base_url, timeout=30) as client:

        async def one(number: int) -> Asked:
            await asyncio.sleep(began + number * ASKED_EVERY_S - time.monotonic())
            at = time.monotonic() - began
            return Asked(at, await ask(client, "flaky", "stream" if number % 2 else "buffered", app.auth))

        return await asyncio.gather(*map(one, range(int(PHASES * PHASE_S / ASKED_EVERY_S))))
