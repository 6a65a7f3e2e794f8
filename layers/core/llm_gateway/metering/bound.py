"""The most that a provider can bill for a request, known before it is called.

A hard budget reserves this. It is made of what the request says, of facts about the model, and of every price that
could apply; where one of them leaves the cost open the request is refused. How each part is derived: docs/budgets.md.

    bound = upper_bound(fields, endpoint, provider, model, price.context_window)
    prices = prices_that_may_apply(fields, lambda tier: book.find(…, context={"service_tier": tier} if tier else None))
    ceiling = bound.ceiling(*prices)
    ceiling.usd(bound.output_tokens)         # never less than `cost(usage, price, …)` of what the provider then reports
    ceiling.output_that_fits(usd_left)       # for all answers together: a request's own maximum is this over `answers`
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_FLOOR, Context, Decimal
from typing import Any

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.bound_fields import check_chat_fields, check_embeddings_fields, unbounded
from llm_gateway.metering.bound_input import Prompt, read_chat, read_embeddings
from llm_gateway.metering.bound_output import read_output
from llm_gateway.metering.prices import ModelPrice, Rate

_EXACT = Context(prec=120, rounding=ROUND_FLOOR)
_FREE = 1 << 40
"""Output tokens that fit where output costs nothing."""

_MARKED_CACHES = frozenset({"anthropic_messages", "bedrock_converse", "gemini_generate_content"})
"""Wires on which nothing is written to a cache that the caller did not mark. Elsewhere caching may be automatic."""
_MOST_OUTPUT = {"anthropic_messages": ("anthropic", "max_output_tokens"), "bedrock_converse": ("bedrock", "max_output")}
"""Where the dialect looks up what it sends as the maximum when the caller names none."""
_HOUR_WRITE = Decimal(2)
"""Times the price of input: https://platform.claude.com/docs/en/build-with-claude/prompt-caching#pricing"""
_PLAIN_TIERS = frozenset({"auto", "default", "standard", "standard_only", "flex", "batch"})
"""Tiers that cost the standard price or less: https://platform.openai.com/docs/guides/flex-processing"""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """A bound in money: what is sure to suffice for the input, and for each token of output. US dollars."""

    fixed: Decimal
    each_output_token: Decimal

    def usd(self, output_tokens: int) -> Decimal:
        """The most that is billed if all answers together have at most `output_tokens`."""
        return _EXACT.add(self.fixed, _EXACT.multiply(self.each_output_token, Decimal(output_tokens)))

    def output_that_fits(self, usd_left: Decimal) -> int:
        """The most output tokens, of all answers together, for which `usd` is not above `usd_left`; -1 for none."""
        room = _EXACT.subtract(usd_left, self.fixed)
        if room < 0:
            return -1
        if not self.each_output_token:
            return _FREE
        return min(int(_EXACT.divide_int(room, self.each_output_token)), _FREE)


@dataclass(frozen=True, slots=True)
class Bound:
    """The most tokens a provider can count for a request, and what they can be billed as."""

    input_tokens: int
    output_tokens: int | None
    """Of all answers; None where the caller gave no maximum."""
    most_output_tokens: int | None
    """What the model can write at most, in all answers; None where that is not known."""
    answers: int = 1
    predicted_tokens: int = 0
    """Of a `prediction`: those that are rejected are billed as output, beside the answer's own."""
    kinds: frozenset[str] = frozenset()
    """Of `audio`, `image`, `video`: what the input holds beside text, `audio_output` what the answer may."""
    cache_writes: bool = False
    hour_writes: bool = False

    def ceiling(self, *prices: ModelPrice) -> Ceiling:
        """The most that any of `prices` asks. Raises `InvalidRequest`, code `unpriced_model`, for one with gaps."""
        inputs = outputs = fees = Decimal(0)
        for price in prices:
            if "input_mtok" not in price.rates or (self._writes and "output_mtok" not in price.rates):
                raise unpriced()
            inputs = max(inputs, self._highest_input(price))
            outputs = max(outputs, self._highest_output(price))
            fees = max(fees, price.per_request or Decimal(0))
        each = _EXACT.scaleb(outputs, -6)
        prompt = _EXACT.multiply(_EXACT.scaleb(inputs, -6), Decimal(self.input_tokens))
        rejected = _EXACT.multiply(each, Decimal(self.predicted_tokens))
        return Ceiling(_EXACT.add(_EXACT.add(fees, prompt), rejected), each)

    def usd(self, price: ModelPrice, output_tokens: int) -> Decimal:
        """The most that is billed at `price` if all answers together have at most `output_tokens`."""
        return self.ceiling(price).usd(output_tokens)

    def output_that_fits(self, price: ModelPrice, usd_left: Decimal) -> int:
        """The most output tokens, of all answers together, for which `usd` is not above `usd_left`; -1 for none."""
        return self.ceiling(price).output_that_fits(usd_left)

    @property
    def _writes(self) -> bool:
        return self.output_tokens != 0

    def _highest_input(self, price: ModelPrice) -> Decimal:
        """Each token is billed once, as the kind that costs most; cached media is counted twice by some providers."""
        media = [self._at_most(rate) for kind, rate in price.rates.items() if self._is_media(kind)]
        plain = [self._at_most(rate) for kind, rate in price.rates.items() if self._is_plain_input(kind)]
        if self.hour_writes and "cache_write_1h_mtok" not in price.rates:
            plain.append(_EXACT.multiply(_HOUR_WRITE, self._at_most(price.rates["input_mtok"])))
        if not media:
            return max(plain)
        cached = price.rates.get("cache_read_mtok")
        return max(*plain, _EXACT.add(max(media), Decimal(0) if cached is None else self._at_most(cached)))

    def _highest_output(self, price: ModelPrice) -> Decimal:
        rates = [
            self._at_most(rate)
            for kind, rate in price.rates.items()
            if kind.startswith("output_") and ("audio" not in kind or "audio_output" in self.kinds)
        ]
        return max(rates, default=Decimal(0))

    def _at_most(self, rate: Rate) -> Decimal:
        """The highest price of the tiers that an input within the bound can reach."""
        return max([rate.base, *(price for above, price in rate.tiers if above < self.input_tokens)])

    def _is_media(self, kind: str) -> bool:
        return not kind.startswith("output_") and any(each in kind for each in self.kinds)

    def _is_plain_input(self, kind: str) -> bool:
        if kind.startswith("output_") or any(each in kind for each in ("audio", "image", "video")):
            return False
        if kind == "cache_write_1h_mtok":
            return self.hour_writes
        return self.cache_writes or not kind.startswith("cache_write")


def unpriced() -> InvalidRequest:
    """The refusal of a model that no price is known of: 400, code `unpriced_model`."""
    return InvalidRequest(
        "No price is known for this model, so it cannot be used under a hard budget. An operator can give one under "
        '[prices."provider:model"].',
        param="model",
        code="unpriced_model",
    )


def prices_that_may_apply(
    fields: Mapping[str, Any], find: Callable[[str | None], ModelPrice | None]
) -> tuple[ModelPrice, ...]:
    """The standard price, and that of each service tier that is asked for: the provider may answer in any of them.

    `find` gives the price in a tier, the standard one for None or for a tier without a price of its own. Raises
    `InvalidRequest` for a model without a price, and for a dearer tier without one.
    """
    standard = find(None)
    if standard is None:
        raise unpriced()
    prices = [standard]
    for param in ("service_tier", "serviceTier"):  # where both are given, the wire decides which one counts
        tier = fields.get(param)
        if isinstance(tier, dict) and tier.keys() == {"type"}:
            tier = tier["type"]  # https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ServiceTier.html
        if tier is None or tier == "auto":
            continue
        asked = find(tier) if isinstance(tier, str) else None
        if asked is None or (asked.rates == standard.rates and tier not in _PLAIN_TIERS):
            raise unbounded(param, "no price is known for this tier of the model")
        prices.append(asked)
    return tuple(prices)


def upper_bound(
    fields: Mapping[str, Any],
    endpoint: Endpoint,
    provider: Provider,
    model: str,
    window: int | None,
    *,
    prices_images: bool = False,
) -> Bound:
    """The bound of a request whose shape has been checked (`schemas.openai_chat`).

    `window` is the price book's `context_window`, which rounds; `prices_images` says that the answer's images have a
    price of their own. Raises `InvalidRequest`, code `unbounded_cost`, with the field at fault.
    """
    facts = _facts(provider, model)
    window = facts.get("context_window") or _rounded_up(window)
    if endpoint != "chat.completions":
        check_embeddings_fields(fields)
        prompt = read_embeddings(fields, facts)
        return Bound(_input_tokens(prompt, facts, window), 0, 0, kinds=frozenset(prompt.kinds))
    check_chat_fields(fields)
    _check_host_choice(fields, provider)
    prompt = read_chat(fields, facts, reads_urls_of_any_type=provider.dialect == "gemini_generate_content")
    most = _most_output(facts, provider, model, window)
    written = read_output(fields, facts, most, prices_images=prices_images, calls=prompt.tools)
    return Bound(
        input_tokens=_input_tokens(prompt, facts, window),
        output_tokens=written.tokens,
        most_output_tokens=None if most is None else most * written.answers,
        answers=written.answers,
        predicted_tokens=written.predicted_tokens,
        kinds=frozenset(prompt.kinds | written.kinds),
        cache_writes=prompt.cache_writes or provider.dialect not in _MARKED_CACHES,
        hour_writes=prompt.hour_writes,
    )


def _facts(provider: Provider, model: str) -> Mapping[str, Any]:
    """What `limits.toml` says of the model at its vendor. Raises `unbounded` where it has none there, or here.

    An operator's provider has a name of its own, and the vendor's prices.
    """
    here = capability("limits", f"{provider.name}:{model}".lower())
    vendor = provider.price_as or provider.name
    facts = here if vendor == provider.name else capability("limits", f"{vendor}:{model}".lower())
    if (why := facts.get("unbounded") or here.get("unbounded")) is not None:
        raise unbounded("model", why)
    return facts


def _rounded_up(window: int | None) -> int | None:
    """A window of the price book, which may say 1,000,000 for 1,048,576 and 128,000 for 131,072."""
    return None if window is None else -(-window * 1_048_576 // 1_000_000)


def _input_tokens(prompt: Prompt, facts: Mapping[str, Any], window: int | None) -> int:
    """A window that is known for certain also bounds text; one of the price book stands in where nothing else can."""
    if prompt.beyond is not None:
        if window is None:
            raise unbounded(prompt.beyond, "how many tokens it counts is not known, nor the model's context window")
        return window
    known = facts.get("context_window")
    return prompt.tokens if known is None else min(prompt.tokens, known)


def _most_output(facts: Mapping[str, Any], provider: Provider, model: str, window: int | None) -> int | None:
    """Tokens of one answer. Where nothing else is known, no answer is longer than the context window."""
    vendor, name = _MOST_OUTPUT.get(provider.dialect, ("", ""))
    found = capability(vendor, model.lower()).get(name) or facts.get("max_output_tokens") or window
    return None if found is None else int(found)


def _check_host_choice(fields: Mapping[str, Any], provider: Provider) -> None:
    """`provider` chooses among OpenRouter's hosts, which have prices of their own; nobody else has it."""
    if fields.get("provider") is not None and not provider.quirks.caps_hosts:
        raise unbounded("provider", "the gateway does not know what it costs")
