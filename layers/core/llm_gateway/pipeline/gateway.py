"""The whole story of a request.

An `Exchange` is made for each call. `answer()` identifies the caller, reads the request, picks a deployment, opens the
ledger's entry and calls the provider; the body or the stream goes out; `settle()`, after the caller's last byte, writes
what it came to. Whoever drives it (the API, the library) calls `settle` in the end, whatever happened.
"""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import quote

import orjson

from llm_gateway.dialects.dialect import Dialect, Endpoint, Framing, StreamTranslator
from llm_gateway.dialects.json_splice import add_member, set_member
from llm_gateway.domain.catalog import Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.domain.usage import Attempt, RequestRecord, Usage
from llm_gateway.errors import GatewayError, UpstreamMalformed
from llm_gateway.metering.cost import format_usd
from llm_gateway.observability.tracing import NoTracing, Tracer
from llm_gateway.pipeline.accounts import Accounts, estimate
from llm_gateway.pipeline.auth import Authenticator
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.relay import StreamRelay
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request, read_embeddings_request
from llm_gateway.upstream.framings import FRAMINGS

_LONGEST_ANSWER = 64 << 20
_READ: Mapping[Endpoint, Callable[[bytes], ModelRequest]] = {
    "chat.completions": read_chat_request,
    "embeddings": read_embeddings_request,
}


@dataclass(frozen=True, slots=True)
class Gateway:
    """The stages, put together by `bootstrap`. `report` gets every finished record, for logs and metrics."""

    auth: Authenticator
    catalog: CatalogSource
    choice: ModelChoice
    dispatcher: Dispatcher
    accounts: Accounts
    report: Callable[[RequestRecord, float], None]
    tracer: Tracer = field(default_factory=NoTracing)

    def exchange(self, call: Call) -> "Exchange":
        return Exchange(self, call)


class Exchange:
    """One call, from its arrival to its ledger entry."""

    def __init__(self, gateway: Gateway, call: Call) -> None:
        self._gateway = gateway
        self.call = call
        self.record: RequestRecord | None = None
        self.overhead_s = 0.0
        """Time spent on our side until the answer was ready."""
        self._catalog: Catalog
        self._provider: Provider
        self._request: ModelRequest
        self._response: HttpResponse | None = None
        self._relay: StreamRelay | None = None
        self._translator: StreamTranslator | None = None
        self._sent_at = 0.0
        self._error: GatewayError | None = None
        self.gone = False
        self._settled = False

    async def answer(self) -> Answer:
        """The answer, ready to be sent. Raises `GatewayError`."""
        try:
            return await self._answer()
        except GatewayError as error:
            self._error = error
            raise

    def failed(self, error: GatewayError) -> None:
        """Says that the stream broke after its first byte."""
        self._error = error

    def caller_gone(self) -> None:
        """Says that the caller left before the last byte."""
        self.gone = True

    async def settle(self) -> None:
        """Frees the provider's connection and writes the ledger's entry. Calls after the first do nothing."""
        if self._settled:
            return
        self._settled = True
        ended = time.perf_counter()
        if self._relay is not None and not self.gone:
            await self._relay.close()
        elif self._response is not None:
            await self._response.close()
        if self.record is None:
            return
        self.record = self._final_record(ended)
        with self._gateway.tracer.segment("ledger"):
            await self._gateway.accounts.settle(self.record)
        self._gateway.report(self.record, self.overhead_s)

    async def _answer(self) -> Answer:
        gateway, call = self._gateway, self.call
        gateway.tracer.begin(call.trace)
        with gateway.tracer.segment("auth"):
            key = await gateway.auth.identify(call.token)
        request = self._request = _READ[call.endpoint](call.body)
        self._catalog = await gateway.catalog.current()
        name = call.path_model or request.model
        route = await gateway.choice.choose(name, self._catalog, key)
        deployment = route.deployments[0]
        self._provider = self._catalog.providers[deployment.provider]
        dialect = gateway.dispatcher.dialect_of(self._provider)
        encoded = dialect.encode(call.endpoint, request, deployment.model, self._provider)
        with gateway.tracer.segment("ledger"):
            self.record = await gateway.accounts.open(
                call, key, request, route.requested, deployment, route.timeouts.total_s
            )
        self._sent_at = time.perf_counter()
        with gateway.tracer.segment("upstream"):
            self._response = await gateway.dispatcher.send(dialect, encoded, self._provider, route.timeouts)
            if request.stream:
                answer = await self._streamed(dialect, deployment, route.timeouts, encoded.framing)
            else:
                answer = await self._buffered(dialect, deployment)
        if not encoded.warnings:
            return answer
        return replace(answer, headers={**answer.headers, "x-gateway-warning": "; ".join(encoded.warnings)})

    async def _buffered(self, dialect: Dialect, deployment: Deployment) -> Answer:
        assert self._response is not None
        assert self.record is not None
        body = await self._response.read(_LONGEST_ANSWER)
        upstream_s = time.perf_counter() - self._sent_at
        decoded = dialect.decode(self.call.endpoint, self._request, deployment.model, body)
        usage = decoded.usage or estimate(self._request.fields, decoded.text())
        record = replace(self.record, answered_model=decoded.model, finish_reason=decoded.finish_reason)
        record = self.record = self._gateway.accounts.priced(record, usage, self._provider, self._catalog)
        self._measure_overhead(upstream_s)
        cost = None if record.cost_usd is None else format_usd(record.cost_usd)
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
            dialect.decode(self.call.endpoint, self._request, deployment.model, body)
            raise UpstreamMalformed("The provider answered a request for a stream without one.")
        splitter, split_events = FRAMINGS[framing]
        translator = self._translator = dialect.translator(self._request, deployment.model, split_events)
        relay = self._relay = StreamRelay(self._response, translator, splitter(), timeouts, self.call.started)
        await relay.open()
        self._measure_overhead(time.perf_counter() - self._sent_at)
        headers = self._headers(deployment)
        headers["content-type"] = "text/event-stream; charset=utf-8"
        headers["cache-control"] = "no-cache"
        headers["x-accel-buffering"] = "no"
        return Answer(headers, stream=relay.stream())

    def _headers(self, deployment: Deployment) -> dict[str, str]:
        return {
            "x-gateway-provider": deployment.provider,
            "x-gateway-model": _header_text(deployment.model),
            "x-gateway-overhead-ms": f"{self.overhead_s * 1000:.2f}",
        }

    def _measure_overhead(self, upstream_s: float) -> None:
        self.overhead_s = max(0.0, time.perf_counter() - self.call.started - upstream_s)

    def _final_record(self, ended: float) -> RequestRecord:
        assert self.record is not None
        began = self.call.started
        record = replace(
            self.record,
            status="failed" if self._error else "settled",
            latency_ms=_milliseconds(ended - began),
            http_status=self._http_status(),
            error_code=self._error_code(),
        )
        translator = self._translator
        if translator is not None:
            first = self._relay.first_content_at if self._relay else None
            record = replace(
                record,
                answered_model=translator.model,
                finish_reason=translator.finish_reason,
                ttft_ms=None if first is None else _milliseconds(first - began),
            )
        if record.cost_usd is None and record.price_version is None:
            record = self._gateway.accounts.priced(record, self._final_usage(), self._provider, self._catalog)
        attempt = Attempt(
            provider=record.provider,
            model=record.routed_model,
            status=self._response.status if self._response else None,
            error=record.error_code,
            latency_ms=_milliseconds(ended - self._sent_at) if self._sent_at else 0,
        )
        return replace(record, attempts=(attempt,))

    def _final_usage(self) -> Usage:
        """What the provider counted; where it did not come to that, what it will bill for what it has begun."""
        translator = self._translator
        if translator is not None and translator.usage is not None:
            return translator.usage
        if self._error is not None and (translator is None or not translator.started):
            return Usage()
        if not self._sent_at:
            return Usage()
        return estimate(self._request.fields, translator.text() if translator else "")

    def _http_status(self) -> int | None:
        if self._error is not None and not (self._translator and self._translator.started):
            return self._error.http_status
        return None if self.gone and not (self._translator and self._translator.started) else 200

    def _error_code(self) -> str | None:
        if self._error is not None:
            return self._error.error_code or self._error.error_type
        return "client_disconnected" if self.gone else None


def _milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))


def _header_text(name: str) -> str:
    """A model's name as a header value: what is not visible ASCII is percent-encoded."""
    return name if name.isascii() and name.isprintable() else quote(name, safe="/:@+ ")
