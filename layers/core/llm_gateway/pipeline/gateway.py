"""The whole story of a request.

An `Exchange` is made for each call. `answer()` identifies the caller, reads the request, picks a deployment, opens the
ledger's entry and calls the provider; the body or the stream goes out; `settle()`, after the caller's last byte, writes
what it came to. Whoever drives it (the API, the library) calls `settle` in the end, whatever happened.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import orjson

from llm_gateway.dialects.dialect import DecodedAnswer, Dialect, EncodedRequest, Endpoint, Framing
from llm_gateway.dialects.json_splice import add_member, set_member
from llm_gateway.domain.catalog import Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.domain.usage import Cost, RequestRecord, Usage
from llm_gateway.errors import GatewayError, Unavailable, UpstreamMalformed
from llm_gateway.metering.cost import format_usd
from llm_gateway.observability.tracing import NoTracing, Tracer
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission, Admitted, with_members
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.batches import BatchCalls, Part, parts_of
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.catalog_source import Catalogs
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.idempotency import Idempotency, IdempotentRun
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.outcome import Outcome, estimate
from llm_gateway.pipeline.pricing import asked_tier
from llm_gateway.pipeline.relay import StreamRelay
from llm_gateway.pipeline.reservations import Limited
from llm_gateway.routing.resolve import Route
from llm_gateway.schemas.openai_chat import (
    ModelRequest,
    read_chat_request,
    read_embeddings_request,
    read_moderation_request,
)
from llm_gateway.upstream.framings import FRAMINGS

_LONGEST_ANSWER = 64 << 20
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
    idempotency: Idempotency | None = None
    """None where no call brings an idempotency key."""
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
        self._catalog: Catalog
        self._provider: Provider
        self._request: ModelRequest
        self._response: HttpResponse | None = None
        self._relay: StreamRelay | None = None
        self._run: IdempotentRun | None = None
        self._admission: asyncio.Task[Admitted] | None = None
        self._settled = False

    @property
    def runs_on(self) -> bool:
        """Whether the call goes on though its caller has gone.

        Its answer is kept for the next try, or a hard budget must know what it costs: the provider bills what it
        writes, read or not.
        """
        if self._run is not None and self._run.held:
            return True
        task = self._admission
        return task is not None and task.done() and not task.exception() and bool(task.result().record.reserved_usd)

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
            if self.record is not None and self.outcome.sent_at is not None:
                error.headers.setdefault("x-gateway-provider", self.record.provider)
            if self._admission is not None and self._admission.done() and not self._admission.exception():
                error.headers.update(self._admission.result().headers)
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
        closing = None if self._run is None else asyncio.ensure_future(self._run.close())
        try:
            await self._settle_accounts()
        finally:
            if closing is not None:
                await closing

    async def _settle_accounts(self) -> None:
        ended = time.perf_counter()
        if self._relay is not None and not self.outcome.gone:
            await self._relay.close()
        elif self._response is not None:
            await self._response.close()
        if self.record is None:
            return
        admitted = await self._admitted()
        opened = self.record if admitted is None else admitted.record
        record = self.outcome.final_record(opened, ended, self._request.fields, self._price)
        with self._gateway.tracer.segment("ledger"):
            if admitted is None:
                await self._gateway.accounts.settle(record)
            else:
                record = await self._gateway.admission.settle(record, admitted, self._gateway.accounts)
        self.record = record
        self._gateway.report(record, self.overhead_s)

    async def _answer(self) -> Answer:
        gateway, call = self._gateway, self.call
        gateway.tracer.begin(call.trace)
        with gateway.tracer.segment("auth"):
            key = await gateway.auth.identify(call.token)
        self._request = _READ[call.endpoint](call.body)
        self._catalog = await gateway.catalog.current()
        if call.idempotency_key is not None and (kept := await self._begin_once(key)) is not None:
            return kept
        route = await self._route(key)
        deployment = route.deployments[0]
        self._provider = self._catalog.providers[deployment.provider]
        dialect = gateway.dispatcher.dialect_of(self._provider)
        parts = self._parts(dialect, deployment)
        with gateway.tracer.segment("ledger"):
            parts = await self._open(key, route, deployment, parts) or parts
        self.outcome.asked_tier = asked_tier(self._request.fields, self._provider)
        self.outcome.sent_at = time.perf_counter()
        with gateway.tracer.segment("upstream"):
            if len(parts) > 1:
                answer = await self._batched(dialect, deployment, parts, route.timeouts, key.team)
            else:
                answer = await self._called(dialect, deployment, parts[0].encoded, route.timeouts, key.team)
        answer = _warned(answer, parts[0].encoded)
        return answer if self._run is None else self._run.keep(answer)

    async def _route(self, key: VirtualKey) -> Route:
        gateway, call = self._gateway, self.call
        name = call.path_model or self._request.model
        if name is None and call.endpoint == "moderations":
            from llm_gateway.pipeline.moderation_choice import default_moderation_model  # noqa: PLC0415 - seldom needed

            name = await default_moderation_model(self._catalog, gateway.dispatcher, key)
        route = await gateway.choice.choose(name, self._catalog, key)
        if gateway.debug is not None:
            first = route.deployments[0]
            gateway.debug(
                "routed", request_id=call.request_id, model=route.requested, to=f"{first.provider}:{first.model}"
            )
        return route

    def _parts(self, dialect: Dialect, deployment: Deployment) -> list[Part]:
        """The calls that the request takes: one, but for embeddings of more inputs than the provider takes at once."""
        if self.call.endpoint == "embeddings":
            return parts_of(self._request, dialect, deployment.model, self._provider)
        encoded = dialect.encode(self.call.endpoint, self._request, deployment.model, self._provider)
        return [Part(self._request, encoded)]

    async def _open(
        self, key: VirtualKey, route: Route, deployment: Deployment, parts: list[Part]
    ) -> list[Part] | None:
        """Opens the ledger's entry, with a hold of every limit; the calls anew, where a limit changes the request."""
        gateway = self._gateway
        record = self.record = gateway.accounts.record_of(
            self.call, key, self._request, route.requested, deployment, route.timeouts.total_s
        )
        limited = gateway.admission.scopes_of(self._catalog, key, self._request.user, route.requested, deployment)
        if not limited:
            await gateway.accounts.open(record)
            return None
        members = await self._admit(record, limited, len(parts), deployment)
        if not members:
            return None
        self._request = with_members(self._request, members)
        return self._parts(gateway.dispatcher.dialect_of(self._provider), deployment)

    async def _called(
        self, dialect: Dialect, deployment: Deployment, encoded: EncodedRequest, timeouts: Timeouts, team: str | None
    ) -> Answer:
        gateway, call = self._gateway, self.call
        self._response = await gateway.dispatcher.send(
            dialect, encoded, self._provider, deployment.model, timeouts, team, self.outcome
        )
        self.outcome.status = self._response.status
        if gateway.debug is not None:
            gateway.debug("accepted", request_id=call.request_id, status=self._response.status)
        if self._request.stream:
            return await self._streamed(dialect, deployment, timeouts, encoded.framing)
        return await self._buffered(dialect, deployment)

    async def _begin_once(self, key: VirtualKey) -> Answer | None:
        """The answer of an earlier request with this idempotency key; None where this one is to run."""
        assert self._gateway.idempotency is not None
        run = self._run = self._gateway.idempotency.run_of(self.call, key, self._catalog)
        with self._gateway.tracer.segment("ledger"):
            kept = await run.begin()
        if kept is None:
            return None
        self._measure_overhead(0.0)
        return replace(kept, headers={**kept.headers, "x-gateway-overhead-ms": f"{self.overhead_s * 1000:.2f}"})

    async def _admit(
        self, record: RequestRecord, limited: Sequence[Limited], calls: int, deployment: Deployment
    ) -> Mapping[str, Any]:
        """Takes what the request needs of its limits. What the provider must be told so that they hold.

        A caller who leaves meanwhile does not stop it half-way: `settle` must know what is held.
        """
        self._admission = asyncio.ensure_future(
            self._gateway.admission.admit(
                self.call.endpoint, record, limited, self._request, calls, deployment, self._catalog
            )
        )
        try:
            admitted = await asyncio.shield(self._admission)
        except Unavailable:
            # What is held though nobody heard of it is given back when the record that names the scopes is settled.
            self.record = replace(record, scopes=tuple(each.scope.id for each in limited if each.policy.counts))
            raise
        self.record = admitted.record
        return admitted.members

    async def _admitted(self) -> Admitted | None:
        if self._admission is None:
            return None
        try:
            return await self._admission
        except GatewayError:
            return None  # nothing is held, and the caller was told why

    async def _buffered(self, dialect: Dialect, deployment: Deployment) -> Answer:
        assert self._response is not None
        assert self.record is not None
        body = await self._response.read(_LONGEST_ANSWER)
        upstream_s = self._since_sent()
        decoded = dialect.decode(self.call.endpoint, self._request, deployment.model, body, self._response.headers)
        usage = self.outcome.in_tier(decoded.usage or estimate(self._request.fields, decoded.text()))
        self.outcome.counted, self.outcome.cost = usage, self._price(usage, decoded.model)
        return self._whole(decoded, deployment, upstream_s)

    async def _batched(
        self, dialect: Dialect, deployment: Deployment, parts: list[Part], timeouts: Timeouts, team: str | None
    ) -> Answer:
        outcome = self.outcome
        calls = BatchCalls(parts, self._gateway.dispatcher, dialect, self._provider, deployment.model)
        try:
            decoded = await calls.run(timeouts, team, outcome)
        finally:
            if bill := calls.bill(self._price):
                outcome.counted, outcome.cost = bill
        outcome.status = 200
        return self._whole(decoded, deployment, self._since_sent())

    def _whole(self, decoded: DecodedAnswer, deployment: Deployment, upstream_s: float) -> Answer:
        """A buffered answer, once its usage and cost are known."""
        outcome = self.outcome
        assert outcome.cost is not None
        outcome.answered_model, outcome.finish_reason = decoded.model, decoded.finish_reason
        self._measure_overhead(upstream_s)
        cost = None if outcome.cost.usd is None else format_usd(outcome.cost.usd)
        headers = self._headers(deployment)
        headers["content-type"] = "application/json"
        if cost is not None:
            headers["x-gateway-cost-usd"] = cost
        body = decoded.body
        if self._catalog.x_gateway and self.call.body_object:
            latency_ms = round((time.perf_counter() - self.call.started) * 1000)
            told = {"provider": deployment.provider, "latency_ms": latency_ms, "cost_usd": cost}
            put = set_member if b'"x_gateway"' in body else add_member
            body = put(body, "x_gateway", orjson.dumps(told))
        return Answer(headers, body)

    async def _streamed(self, dialect: Dialect, deployment: Deployment, timeouts: Timeouts, framing: Framing) -> Answer:
        assert self._response is not None
        if self._response.headers.get("content-type", "").startswith(("application/json", "text/html")):
            body = await self._response.read(_LONGEST_ANSWER)
            dialect.decode(self.call.endpoint, self._request, deployment.model, body, self._response.headers)
            raise UpstreamMalformed("The provider answered a request for a stream without one.")
        splitter, split_events = FRAMINGS[framing]
        translator = self.outcome.translator = dialect.translator(self._request, deployment.model, split_events)
        relay = self._relay = StreamRelay(self._response, translator, splitter(), timeouts, self.call.started)
        await relay.open()
        self.outcome.first_content_at = relay.first_content_at
        self._measure_overhead(self._since_sent())
        headers = self._headers(deployment)
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"
        return Answer(headers, stream=relay.stream())

    def _headers(self, deployment: Deployment) -> dict[str, str]:
        limits = {} if self._admission is None else self._admission.result().headers
        return {
            "x-gateway-provider": deployment.provider,
            "x-gateway-model": _header_text(deployment.model),
            "x-gateway-overhead-ms": f"{self.overhead_s * 1000:.2f}",
            **limits,
        }

    def _price(self, usage: Usage, answered: str | None) -> Cost:
        assert self.record is not None
        return self._gateway.accounts.price(self.record, usage, answered, self._catalog)

    def _since_sent(self) -> float:
        return time.perf_counter() - (self.outcome.sent_at or self.call.started)

    def _measure_overhead(self, upstream_s: float) -> None:
        self.overhead_s = max(0.0, time.perf_counter() - self.call.started - upstream_s)


def _warned(answer: Answer, encoded: EncodedRequest) -> Answer:
    if not encoded.warnings:
        return answer
    return replace(answer, headers={**answer.headers, "x-gateway-warning": "; ".join(encoded.warnings)})


def _header_text(name: str) -> str:
    """A model's name as a header value: what is not visible ASCII is percent-encoded."""
    return name if name.isascii() and name.isprintable() else quote(name, safe="/:@+ ")
