"""What a provider counted, and the record of one request that is kept of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from typing import Literal

Status = Literal["open", "settled", "failed", "abandoned"]


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one provider call, in the convention of OpenAI's `usage` object.

    `input_tokens` includes everything that was read, cached or written to a cache or not;
    `output_tokens` includes reasoning, audio, images and citations. The other counts say how many of those were of a
    kind that is billed at a price of its own. `estimated` is true where the provider gave no final count.
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    """Written to a prompt cache that lives five minutes (or of unstated life)."""
    cache_write_1h_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    input_image_tokens: int = 0
    cached_image_tokens: int = 0
    output_image_tokens: int = 0
    input_video_tokens: int = 0
    output_video_tokens: int = 0
    citation_tokens: int = 0
    web_searches: int = 0
    """Searches that the provider ran and bills one by one."""
    told_cost_usd: Decimal | None = None
    """What the provider says it bills. It counts only where the provider is known to tell the truth of it."""
    told_request_fee_usd: Decimal | None = None
    """The part of it that is for the call as such, where the provider names that (Perplexity)."""
    service_tier: str | None = None
    """The tier that served, by the provider's word or else as asked: `default`, `flex`, `priority`, `fast`, `batch`, …;
    None where nobody spoke of one."""
    inference_geo: str | None = None
    """Where it was served, if that has a price of its own (Anthropic: `us`)."""
    estimated: bool = False


def total_usage(parts: Sequence[Usage]) -> Usage:
    """What several calls come to; estimated where one is, and with a told cost where all have one."""
    counts = {
        name: sum(getattr(part, name) for part in parts)
        for name, kind in Usage.__annotations__.items()
        if kind in (int, "int")
    }
    told = [part.told_cost_usd for part in parts]
    cost = sum((each for each in told if each is not None), Decimal(0)) if told and None not in told else None
    return Usage(**counts, told_cost_usd=cost, estimated=any(part.estimated for part in parts))


@dataclass(frozen=True, slots=True)
class Cost:
    """An exact price in US dollars. `usd` is None where the price book has no price: never silently free."""

    usd: Decimal | None
    price_version: str
    provider_usd: Decimal | None = None
    """What the provider bills, where a markup makes `usd`, which the team is charged, another amount."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One call to one deployment. `latency_ms` runs to its last byte; `error` is a code of `errors.py`."""

    provider: str
    model: str
    status: int | None
    error: str | None
    latency_ms: int
    key_source: str | None = None
    """Whose key was sent: `team`, `system`, `environment`, `given`; None where none was."""
    key_name: str | None = None
    """What the secret calls it, where it holds several."""
    input_tokens: int = 0
    """Of a request with several attempts, what this one was billed; with one, the record says it."""
    output_tokens: int = 0
    cost_usd: Decimal | None = None


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request, as the ledger keeps it: the truth about who asked what, and what it cost.

    Times are Unix milliseconds, `expires_at` is Unix seconds: past it, an `open` record belongs to the sweep.
    """

    request_id: str
    at_ms: int
    endpoint: str
    key: str | None
    """The key's name, never the key."""
    key_id: str | None
    team: str | None
    user: str | None
    requested_model: str
    provider: str
    routed_model: str
    stream: bool
    status: Status
    expires_at: int
    tags: dict[str, str] = field(default_factory=dict)
    answered_model: str | None = None
    finish_reason: str | None = None
    http_status: int | None = None
    error_code: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    """What the team is charged."""
    provider_cost_usd: Decimal | None = None
    """What the provider bills, where the team has a markup."""
    reserved_usd: Decimal | None = None
    scopes: tuple[str, ...] = ()
    """Ids of the scopes that hold something for this request."""
    holds: tuple[str, ...] = ()
    """The tags of those holds, once settled; while it is open, of those it had when it went on to a new deployment."""
    over_limits: tuple[str, ...] = ()
    """Limits that it went over and that are not enforced: `team#search requests`."""
    price_version: str | None = None
    latency_ms: int | None = None
    ttft_ms: int | None = None
    attempts: tuple[Attempt, ...] = ()

    def at(self, provider: str, model: str) -> "RequestRecord":
        """The same at another deployment."""
        if (provider, model) == (self.provider, self.routed_model):
            return self
        return replace(self, provider=provider, routed_model=model)
