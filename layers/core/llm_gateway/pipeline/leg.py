"""A request at one deployment: what was sent there, what came back, and what it is billed.

Most requests have one leg. Each retry and each fallback is another one, and so is the continuation of a cut stream.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from llm_gateway.dialects.dialect import DecodedAnswer, Dialect, StreamTranslator
from llm_gateway.domain.catalog import Deployment, Provider, Timeouts
from llm_gateway.domain.usage import Attempt, Cost, Usage
from llm_gateway.errors import GatewayError, UpstreamCut, UpstreamTimeout
from llm_gateway.metering.estimate import estimate_request_tokens, estimate_tokens
from llm_gateway.pipeline.provider_keys import ProviderKey
from llm_gateway.schemas.openai_chat import ModelRequest

if TYPE_CHECKING:
    from llm_gateway.domain.ports import HttpResponse
    from llm_gateway.pipeline.batches import Part
    from llm_gateway.pipeline.relay import StreamRelay
    from llm_gateway.routing.candidates import Candidate

_ENDED_HERE = frozenset({"deadline_exceeded", "shutting_down"})

Price = Callable[["Leg", Usage, str | None], Cost]
"""What a leg's usage costs at the model that answered, or at the one that was asked."""


@dataclass(eq=False)
class Leg:
    """Filled as it goes on. Times are readings of the pipeline's clock."""

    candidate: "Candidate"
    provider: Provider
    dialect: Dialect
    request: ModelRequest
    parts: "list[Part]"
    """The calls that it takes: one, but for embeddings of more inputs than the provider takes at once."""
    team: str | None = None
    asked_tier: str | None = None
    """The service tier that the provider was asked for."""
    within_s: float = 0.0
    """How long it may take until its first byte."""
    total_s: float = 0.0
    """How long a call of several parts may take, of which nothing goes out before the last one's end."""
    sent_at: float | None = None
    status: int | None = None
    """The provider's, once it has accepted the call."""
    attempts: list[Attempt] = field(default_factory=list)
    """Those that are over; the one that was accepted joins them at the end."""
    key: ProviderKey | None = None
    """The provider's key that was sent last."""
    answered_model: str | None = None
    finish_reason: str | None = None
    counted: Usage | None = None
    """Of a buffered answer, which also has its `cost` before it goes out."""
    cost: Cost | None = None
    bound_usd: Decimal | None = None
    """The most that it can cost, where a hard budget holds that."""
    broken_off: bool = False
    """Calls of a batch were under way when it failed."""
    response: "HttpResponse | None" = None
    relay: "StreamRelay | None" = None
    translator: StreamTranslator | None = None
    first_content_at: float | None = None
    decoded: DecodedAnswer | None = None
    """The answer, where it is not a stream."""
    error: GatewayError | None = None
    probe: bool = False
    """It tries a deployment whose circuit was open."""
    given_up: bool = False
    """Another leg was faster."""
    over: bool = False
    """Its deployment's load no longer counts it."""
    ended_at: float | None = None

    @property
    def deployment(self) -> Deployment:
        return self.candidate.deployment

    @property
    def timeouts(self) -> Timeouts:
        return self.candidate.group.timeouts

    @property
    def begun_at(self) -> float:
        assert self.sent_at is not None, "it was not sent"
        return self.sent_at

    @property
    def reached(self) -> bool:
        """Whether the provider has had any of its calls, and has not refused that."""
        return any(part.reached for part in self.parts)

    @property
    def warnings(self) -> tuple[str, ...]:
        return self.parts[0].encoded.warnings

    @property
    def model(self) -> str | None:
        """The model that answered, by the provider's word."""
        return self.answered_model if self.translator is None else self.translator.model

    @property
    def reason(self) -> str | None:
        """Why the model stopped."""
        return self.finish_reason if self.translator is None else self.translator.finish_reason

    def tokens_per_s(self, now: float) -> float | None:
        """How fast the model wrote: from the first content of a stream on, of a whole answer from its call on."""
        if self.error is not None or self.given_up:
            return None
        usage = self.counted if self.translator is None else self.translator.usage
        since = self.sent_at if self.translator is None else self.first_content_at
        took_s = (self.ended_at or now) - (since or now)
        return usage.output_tokens / took_s if usage is not None and usage.output_tokens and took_s > 0 else None

    def masked(self, error: GatewayError) -> GatewayError:
        """The error without the provider's key, which some vendors quote."""
        if self.key is not None and self.key.text in error.message:
            error.message = error.message.replace(self.key.text, "***")
        return error

    async def close(self, *, gone: bool = False) -> None:
        """Frees the connection; for a caller who has left, at once and whatever is on the way."""
        if self.relay is not None and not gone:
            await self.relay.close()
        elif self.response is not None:
            await self.response.close()

    def bill(self, price: Price, error: GatewayError | None, *, gone: bool) -> tuple[Usage, Cost]:
        """What it comes to. `error` is what the whole call failed with, where this leg knows of none of its own.

        Under a hard budget what may have been written and was never read costs the most that it can.
        """
        error = self.error or error
        usage = self._usage(error, gone=gone or self.given_up)
        cost = self.cost or price(self, usage, self.model)
        if self.bound_usd is not None and self._unread(usage, error, gone=gone):
            cost = replace(cost, usd=self.bound_usd)
        return usage, cost

    def in_tier(self, usage: Usage) -> Usage:
        """`usage` in the tier that was asked for, where the provider did not say in which it served."""
        if usage.service_tier is not None:
            return usage
        told = None if self.translator is None else self.translator.service_tier
        tier = told or self.asked_tier
        return usage if tier is None else replace(usage, service_tier=tier)

    def all_attempts(self, billed: tuple[Usage, Cost] | None, error: str | None, ended: float) -> list[Attempt]:
        """Every call that was made, the one that was accepted with what was `billed`. `error` is the whole call's."""
        if self.sent_at is None:
            return []
        attempts = [*self.attempts]
        if not attempts or self.status is not None:
            began = self.sent_at + sum(attempt.latency_ms for attempt in attempts) / 1000
            code = code_of(self.error) or ("given_up" if self.given_up else error)
            latency_ms = milliseconds((self.ended_at or ended) - began)
            attempts.append(
                Attempt(self.provider.name, self.deployment.model, self.status, code, latency_ms, *told_of(self.key))
            )
        if billed is not None:
            usage, cost = billed
            attempts[-1] = replace(
                attempts[-1], input_tokens=usage.input_tokens, output_tokens=usage.output_tokens, cost_usd=cost.usd
            )
        return attempts

    def _usage(self, error: GatewayError | None, *, gone: bool) -> Usage:
        """What the provider counted. Where it did not come to that, what it will bill for what it has begun.

        A call that it refused, or that never reached it, costs nothing.
        """
        translator = self.translator
        counted = self.counted if translator is None else translator.usage
        if counted is not None:
            return self.in_tier(self._as_final(counted, unfinished=gone or error is not None))
        if not self._has_content and not self._may_have_begun():
            return Usage()
        return self.in_tier(estimate(self.request.fields, translator.text() if translator is not None else ""))

    def _unread(self, usage: Usage, error: GatewayError | None, *, gone: bool) -> bool:
        """Whether the provider may have written much that nobody saw.

        Of a stream that it broke off itself, or that fell silent in its midst, what came is nearly all there was.
        """
        if self.broken_off or not usage.estimated:
            return self.broken_off
        if gone or code_of(error) in _ENDED_HERE:
            return True
        return (self.given_up or error is not None) and not self._has_content

    @property
    def _has_content(self) -> bool:
        """Whether any of a stream's answer has come."""
        return self.translator is not None and (self.translator.started or self.translator.contents > 0)

    def _may_have_begun(self) -> bool:
        """Whether a provider that gave no answer may have worked on one all the same: it had the call, and time."""
        if self.error is None:  # it ended well, or was broken off here: its caller left, another was faster, a shutdown
            return self.status is not None or self.reached
        if self.status is not None:
            return isinstance(self.error, UpstreamCut | UpstreamTimeout)
        return self.reached and isinstance(self.error, UpstreamTimeout)

    def _as_final(self, counted: Usage, *, unfinished: bool) -> Usage:
        """Counts that came on the way (Gemini's running totals) are short of what the provider bills in the end."""
        translator = self.translator
        if translator is None or translator.finish_reason is not None or not unfinished:
            return counted
        written = estimate_tokens(translator.text())
        return replace(counted, output_tokens=max(counted.output_tokens, written), estimated=True)


def estimate(fields: Mapping[str, Any], text: str) -> Usage:
    """What a provider that gave no count will bill: the whole prompt, and what was written so far."""
    output_tokens = estimate_tokens(text) if text else 0
    return Usage(input_tokens=estimate_request_tokens(fields), output_tokens=output_tokens, estimated=True)


def failed_attempt(
    provider: str, model: str, status: int | None, error: GatewayError, seconds: float, key: ProviderKey | None
) -> Attempt:
    """One that was over after `seconds`."""
    return Attempt(provider, model, status, code_of(error), milliseconds(seconds), *told_of(key))


def code_of(error: GatewayError | None) -> str | None:
    return None if error is None else error.error_code or error.error_type


def told_of(key: ProviderKey | None) -> tuple[str | None, str | None]:
    """Whose key it is, and its short name."""
    return (None, None) if key is None else (key.source, key.name)


def milliseconds(seconds: float) -> int:
    return max(0, round(seconds * 1000))
