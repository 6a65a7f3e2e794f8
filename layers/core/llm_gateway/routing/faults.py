"""What kind of failure a call met: what is done next, and what a circuit makes of it, depends on nothing else.

| kind             | what it is                                                                           |
|------------------|--------------------------------------------------------------------------------------|
| `passing`        | no connection, a reset, a cut, an answer that is none; 408, 409, 425 and most 5xx    |
| `limited`        | 429                                                                                  |
| `silent`         | no connection, no first token or no more of them in time; the provider's own 504     |
| `denied`         | the provider's 401, 402, 403 and 404, credit that is used up, a key that is missing  |
| `context_length` | the request is too long for the model                                                |
| `content_policy` | the provider refuses what is asked                                                   |
| `request`        | any other refusal: the request is wrong, and would be elsewhere                      |
| `gateway`        | the gateway's own: a limit, its store, its time                                      |
"""

from dataclasses import dataclass
from typing import Literal

from llm_gateway.dialects import content_policy, context_length
from llm_gateway.errors import (
    CredentialsMissing,
    GatewayError,
    InvalidRequest,
    ModelNotFound,
    ProviderKeyUnreadable,
    UpstreamError,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
)

FaultKind = Literal["passing", "limited", "silent", "denied", "context_length", "content_policy", "request", "gateway"]

_PASSING = frozenset({408, 409, 425})
_DENIED = frozenset({401, 402, 403, 404})


@dataclass(frozen=True, slots=True)
class Fault:
    kind: FaultKind
    retry_after: float | None = None
    """Seconds for which the provider asked to be left alone, where it did."""
    code: str | None = None
    """The error's code in the envelope, for people."""


def fault_of(error: GatewayError) -> Fault:
    """What `error`, raised on the way to a provider or by its answer, is an instance of."""
    return Fault(_kind(error), error.retry_after, error.error_code)


def _kind(error: GatewayError) -> FaultKind:
    if isinstance(error, UpstreamRejected):
        return _refusal(error)
    if isinstance(error, UpstreamTimeout):
        # 408 is a server that did not get the request in time, and says so at once; the rest kept us waiting.
        return "passing" if error.http_status == 408 else "silent"
    if isinstance(error, UpstreamError):
        return "content_policy" if content_policy.is_refused(error.error_code, error.message) else "passing"
    if isinstance(error, CredentialsMissing | ModelNotFound | ProviderKeyUnreadable):
        return "denied"
    return "request" if isinstance(error, InvalidRequest) else "gateway"


def _refusal(error: UpstreamRejected) -> FaultKind:
    status = error.http_status
    if isinstance(error, UpstreamUnauthenticated):
        return "denied"
    if error.error_code == context_length.CODE:
        return "context_length"
    if content_policy.is_refused(error.error_code, error.message):
        return "content_policy"
    if status in _DENIED or "insufficient_quota" in (error.error_code, error.error_type):
        return "denied"
    if status == 429:
        return "limited"
    return "passing" if status in _PASSING else "request"
