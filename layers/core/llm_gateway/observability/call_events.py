"""The events of a call that telemetry handlers get. Counts and times only: never content, never a key."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import ClassVar, Literal

from llm_gateway.domain.usage import Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class CallEvent:
    """What every event says. `requested_model` is the name that the caller used; None where the default decides."""

    request_id: str
    endpoint: str
    team: str
    requested_model: str | None
    stream: bool
    tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStarted(CallEvent):
    kind: ClassVar[Literal["start"]] = "start"
    at_ns: int
    """Unix nanoseconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ended(CallEvent):
    duration_ns: int
    """By the monotonic clock, from the call to its last byte."""
    first_content_ns: int | None = None
    """Of a stream: from the call to its first content."""
    provider: str | None = None
    """None where it never came to one."""
    model: str | None = None
    """As it was called at the provider."""
    answered_model: str | None = None
    finish_reason: str | None = None
    usage: Usage = field(default_factory=Usage)
    cost_usd: Decimal | None = None
    """None where nothing is known to price it: not the same as free."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallStopped(_Ended):
    """The call came to its end. `abandoned`: its caller left the stream before that."""

    kind: ClassVar[Literal["stop"]] = "stop"
    abandoned: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CallFailed(_Ended):
    """The caller got an exception, before the answer or in the midst of its stream."""

    kind: ClassVar[Literal["exception"]] = "exception"
    error: BaseException
    http_status: int | None = None
    """What a caller over HTTP would have got, or None for a cancellation."""
    error_code: str | None = None


Event = CallStarted | CallStopped | CallFailed
