"""A request's way from the plan of its route to the deployment that answers.

Who comes next, and when, is `attempts`'; what one call brings is `provider_call`'s; what the limits hold is `holds`'.
"""

from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog, Deployment, Provider, Recovery
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import DeploymentLimited, GatewayError, InvalidRequest
from llm_gateway.pipeline.attempts import SHORTEST_TRY_S, Attempts, MakeLeg
from llm_gateway.pipeline.batches import Part, parts_of
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.holds import Holds
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.pricing import asked_tier
from llm_gateway.pipeline.provider_call import ProviderCall
from llm_gateway.pipeline.recovery import RecoveringStream
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.features import Features
from llm_gateway.routing.plan import plan
from llm_gateway.routing.route import Route
from llm_gateway.schemas.openai_chat import ModelRequest

if TYPE_CHECKING:
    from llm_gateway.pipeline.gateway import Gateway

LONGEST_FIRST_BYTE_S = 280.0
"""API Gateway drops a connection that is idle for five minutes; before that there is time for a real 504."""


class Journey:
    """One request's. `outcome` gets every leg that is begun."""

    def __init__(
        self,
        gateway: "Gateway",
        call: Call,
        key: VirtualKey,
        catalog: Catalog,
        request: ModelRequest,
        route: Route,
        features: Features,
        outcome: Outcome,
        unwanted: Callable[[], bool] = lambda: False,
    ) -> None:
        """`unwanted` says whether nobody waits for an answer any more: what is under way is read, nothing is begun."""
        self._gateway = gateway
        self._call = call
        self._key = key
        self._catalog = catalog
        self._route = route
        self.request = request
        """As the limits have changed it."""
        self._outcome = outcome
        self.unwanted = unwanted
        ends = min(call.started + route.timeouts.total_s, call.deadline)
        first_byte_ends = min(ends, call.started + LONGEST_FIRST_BYTE_S)
        keyless = gateway.dispatcher.keyless.of(key.team)
        prices = Expected(gateway, catalog, features)
        planned = partial(plan, route, features, gateway.circuits, prices, keyless=keyless)
        self.attempts = Attempts(planned, gateway.circuits, gateway.clock, first_byte_ends)
        self.calls = ProviderCall(call.endpoint, gateway.dispatcher, gateway.clock, self.price, first_byte_ends, ends)
        self.record: RequestRecord | None = None
        """None until the ledger is about to know of the request."""
        self.holds: Holds | None = None

    @property
    def endpoint(self) -> Endpoint:
        return self._call.endpoint

    def price(self, leg: Leg, usage: Usage, answered: str | None) -> Cost:
        assert self.record is not None
        record = self.record.at(leg.provider.name, leg.deployment.model)
        return self._gateway.accounts.price(record, usage, answered, self._catalog)

    async def open(self) -> Leg:
        """Opens the ledger's entry, with a hold of every limit. The first leg, as the limits have changed it.

        A deployment that is at a limit of its own gives way to the next. Raises `InvalidRequest` where no candidate's
        wire can carry the request, and what `Holds.take` raises.
        """
        gateway, route = self._gateway, self._route
        leg = self.attempts.first(self.leg_at)
        self.record = gateway.accounts.record_of(
            self._call, self._key, self.request, route.requested, leg.deployment, route.timeouts.total_s
        )
        holds = self.holds = Holds(
            gateway.admission,
            gateway.accounts,
            self._call,
            self._catalog,
            self._key,
            self.record,
            self.attempts.deadline - SHORTEST_TRY_S,
        )
        refused: GatewayError | None = None
        while True:
            try:
                with gateway.tracer.segment("ledger"):
                    request = await holds.take(leg, patient=not self.attempts.others)
            except (DeploymentLimited, InvalidRequest) as error:
                refused = refused or error
                following = self.attempts.pass_over(self.leg_at)
                if following is None:
                    raise refused from None
                leg = following
            else:
                self.request = request
                leg = leg if leg.request is request else self.leg_at(leg.candidate)
                leg.bound_usd = holds.bound_usd
                return leg

    async def answered(self, leg: Leg, mode: Recovery | None) -> Leg:
        """The leg that answered, or whose stream has begun: the first, or whichever comes after it.

        Raises what the caller is to be told where none does. `mode` is the caller's wish for a stream that breaks.
        """
        hedge = None if self._route.alias is None else self._route.alias.hedge
        if hedge is not None:
            from llm_gateway.pipeline.hedged import hedged  # noqa: PLC0415 - few aliases are hedged

            leg, error = await hedged(self, self._gateway.hedging, self._route.requested, hedge, leg, mode)
        else:
            self.begin(leg)
            error = await self.called(leg, mode)
        while error is not None:
            leg = await self.next_leg(leg, error, self.leg_at)
            self.begin(leg)
            error = await self.called(leg, mode)
        self.attempts.deadline = self.calls.total_until
        return leg

    async def called(self, leg: Leg, mode: Recovery | None) -> GatewayError | None:
        """Calls; None where there is an answer (`leg.decoded`), or a stream that has begun (`leg.relay`)."""
        try:
            if self.request.stream:
                await self.calls.stream(leg, to_its_end=(mode or leg.candidate.group.recovery) == "restart")
            else:
                leg.decoded = await self.calls.whole(leg)
        except GatewayError as error:
            return leg.masked(error)
        self.attempts.succeeded(leg)
        return None

    async def next_leg(self, leg: Leg, error: GatewayError, make: MakeLeg) -> Leg:
        """The leg that comes after one that failed, in its time and with room in every limit."""
        await self.fail(leg, error)
        if self.unwanted():
            raise error
        following = await self.attempts.after(leg, error, make)
        while following is not None and not self.unwanted():
            try:
                return await self.widened(following, self._spent())
            except (DeploymentLimited, InvalidRequest):
                following = self.attempts.pass_over(make)
            except GatewayError:
                break  # no room in a budget for one attempt more, or no ledger to ask
        raise self.attempts.told

    async def widened(self, leg: Leg, spent_usd: Decimal) -> Leg:
        """The leg, as the limits have changed it. Raises what `Holds.widen` raises."""
        assert self.holds is not None
        request = await self.holds.widen(leg, spent_usd, patient=not self.attempts.others)
        leg = leg if request is leg.request else self.leg_of(leg.candidate, request)
        leg.bound_usd = self.holds.bound_usd
        return leg

    async def widened_beside(self, leg: Leg) -> Leg:
        """The same for a leg that runs beside another: all that this one can cost is held as well."""
        assert self.holds is not None
        return await self.widened(leg, max(self.holds.reserved_usd, self._spent()))

    def took_s(self, leg: Leg) -> float:
        return (leg.ended_at or self._gateway.clock.now()) - leg.begun_at

    async def fail(self, leg: Leg, error: GatewayError) -> None:
        """Says that a leg came to nothing, and frees its connection."""
        leg.error, leg.ended_at = error, self._gateway.clock.now()
        self.attempts.ended(leg)
        await leg.close(gone=True)
        if self._gateway.debug is not None:
            name = leg.deployment.name
            self._gateway.debug("failed", request_id=self._call.request_id, deployment=name, error=error.message)

    async def give_up(self, leg: Leg) -> None:
        """Ends a leg that is no longer wanted: its provider bills what it has begun."""
        leg.given_up, leg.ended_at = True, self._gateway.clock.now()
        self.attempts.left(leg)
        await leg.close(gone=True)

    def begin(self, leg: Leg) -> None:
        """Says that the leg is about to be sent."""
        assert self.record is not None
        self.attempts.begins(leg)
        self._outcome.legs.append(leg)
        self.record = self.record.at(leg.provider.name, leg.deployment.model)

    def settles_on(self, leg: Leg) -> None:
        """Says which of the legs that were begun the request is known by."""
        assert self.record is not None
        self._outcome.legs.remove(leg)
        self._outcome.legs.append(leg)
        self.record = self.record.at(leg.provider.name, leg.deployment.model)

    def recovering(self, mode: Recovery | None, leg: Leg) -> RecoveringStream:
        return RecoveringStream(self, recovers=(mode or leg.candidate.group.recovery) == "continue")

    def used(self) -> Usage:
        """What the legs so far came to."""
        return self._outcome.used(self.price)

    def provider_of(self, deployment: Deployment) -> Provider:
        return self._catalog.provider_of(deployment)

    def leg_at(self, candidate: Candidate) -> Leg:
        """Raises `InvalidRequest` for a request that the deployment's wire cannot carry."""
        return self.leg_of(candidate, self.request)

    def leg_of(self, candidate: Candidate, request: ModelRequest) -> Leg:
        deployment, endpoint = candidate.deployment, self._call.endpoint
        provider = self.provider_of(deployment)
        dialect = self._gateway.dispatcher.dialect_of(provider)
        if endpoint == "embeddings":
            parts = parts_of(request, dialect, deployment.model, provider)
        else:
            parts = [Part(request, dialect.encode(endpoint, request, deployment.model, provider))]
        return Leg(candidate, provider, dialect, request, parts, self._key.team, asked_tier(request.fields, provider))

    def _spent(self) -> Decimal:
        return self._outcome.spent(self.price).usd or Decimal(0)


class Expected:
    """What a request is expected to cost at a deployment, in US dollars; None where nobody knows."""

    _ANSWER_TOKENS = 300

    def __init__(self, gateway: "Gateway", catalog: Catalog, features: Features) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._features = features

    def __call__(self, deployment: Deployment) -> Decimal | None:
        most = self._features.max_output_tokens or self._ANSWER_TOKENS
        usage = Usage(self._features.input_tokens, min(most, self._ANSWER_TOKENS))
        return self._gateway.accounts.expected_usd(usage, deployment, self._catalog)
