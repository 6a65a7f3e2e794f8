"""Specifies that a request is sent where its plan says, in that order: what explains it asks for the same plan."""

import asyncio
from functools import partial

from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Catalog, CircuitPolicy
from llm_gateway.errors import UpstreamUnauthenticated
from llm_gateway.pipeline.attempts import MOST_LEGS, Attempts
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.faults import Fault
from llm_gateway.routing.features import Features
from llm_gateway.routing.plan import plan
from llm_gateway.routing.resolve import resolve
from llm_gateway.schemas.openai_chat import ModelRequest
from tests.fakes.manual_clock import ManualClock
from tests.unit.drawn_plans import NAMES, catalogs, features

REQUEST = ModelRequest(b"{}", {}, "fast")
EVENTS = st.tuples(
    st.sampled_from(NAMES), st.sampled_from(["begin", "succeeded", "ended", "passing", "limited"]), st.floats(0, 3)
)


def lived_through(events: list[tuple[str, str, float]], clock: ManualClock) -> Circuits:
    circuits = Circuits(clock, CircuitPolicy(failures=2))
    for name, what, seconds in events:
        clock.now += seconds
        if what == "begin":
            circuits.begin(name)
        elif what == "succeeded":
            circuits.succeeded(name, seconds, ttft_s=seconds / 2)
        elif what == "ended":
            circuits.ended(name, tokens_per_s=10 * seconds)
        else:
            circuits.failed(name, Fault(what))  # type: ignore[arg-type]
    return circuits


async def tried(attempts: Attempts, catalog: Catalog) -> list[str]:
    """Where a request goes that is refused everywhere."""

    def make(candidate: Candidate) -> Leg:
        provider = catalog.providers[candidate.deployment.provider]
        return Leg(candidate, provider, Dialects()[provider.dialect], REQUEST, [])

    leg: Leg | None = attempts.first(make)
    found = []
    while leg is not None:
        found.append(leg.deployment.name)
        attempts.begins(leg)
        leg.error = UpstreamUnauthenticated("No.")
        attempts.ended(leg)
        leg = await attempts.after(leg, leg.error, make)
    return found


@given(catalogs(), features, st.lists(EVENTS, max_size=40))
def test_a_request_goes_where_its_plan_says(
    catalog: Catalog, of: Features, events: list[tuple[str, str, float]]
) -> None:
    clock = ManualClock()
    circuits = lived_through(events, clock)
    planned = partial(plan, resolve("fast", catalog, ()), of, circuits)
    explained = [each.deployment.name for each in planned().candidates]
    attempts = Attempts(planned, circuits, Clock(now=clock), clock.now + 600)
    assert asyncio.run(tried(attempts, catalog)) == explained[:MOST_LEGS]
