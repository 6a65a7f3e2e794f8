"""What can be called: providers, deployments, aliases. Built by `llm_gateway.catalog`, read by routing."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Literal

from llm_gateway.domain.limits import Abandoned, Policy
from llm_gateway.domain.strategies import By, Canary, Hedge, Rule, Shadow, Strategy

Dialect = Literal["openai_chat", "anthropic_messages", "gemini_generate_content", "bedrock_converse"]
Credential = Literal["bearer", "header", "none", "sigv4", "oauth"]
Prefill = Literal["plain", "prefix", "continue_final_message"]
Recovery = Literal["continue", "restart", "off"]
"""What becomes of a stream that breaks after its first content: another deployment writes on from there, or the answer
is held back until it is whole and begun anew, or the caller gets the error."""


@dataclass(frozen=True, slots=True)
class Quirks:
    """How an OpenAI-compatible vendor differs from OpenAI. Each is a fact of the vendor's documentation."""

    stream_usage: Literal["ask", "always", "never"] = "ask"
    """`ask`: send `stream_options.include_usage`; `always`: usage comes unasked; `never`: it cannot be had."""
    model_in_path: bool = False
    """Azure's classic deployments: `{base_url}/openai/deployments/{model}/chat/completions`."""
    envelope: Literal["native", "bedrock", "vertex"] = "native"
    """Where a vendor's wire is served by another: Claude on Bedrock and on Vertex."""
    rename: Mapping[str, str] = field(default_factory=dict)
    """Members of a request by the names that this vendor gives them; under both, OpenAI's counts."""
    drop: tuple[str, ...] = ()
    """Members that the vendor refuses, without which the answer is as good: left out, with a warning."""
    refuse: tuple[str, ...] = ()
    """Members that the vendor does not have, without which the answer would be another: a 400."""
    developer_role: bool = True
    """Whether the role `developer` is known; where it is not, its messages go as `system`."""
    drop_from_messages: tuple[str, ...] = ()
    """Members of messages that the vendor refuses: left out of them, with a warning; `user.name` is of users' alone.

    Where there are any, nulls are refused too, and go without a word, `content` apart.
    """
    tool_call_ids: Literal["alnum9"] | None = None
    """The form that the vendor insists on for the ids of tool calls; ids of another, from elsewhere, are told as their
    digest. `alnum9`: nine ASCII letters and digits. None where any text will do."""
    tells_cost: bool = False
    """The answer's `usage` tells what is billed: `cost` (or the `total_cost` in it) in US dollars, or xAI's
    `cost_in_usd_ticks`."""
    caps_hosts: bool = False
    """It resells others, at prices of their own, and a request's `provider.max_price` says what they may bill."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Added to every URL, such as Azure's `api-version`."""
    moderations: Literal["openai", "mistral"] | None = None
    """Whose wire the vendor's moderations speak; None where it has none."""
    free: tuple[str, ...] = ()
    """Endpoints (`moderations`) for which the vendor bills nothing. A price that is known counts all the same."""
    prefill: Prefill | None = None
    """How a last message of the assistant is sent so that the model writes on from it; None: the models' own facts say.

    `plain`: as it is; `prefix`: with `"prefix": true` in it (Mistral, DeepSeek); `continue_final_message`: with that
    member and `add_generation_prompt: false` beside the messages (vLLM).
    """


@dataclass(frozen=True, slots=True)
class Provider:
    """A vendor: wire, credential and quirks are three things.

    `base_url` is what stands before the wire's own path (`…/v1`), without a slash at its end; None where the
    operator must give it. `secret` is the name under `<stack>/provider/`.
    """

    name: str
    dialect: Dialect
    base_url: str | None
    credential: Credential = "bearer"
    credential_header: str | None = None
    """For `header`: the header that carries the bare key."""
    secret: str | None = None
    region: str | None = None
    """For `sigv4`, and where the base URL names one."""
    headers: Mapping[str, str] = field(default_factory=dict)
    quirks: Quirks = field(default_factory=Quirks)
    display_name: str = ""
    enabled: bool = True
    price_as: str | None = None
    """The price book's name for this vendor, where it differs."""
    switched_off: frozenset[str] = frozenset()
    """Models of it that the operator lets nobody call."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_token_s` runs from the request to the first content, `idle_s` between contents."""

    connect_s: float = 5.0
    first_token_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 840.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider, perhaps in another region than the provider's own, or with one key out of several.

    `key` is the name of a key in the provider's secret. `weight` is the share of calls beside others of the same group.
    """

    provider: str
    model: str
    weight: int = 1
    region: str | None = None
    key: str | None = None

    @property
    def name(self) -> str:
        """`provider:model`, with `@region` and `#key` where they are given: what a circuit is kept for."""
        region = f"@{self.region}" if self.region else ""
        key = f"#{self.key}" if self.key else ""
        return f"{self.provider}:{self.model}{region}{key}"


@dataclass(frozen=True, slots=True)
class Alias:
    """A name callers use as `model`. Fallbacks are aliases or `provider:model`, in order."""

    name: str
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)
    context_window_fallbacks: tuple[str, ...] = ()
    """Instead of `fallbacks` for a request that is too long for the model."""
    content_policy_fallbacks: tuple[str, ...] = ()
    """For a request that the provider's content policy refused; nothing else leads round a refusal."""
    retries: int | None = None
    """How often a passing fault is tried again at the same deployment; None leaves it to `routing.retries`."""
    stream_recovery: Recovery = "continue"
    strategy: Strategy = "weighted"
    sticky_by: By = "user"
    rules: tuple[Rule, ...] = ()
    """The first that holds for a request leads."""
    canary: Canary | None = None
    shadow: Shadow | None = None
    hedge: Hedge | None = None
    queue_s: float | None = None
    """How long a request for it may wait for room in its caller's limits, where neither it nor its key says."""

    @property
    def all_deployments(self) -> tuple[Deployment, ...]:
        """Its own, the canary's and the shadow's: whatever a call of it may reach without its fallbacks and rules."""
        apart = (self.canary, self.shadow)
        return (*self.deployments, *(each.deployment for each in apart if each is not None))


@dataclass(frozen=True, slots=True)
class CircuitPolicy:
    """When a deployment is passed over while others serve, and for how long."""

    failures: int = 5
    """So many in a row."""
    error_rate: float = 0.5
    """Or this share of the calls of the last half minute, where there were ten."""
    cool_down_s: float = 5.0
    """Until one call tries it again; twice as long where that fails."""


TOKEN_PRICES = (
    "input",
    "output",
    "cached_input",
    "cache_write_5m",
    "cache_write_1h",
    "reasoning",
    "audio_input",
    "audio_output",
    "cached_audio_input",
    "image_input",
    "image_output",
)
"""The kinds of token that an operator can price."""

PriceChanges = tuple[tuple[str, str], ...]
"""Kinds of `TOKEN_PRICES` and the prices they have under a condition."""


@dataclass(frozen=True, slots=True)
class Price:
    """US dollars per million tokens as exact decimal strings; None where the kind has no price of its own."""

    input: str
    output: str
    cached_input: str | None = None
    cache_write_5m: str | None = None
    cache_write_1h: str | None = None
    reasoning: str | None = None
    audio_input: str | None = None
    audio_output: str | None = None
    cached_audio_input: str | None = None
    image_input: str | None = None
    image_output: str | None = None
    per_request: str | None = None
    """US dollars a call."""
    web_search: str | None = None
    """US dollars a search."""
    above: tuple[tuple[int, PriceChanges], ...] = ()
    """By the input tokens that a request has to exceed, ascending: what all its tokens cost then."""
    service_tiers: tuple[tuple[str, PriceChanges], ...] = ()
    """By tier (`flex`, `priority`, …): what differs from the standard prices there, whatever the input's size."""


@dataclass(frozen=True, slots=True)
class Catalog:
    """Everything routing and metering need to know, at one moment.

    `prices` holds the operator's own, by `provider:model`.
    """

    providers: Mapping[str, Provider]
    aliases: Mapping[str, Alias]
    default_provider: str | None = None
    default_model: str | None = None
    cors_origins: tuple[str, ...] = ()
    x_gateway: bool = True
    prices: Mapping[str, Price] = field(default_factory=dict)
    markups: Mapping[str, Decimal] = field(default_factory=dict)
    """By team, what its cost is multiplied with; a team without a markup is not in it."""
    policies: Mapping[str, Policy] = field(default_factory=dict)
    """What is limited, by `Scope.id`; `user#*` for users without a policy of their own."""
    organisation: str = "default"
    """The organisation that every key belongs to: the name of its scope."""
    abandoned: Abandoned = "charge"
    """What the sweep does with the reservation of a request that died."""
    regional: Mapping[tuple[str, str], Provider] = field(default_factory=dict)
    """By provider and region, the providers as deployments with a region of their own reach them."""
    circuit: CircuitPolicy = field(default_factory=CircuitPolicy)

    def provider_of(self, deployment: Deployment) -> Provider:
        """The provider as this deployment reaches it: in its region, with the same name, key and prices.

        Raises `KeyError` for a provider that is not in the catalog.
        """
        if deployment.region is not None:
            regional = self.regional.get((deployment.provider, deployment.region))
            if regional is not None:
                return regional
        return self.providers[deployment.provider]


_PERCENT = re.compile(r"([+-]?[0-9]{1,4}(?:\.[0-9]{1,2})?)%")


def markup_factor(text: str) -> Decimal:
    """`"20%"` is 1.20, `"-5%"` (a discount) 0.95. Raises `ValueError` for what is no percentage of -100 and more."""
    found = _PERCENT.fullmatch(text)
    factor = 1 + Decimal(found[1]) / 100 if found else Decimal(-1)
    if factor < 0:
        raise ValueError(f'"{text}" is not a percentage of -100 % and more, such as "20%" or "-5%"')
    return factor
