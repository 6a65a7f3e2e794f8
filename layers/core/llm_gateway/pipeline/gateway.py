"""The whole story of a request.

An `Exchange` is made for each call. `answer()` identifies the caller, reads the request, finds the deployments that may
serve it, opens the ledger's entry and calls one provider after the other until one answers; the body or the stream goes
out; `settle()`, after the caller's last byte, writes what it came to. Whoever drives it (the API, the library) calls
`settle` in the end, whatever happened.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING

from llm_gateway.dialects.dialect import DecodedAnswer, Endpoint
from llm_gateway.domain.catalog import Catalog, Recovery
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import DeploymentLimited, GatewayError
from llm_gateway.metering.cost import format_usd
from llm_gateway.observability.tracing import NoTracing, Tracer
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission
from llm_gateway.pipeline.answer_details import STREAM_HEADERS, leg_headers, with_details
from llm_gateway.pipeline.attempts import Attempts, MakeLeg
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.batches import Part, parts_of
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.catalog_source import Catalogs
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.holds import Holds
from llm_gateway.pipeline.idempotency import Idempotency, IdempotentRun
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.pricing import asked_tier
from llm_gateway.pipeline.provider_call import ProviderCall
from llm_gateway.pipeline.recovery import RecoveringStream
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.route import Route
from llm_gateway.schemas.openai_chat import (
    ModelRequest,
    read_chat_request,
    read_embeddings_request,
    read_moderation_request,
)

if TYPE_CHECKING:
    from llm_gateway.pipeline.shared_health import SharedHealth

LONGEST_FIRST_BYTE_S = 280.0
"""API Gateway drops a connection that is idle for five minutes; before that there is time for a real 504."""
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
    health: "SharedHealth | None" = None
    """None where each process keeps what it finds out to itself."""
    clock: Clock = field(default_factory=Clock)
    tracer: Tracer = field(default_factory=NoTracing)
    debug: Callable[..., None] | None = None
    """Gets the steps of each request, where somebody wants them."""

    def exchange(self, call: Call) -> "Exchange":
        return Exchange(self, call)


class Exchange:
    """One call, from its arrival to its ledger entry."""

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self.call = call
        self.outcome = Outcome(call.started)
        self.record: RequestRecord | None = None
        self.overhead_s = 0.0
        """Time spent on our side until the answer was ready."""
        self._key: VirtualKey
        self._catalog: Catalog
        self._request: ModelRequest
        self._attempts: Attempts | None = None
        self._calls: ProviderCall
        self._holds: Holds | None = None
        self._run: IdempotentRun | None = None
        self._settled = False

    @property
    def runs_on(self) -> bool:
        """Whether the call goes on though its caller has gone.

        Its answer is kept for the next try, or a hard budget must know what it costs: the provider bills what it
        writes, read or not.
        """
        if self._run is not None and self._run.held:
            return True
        return self._holds is not None and self._holds.money

    @property
    def replay_of(self) -> str | None:
        """The id of the earlier request whose answer this one gets, where it does."""
        return None if self._run is None else self._run.replay_of

    async def answer(self) -> Answer:
        """The answer, ready to be sent. Raises `GatewayError`."""
        try:
            answer = await self._answer()
        except GatewayError as error:
            self.failed(error)
            if (leg := self.outcome.leg) is not None:
                error.headers.setdefault("x-gateway-provider", leg.provider.name)
            if self._holds is not None:
                error.headers.update(self._holds.headers)
            if self._run is not None and self._run.held:
                await self._run.release()  # before the error goes out: whoever tries again at once must find it free
            raise
        self.outcome.answered = True
        return answer

    def failed(self, error: GatewayError) -> None:
        """Says that the call, or its stream, came to nothing."""
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
        if health is not None and health.due and self._attempts is not None:
            beside.append(asyncio.ensure_future(health.look()))
        try:
            await self._settle_accounts()
        finally:
            for each in beside:
                await each

    async def _settle_accounts(self) -> None:
        ended = self._gateway.clock.now()
        for leg in self.outcome.legs:
            await leg.close(gone=self.outcome.gone)
        if self._attempts is not None:
            self._attempts.close()
        if self._holds is None:
            return
        opened = await self._holds.record()
        record = self.outcome.final_record(opened, ended, self._price)
        with self._gateway.tracer.segment("ledger"):
            self.record = await self._holds.settle(record)
        self._gateway.report(self.record, self.overhead_s)

    async def _answer(self) -> Answer:
        gateway, call = self._gateway, self.call
        gateway.tracer.begin(call.trace)
        with gateway.tracer.segment("auth"):
            self._key = await gateway.auth.identify(call.token)
        self._request = _READ[call.endpoint](call.body)
        self._catalog = await gateway.catalog.current()
        gateway.circuits.policy = self._catalog.circuit
        if call.idempotency_key is not None and (kept := await self._begin_once()) is not None:
            return kept
        route = await self._route()
        ends = min(call.started + route.timeouts.total_s, call.deadline)
        first_byte_ends = min(ends, call.started + LONGEST_FIRST_BYTE_S)
        attempts = self._attempts = Attempts(route, gateway.circuits, gateway.clock, first_byte_ends)
        self._calls = ProviderCall(call.endpoint, gateway.dispatcher, gateway.clock, self._price, first_byte_ends, ends)
        leg = await self._opened(route, attempts, attempts.first(self._leg_at))
        with gateway.tracer.segment("upstream"):
            answer = await self._tried(attempts, leg)
        return answer if self._run is None else self._run.keep(answer)

    async def _route(self) -> Route:
        gateway, call = self._gateway, self.call
        name = call.path_model or self._request.model
        if name is None and call.endpoint == "moderations":
            from llm_gateway.pipeline.moderation_choice import default_moderation_model  # noqa: PLC0415 - seldom needed

            name = await default_moderation_model(self._catalog, gateway.dispatcher, self._key)
        route = await gateway.choice.choose(name, self._catalog, self._key, self._request.models)
        if gateway.debug is not None:
            first = route.deployments[0]
            gateway.debug(
                "routed", request_id=call.request_id, model=route.requested, to=f"{first.provider}:{first.model}"
            )
        return route

    def _leg_at(self, candidate: Candidate) -> Leg:
        """Raises `InvalidRequest` for a request that the deployment's wire cannot carry."""
        return self._leg_of(candidate, self._request)

    def _leg_of(self, candidate: Candidate, request: ModelRequest) -> Leg:
        deployment = candidate.deployment
        provider = self._catalog.provider_of(deployment)
        dialect = self._gateway.dispatcher.dialect_of(provider)
        if self.call.endpoint == "embeddings":
            parts = parts_of(request, dialect, deployment.model, provider)
        else:
            parts = [Part(request, dialect.encode(self.call.endpoint, request, deployment.model, provider))]
        tier = asked_tier(request.fields, provider)
        return Leg(candidate, provider, dialect, request, parts, self._key.team, tier)

    async def _opened(self, route: Route, attempts: Attempts, leg: Leg) -> Leg:
        """Opens the ledger's entry, with a hold of every limit. The leg anew, where a limit changes the request.

        A deployment that is at a limit of its own gives way to the next.
        """
        gateway = self._gateway
        self.record = gateway.accounts.record_of(
            self.call, self._key, self._request, route.requested, leg.deployment, route.timeouts.total_s
        )
        holds = self._holds = Holds(
            gateway.admission, gateway.accounts, self.call.endpoint, self._catalog, self._key, self.record
        )
        while True:
            try:
                with gateway.tracer.segment("ledger"):
                    request = await holds.take(leg)
            except DeploymentLimited:
                following = attempts.pass_over(self._leg_at)
                if following is None:
                    raise
                leg = following
            else:
                self._request = request
                return leg if leg.request is request else self._leg_at(leg.candidate)

    async def _tried(self, attempts: Attempts, leg: Leg) -> Answer:
        """The first leg's answer, or that of whichever comes after it. Raises what the caller is to be told."""
        while True:
            self._begin(leg)
            try:
                answer = await self._called(attempts, leg)
            except GatewayError as error:
                leg = await self._next_leg(leg, error, self._leg_at)
            else:
                attempts.deadline = self._calls.total_until
                return answer

    async def _next_leg(self, leg: Leg, error: GatewayError, make: MakeLeg) -> Leg:
        """The leg that comes after one that failed, in its time and with room in every limit."""
        attempts, gateway = self._attempts, self._gateway
        assert attempts is not None
        assert self._holds is not None
        leg.error, leg.ended_at = error, gateway.clock.now()
        await leg.close(gone=True)
        if gateway.debug is not None:
            gateway.debug(
                "failed", request_id=self.call.request_id, deployment=leg.deployment.name, error=error.message
            )
        following = await attempts.after(leg, error, make)
        while following is not None:
            try:
                request = await self._holds.widen(following, self._spent())
            except DeploymentLimited:
                following = attempts.pass_over(make)
            except GatewayError:
                break  # no room in a budget for one attempt more, or no ledger to ask
            else:
                return following if request is following.request else self._leg_of(following.candidate, request)
        raise attempts.told

    def _begin(self, leg: Leg) -> None:
        assert self._attempts is not None
        assert self.record is not None
        self.outcome.legs.append(leg)
        self.record = replace(self.record, provider=leg.provider.name, routed_model=leg.deployment.model)
        self._attempts.begins(leg)

    async def _called(self, attempts: Attempts, leg: Leg) -> Answer:
        if self._request.stream:
            mode = self.call.recovery or leg.candidate.group.recovery
            await self._calls.stream(leg, to_its_end=mode == "restart")
            attempts.succeeded(leg)
            self._measure_overhead()
            headers = {**self._headers(leg), **STREAM_HEADERS}
            return Answer(headers, stream=self._recovering(mode, attempts).stream(leg))
        decoded = await self._calls.whole(leg)
        attempts.succeeded(leg)
        return self._whole(decoded, leg)

    def _whole(self, decoded: DecodedAnswer, leg: Leg) -> Answer:
        """A buffered answer, whose usage and cost are known."""
        self._measure_overhead()
        usd = self.outcome.spent(self._price).usd
        cost = None if usd is None else format_usd(usd)
        headers = {**self._headers(leg), "content-type": "application/json"}
        if cost is not None:
            headers["x-gateway-cost-usd"] = cost
        body = decoded.body
        if self._catalog.x_gateway and self.call.body_object:
            latency_ms = round((self._gateway.clock.now() - self.call.started) * 1000)
            body = with_details(body, leg.provider.name, latency_ms, cost)
        return Answer(headers, body)

    def _recovering(self, mode: Recovery, attempts: Attempts) -> RecoveringStream:
        return RecoveringStream(
            self._request,
            self._calls,
            self._next_leg,
            self._catalog.provider_of,
            self._leg_of,
            self._begin,
            attempts.succeeded,
            lambda: self.outcome.used(self._price),
            recovers=mode == "continue",
        )

    def _headers(self, leg: Leg) -> dict[str, str]:
        assert self._holds is not None
        told = leg_headers(leg, len(self.outcome.legs), self.overhead_s)
        return {**told, **self._holds.headers}

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

    def _price(self, leg: Leg, usage: Usage, answered: str | None) -> Cost:
        assert self.record is not None
        record = replace(self.record, provider=leg.provider.name, routed_model=leg.deployment.model)
        return self._gateway.accounts.price(record, usage, answered, self._catalog)

    def _spent(self) -> Decimal:
        return self.outcome.spent(self._price).usd or Decimal(0)

    def _measure_overhead(self) -> None:
        """All time until now that was not the providers'."""
        now = self._gateway.clock.now()
        theirs = sum((each.ended_at or now) - (each.sent_at or now) for each in self.outcome.legs)
        self.overhead_s = max(0.0, now - self.call.started - theirs)
