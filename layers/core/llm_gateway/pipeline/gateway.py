"""The whole story of a request.

An `Exchange` is made for each call. `answer()` identifies the caller, reads the request, finds the deployments that may
serve it, opens the ledger's entry and calls one provider after the other until one answers; the body or the stream goes
out; `settle()`, after the caller's last byte, writes what it came to. Whoever drives it (the API, the library) calls
`settle` in the end, whatever happened.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, UpstreamTimeout
from llm_gateway.metering.cost import format_usd
from llm_gateway.observability.tracing import NoTracing, Tracer
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission
from llm_gateway.pipeline.answer_details import STREAM_HEADERS, leg_headers, route_taken, with_details
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.catalog_source import Catalogs
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.holds import Holds
from llm_gateway.pipeline.idempotency import Idempotency, IdempotentRun
from llm_gateway.pipeline.journey import Journey
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.request_features import read_features
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.features import Features
from llm_gateway.routing.hedging import Hedging
from llm_gateway.routing.route import Route
from llm_gateway.schemas.openai_chat import (
    ModelRequest,
    read_chat_request,
    read_embeddings_request,
    read_moderation_request,
)

if TYPE_CHECKING:
    from llm_gateway.pipeline.shared_health import SharedHealth

_READ: Mapping[Endpoint, Callable[[bytes], ModelRequest]] = {
    "chat.completions": read_chat_request,
    "embeddings": read_embeddings_request,
    "moderations": read_moderation_request,
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """The stages, put together by `bootstrap`. `report` gets every finished record, for logs and metrics."""

    auth: Identification
    catalog: Catalogs
    choice: ModelChoice
    dispatcher: Dispatcher
    accounts: Accounts
    admission: Admission
    report: Callable[[RequestRecord, float], None]
    circuits: Circuits
    idempotency: Idempotency | None = None
    """None where no call brings an idempotency key."""
    hedging: Hedging = field(default_factory=Hedging)
    health: "SharedHealth | None" = None
    """None where each process keeps what it finds out to itself."""
    clock: Clock = field(default_factory=Clock)
    tracer: Tracer = field(default_factory=NoTracing)
    debug: Callable[..., None] | None = None
    """Gets the steps of each request, where somebody wants them."""

    def exchange(self, call: Call) -> "Exchange":
        return Exchange(self, call)

    def features_of(
        self, call: Call, key: VirtualKey, request: ModelRequest, route: Route, catalog: Catalog
    ) -> Features:
        """What routing knows of a request."""
        used = None
        if any(rule.when.budget_used_above is not None for rule in route.rules):
            used = self.admission.budget_used(catalog, key, request.user, route.requested)
        return read_features(call, key, request, route.requested, used)


class Exchange:
    """One call, from its arrival to its ledger entry."""

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self.call = call
        self.outcome = Outcome(call.started)
        self.overhead_s = 0.0
        """Time spent on our side until the answer was ready."""
        self._key: VirtualKey
        self._catalog: Catalog
        self._journey: Journey | None = None
        self._run: IdempotentRun | None = None
        self._shadow: asyncio.Task[RequestRecord] | None = None
        self._written: RequestRecord | None = None
        self._settled = False

    @property
    def record(self) -> RequestRecord | None:
        """What the ledger knows of the call, or is about to; None where it came to nothing before."""
        if self._written is not None or self._journey is None:
            return self._written
        return self._journey.record

    @property
    def runs_on(self) -> bool:
        """Whether the call goes on though its caller has gone.

        Its answer is kept for the next try, or a hard budget must know what it costs: the provider bills what it
        writes, read or not.
        """
        if self._run is not None and self._run.held:
            return True
        holds = self._holds
        return holds is not None and holds.money

    @property
    def replay_of(self) -> str | None:
        """The id of the earlier request whose answer this one gets, where it does."""
        return None if self._run is None else self._run.replay_of

    @property
    def _holds(self) -> Holds | None:
        return None if self._journey is None else self._journey.holds

    async def answer(self) -> Answer:
        """The answer, ready to be sent. Raises `GatewayError`."""
        try:
            answer = await self._answer()
        except GatewayError as error:
            self.failed(error)
            if (leg := self.outcome.leg) is not None and self._journey is not None:
                error.headers.setdefault("x-gateway-provider", leg.provider.name)
                strategy = self._journey.attempts.plan.strategy
                error.headers.setdefault("x-gateway-route", route_taken(self.outcome.legs, strategy))
            if self._holds is not None:
                error.headers.update(self._holds.headers)
            if self._run is not None and self._run.held:
                await self._run.release()  # before the error goes out: whoever tries again at once must find it free
            raise
        self.outcome.answered = True
        return answer

    def failed(self, error: GatewayError) -> None:
        """Says that the call, or its stream, came to nothing."""
        if isinstance(error, UpstreamTimeout) and self._gateway.clock.now() >= self.call.deadline:
            error.error_code = "deadline_exceeded"  # the caller's time was up, or the platform's, not the provider's
        self.outcome.error = error

    def caller_gone(self) -> None:
        """Says that the caller left before the last byte."""
        self.outcome.gone = True

    async def settle(self) -> None:
        """Frees the provider's connection and writes the ledger's entry. Calls after the first do nothing."""
        if self._settled:
            return
        self._settled = True
        beside = [] if self._run is None else [asyncio.ensure_future(self._run.close())]
        health = self._gateway.health
        if health is not None and health.due and self._journey is not None:
            beside.append(asyncio.ensure_future(health.look()))
        try:
            await self._settle_accounts()
        finally:
            for each in beside:
                await each
            if self._shadow is not None:
                self._gateway.report(await self._shadow, 0.0)

    async def _settle_accounts(self) -> None:
        ended, journey = self._gateway.clock.now(), self._journey
        for leg in self.outcome.legs:
            await leg.close(gone=self.outcome.gone)
            if journey is not None:
                journey.attempts.left(leg)
        if journey is None or journey.holds is None:
            return
        opened = await journey.holds.record()
        record = self.outcome.final_record(opened, ended, journey.price)
        with self._gateway.tracer.segment("ledger"):
            self._written = await journey.holds.settle(record)
        self._gateway.report(self._written, self.overhead_s)

    async def _answer(self) -> Answer:
        gateway, call = self._gateway, self.call
        gateway.tracer.begin(call.trace)
        with gateway.tracer.segment("auth"):
            self._key = await gateway.auth.identify(call.token)
        request = _READ[call.endpoint](call.body)
        self._catalog = await gateway.catalog.current()
        gateway.circuits.policy = self._catalog.circuit
        if call.idempotency_key is not None and (kept := await self._begin_once()) is not None:
            return kept
        route = await self._route(request)
        features = gateway.features_of(call, self._key, request, route, self._catalog)
        journey = self._journey = Journey(
            gateway, call, self._key, self._catalog, request, route, features, self.outcome, self._unwanted
        )
        leg = await journey.open()
        self._begin_shadow(journey)
        with gateway.tracer.segment("upstream"):
            leg = await journey.answered(leg, call.recovery)
        answer = self._answer_of(journey, leg)
        return answer if self._run is None else self._run.keep(answer)

    async def _route(self, request: ModelRequest) -> Route:
        gateway, call = self._gateway, self.call
        name = call.path_model or request.model
        if name is None and call.endpoint == "moderations":
            from llm_gateway.pipeline.moderation_choice import default_moderation_model  # noqa: PLC0415 - seldom needed

            name = await default_moderation_model(self._catalog, gateway.dispatcher, self._key)
        route = await gateway.choice.choose(name, self._catalog, self._key, request.models)
        if gateway.debug is not None:
            first = route.deployments[0]
            gateway.debug(
                "routed", request_id=call.request_id, model=route.requested, to=f"{first.provider}:{first.model}"
            )
        return route

    def _unwanted(self) -> bool:
        """The caller has gone, and nobody will ask for the answer again."""
        return self.outcome.gone and not (self._run is not None and self._run.held)

    def _begin_shadow(self, journey: Journey) -> None:
        if (candidate := journey.attempts.plan.shadow) is None:
            return
        from llm_gateway.pipeline.shadow import shadow_of  # noqa: PLC0415 - few aliases have one

        self._shadow = shadow_of(journey, candidate, self._gateway, self._catalog)

    def _answer_of(self, journey: Journey, leg: Leg) -> Answer:
        self._measure_overhead()
        assert journey.holds is not None
        headers = {
            **leg_headers(self.outcome.legs, journey.attempts.plan.strategy, self.overhead_s),
            **journey.holds.headers,
        }
        if leg.decoded is None:
            headers |= STREAM_HEADERS
            return Answer(
                headers, b"", journey.recovering(self.call.recovery, leg).stream(leg), journey.calls.total_until
            )
        headers["content-type"] = "application/json"
        usd = self.outcome.spent(journey.price).usd
        cost = None if usd is None else format_usd(usd)
        if cost is not None:
            headers["x-gateway-cost-usd"] = cost
        body = leg.decoded.body
        if self._catalog.x_gateway and self.call.body_object:
            latency_ms = round((self._gateway.clock.now() - self.call.started) * 1000)
            body = with_details(body, leg.provider.name, latency_ms, cost)
        return Answer(headers, body)

    async def _begin_once(self) -> Answer | None:
        """The answer of an earlier request with this idempotency key; None where this one is to run."""
        assert self._gateway.idempotency is not None
        run = self._run = self._gateway.idempotency.run_of(self.call, self._key, self._catalog)
        with self._gateway.tracer.segment("ledger"):
            kept = await run.begin()
        if kept is None:
            return None
        self.overhead_s = max(0.0, self._gateway.clock.now() - self.call.started)
        return replace(kept, headers={**kept.headers, "x-gateway-overhead-ms": f"{self.overhead_s * 1000:.2f}"})

    def _measure_overhead(self) -> None:
        """All time until now that was not the providers', and not spent in line."""
        now = self._gateway.clock.now()
        theirs = sum((each.ended_at or now) - (each.sent_at or now) for each in self.outcome.legs)
        queued = 0.0 if self._holds is None else self._holds.queued_s
        self.overhead_s = max(0.0, now - self.call.started - theirs - queued)
