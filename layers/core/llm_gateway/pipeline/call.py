"""What comes into the pipeline and what goes out, free of any web framework."""

import math
import secrets
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, field

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Recovery


def new_request_id() -> str:
    return f"req_{secrets.token_hex(16)}"


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a caller. `started` is a `time.perf_counter` reading taken when it arrived."""

    request_id: str
    endpoint: Endpoint
    body: bytes
    token: str | None
    started: float
    path_model: str | None = None
    """The model that an Azure path names; it counts before the body's."""
    trace: str | None = None
    """The `x-amzn-trace-id` header, where there is one."""
    idempotency_key: str | None = None
    """The `Idempotency-Key` header, unchecked."""
    tags: Mapping[str, str] = field(default_factory=dict)
    """What the caller's `x-gateway-tag-*` headers say; the key's own tags come before them."""
    deadline: float = math.inf
    """When the answer must be whole, on the clock of `started`: what the caller, or the platform, has time for."""
    recovery: Recovery | None = None
    """What becomes of a stream that its provider cuts off, where the caller says it."""
    queue_s: float | None = None
    """How long the caller would wait in line where a limit of theirs has no room; None: what is configured."""
    body_object: bool = True
    """Whether the caller wants `x_gateway` in a buffered answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller gets: a `body`, or a `stream` whose first content has come. Header names in lower case."""

    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    stream: AsyncGenerator[bytes, None] | None = None
    until: float = math.inf
    """When the caller must have taken the stream, on the clock of `Call.started`."""
