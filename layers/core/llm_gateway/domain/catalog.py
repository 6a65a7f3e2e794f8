"""What can be called: providers, deployments, aliases. Built by `llm_gateway.catalog`, read by routing."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Dialect = Literal["openai_chat", "anthropic_messages", "gemini_generate_content", "bedrock_converse"]
Credential = Literal["bearer", "header", "none", "sigv4", "oauth"]


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
    """Members of a request by the names that this vendor gives them; one that is there under both stays as it is."""
    drop: tuple[str, ...] = ()
    """Members that the vendor refuses, without which the answer is as good: left out, with a warning."""
    refuse: tuple[str, ...] = ()
    """Members that the vendor does not have, without which the answer would be another: a 400."""
    developer_role: bool = True
    """Whether the role `developer` is known; where it is not, its messages go as `system`."""
    drop_from_messages: tuple[str, ...] = ()
    """Members of messages that the vendor refuses: left out of them, with a warning."""
    tells_cost: bool = False
    """The answer's `usage.cost`, or the `total_cost` in it, is what is billed, in US dollars."""
    query: Mapping[str, str] = field(default_factory=dict)
    """Added to every URL, such as Azure's `api-version`."""


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


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Seconds. `first_token_s` runs from the request to the first content, `idle_s` between contents."""

    connect_s: float = 5.0
    first_token_s: float = 120.0
    idle_s: float = 60.0
    total_s: float = 840.0


@dataclass(frozen=True, slots=True)
class Deployment:
    """A model at a provider."""

    provider: str
    model: str
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Alias:
    """A name callers use as `model`. `fallbacks` are aliases or `provider:model`, in order."""

    name: str
    deployments: tuple[Deployment, ...]
    fallbacks: tuple[str, ...] = ()
    timeouts: Timeouts = field(default_factory=Timeouts)


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
    per_request: str | None = None
    """US dollars a call."""


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
