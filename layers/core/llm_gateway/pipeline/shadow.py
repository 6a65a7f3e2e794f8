"""A copy of a request at another deployment, to compare: its answer is recorded, and nobody sees it.

It has a ledger entry of its own, `<request id>-shadow` with the tag `shadow_of`, without a key, team or user: whoever
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

if TYPE_CHECKING:
    from llm_gateway.pipeline.gateway import Gateway
    from llm_gateway.pipeline.journey import Journey

SUFFIX = "-shadow"
TAG = "shadow_of"


class Shadow:
    """`record` is the request's as it was opened; `total_until` a reading of the clock."""

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        accounts: Accounts,
        clock: Clock,
        catalog: Catalog,
        record: RequestRecord,
        leg: Leg,
        total_until: float,
    ) -> None:
        self._endpoint = endpoint
        self._dispatcher = dispatcher
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
            tags={**record.tags, TAG: record.request_id},
        )

    async def run(self) -> RequestRecord:
        """Calls, reads the answer to its end, and settles. The record as it was written; raises nothing of ours."""
        leg, clock = self._leg, self._clock
        leg.sent_at = clock.now()
        leg.total_s = leg.within_s = max(0.0, self._total_until - leg.sent_at)
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
        except GatewayError as error:
            outcome.error = leg.error = leg.masked(error)
        finally:
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
    total_until = min(journey.calls.total_until, gateway.clock.now() + leg.timeouts.total_s)
    shadow = Shadow(
        journey.endpoint, gateway.dispatcher, gateway.accounts, gateway.clock, catalog, journey.record, leg, total_until
    )
    return asyncio.ensure_future(shadow.run())
