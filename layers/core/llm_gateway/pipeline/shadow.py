"""A copy of a request at another deployment, to compare: its answer is recorded, and nobody sees it.

It has a ledger entry of its own, `<request id>-shadow` with the tag `shadow=true`, without a key, team or user: whoever
pays for the provider pays for it, and no budget of the caller's does. It takes the system's key of the provider.
"""

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError, InvalidRequest
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.provider_call import ProviderCall
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.faults import fault_of

if TYPE_CHECKING:
    from llm_gateway.pipeline.gateway import Gateway
    from llm_gateway.pipeline.journey import Journey

SUFFIX = "-shadow"
TAG = "shadow"
"""Whose copy it is, its id says: a tag with an id in it would be a row of its own in the totals."""
LONGEST_S = 120.0
"""Nobody waits for it, and a Lambda environment is kept by it."""
MOST_AT_ONCE = 20
"""Calls under way at a deployment, beyond which no copy is sent there."""


class Shadow:
    """`record` is the request's as it was opened; `total_until` a reading of the clock."""

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        circuits: Circuits,
        accounts: Accounts,
        clock: Clock,
        catalog: Catalog,
        record: RequestRecord,
        leg: Leg,
        total_until: float,
    ) -> None:
        self._endpoint = endpoint
        self._dispatcher = dispatcher
        self._circuits = circuits
        self._accounts = accounts
        self._clock = clock
        self._catalog = catalog
        self._leg = leg
        self._total_until = total_until
        self._record = replace(
            record,
            request_id=record.request_id + SUFFIX,
            provider=leg.provider.name,
            routed_model=leg.deployment.model,
            key=None,
            key_id=None,
            team=None,
            user=None,
            scopes=(),
            reserved_usd=None,
            tags={**record.tags, TAG: "true"},
        )

    async def run(self) -> RequestRecord:
        """Calls, reads the answer to its end, and settles. The record as it was written; raises nothing of ours."""
        leg, clock = self._leg, self._clock
        leg.sent_at = clock.now()
        leg.total_s = max(0.0, self._total_until - leg.sent_at)
        leg.within_s = min(leg.timeouts.first_token_s, leg.total_s)
        name = leg.deployment.name
        self._circuits.begin(name)
        outcome = Outcome(leg.sent_at, legs=[leg])
        await self._accounts.open(self._record)
        until = self._total_until
        calls = ProviderCall(self._endpoint, self._dispatcher, clock, self._price, until, until)
        try:
            if leg.request.stream:
                await calls.stream(leg, to_its_end=True)
            else:
                await calls.whole(leg)
            outcome.answered = True
            self._circuits.succeeded(name, clock.now() - leg.begun_at)
        except GatewayError as error:
            outcome.error = leg.error = leg.masked(error)
            self._circuits.failed(name, fault_of(error), clock.now() - leg.begun_at)
        finally:
            self._circuits.ended(name)
            await leg.close()
        record = outcome.final_record(self._record, clock.now(), self._price)
        await self._accounts.settle(record)
        return record

    def _price(self, leg: Leg, usage: Usage, answered: str | None) -> Cost:
        del leg
        return self._accounts.price(self._record, usage, answered, self._catalog)


def shadow_of(
    journey: "Journey", candidate: Candidate, gateway: "Gateway", catalog: Catalog
) -> "asyncio.Task[RequestRecord] | None":
    """The copy under way; None where the deployment's wire cannot carry the request."""
    try:
        leg = journey.leg_of(candidate, journey.request)
    except InvalidRequest:
        return None
    leg.team = None
    assert journey.record is not None
    name = leg.deployment.name
    if gateway.circuits.state(name).in_flight >= MOST_AT_ONCE:
        return None
    now = gateway.clock.now()
    total_until = min(journey.calls.total_until, now + leg.timeouts.total_s, now + LONGEST_S)
    shadow = Shadow(
        journey.endpoint,
        gateway.dispatcher,
        gateway.circuits,
        gateway.accounts,
        gateway.clock,
        catalog,
        journey.record,
        leg,
        total_until,
    )
    return asyncio.ensure_future(shadow.run())
