"""Every error a caller can meet, and what it looks like on the wire.

GatewayError                                  status  type                    code
├── InvalidRequest                            400     invalid_request_error   (given, or none)
│   ├── BodyTooLarge                          413     invalid_request_error   request_too_large
│   ├── RouteNotFound                         404     invalid_request_error   unknown_url
│   └── MethodNotAllowed                      405     invalid_request_error   method_not_allowed
├── AuthenticationFailed                      401     authentication_error    invalid_api_key
├── CredentialsMissing                        401     authentication_error    missing_credentials
├── PermissionDenied                          403     permission_error        (given)
├── NotFound                                  404     invalid_request_error   not_found
│   └── ModelNotFound                         404     invalid_request_error   model_not_found
├── IdempotencyConflict                       409     invalid_request_error   (given)
├── SessionBusy                               409     invalid_request_error   session_busy
├── RevisionConflict                          409     invalid_request_error   revision_conflict
├── AlreadyExists                             409     invalid_request_error   already_exists
├── StillInUse                                409     invalid_request_error   still_in_use
├── PreconditionFailed                        412     invalid_request_error   precondition_failed
├── PreconditionRequired                      428     invalid_request_error   precondition_required
├── ProviderKeyRefused                        422     invalid_request_error   provider_key_refused
├── IdempotencyKeyReused                      422     invalid_request_error   idempotency_key_reused
├── RateLimited                               429     rate_limit_error        rate_limit_exceeded
│   ├── DeploymentLimited                     429     (of the limit)          (of the limit)
│   └── QuotaExceeded                         429     insufficient_quota      insufficient_quota
├── InternalFailure                           500     server_error            internal_error
├── Unavailable                               503     server_error            service_unavailable
│   └── ProviderKeyUnreadable                 503     server_error            provider_key_unreadable
└── UpstreamError                             (any)   provider's own          provider's own
    ├── UpstreamRejected                      4xx     provider's own          provider's own
    │   └── UpstreamUnauthenticated           4xx     authentication_error    provider's own
    ├── UpstreamFailed                        502     server_error            upstream_error
    │   ├── UpstreamUnreachable               502     server_error            upstream_unreachable
    │   ├── UpstreamMalformed                 502     server_error            upstream_malformed
    │   └── UpstreamCut                       502     server_error            upstream_cut
    ├── UpstreamUnavailable                   503     server_error            upstream_unavailable
    └── UpstreamTimeout                       504     server_error            upstream_timeout
        └── UpstreamConnectTimeout            504     server_error            upstream_timeout

One class is one HTTP status with one OpenAI `type` and `code`; a provider's answer may narrow
`code`, `param` and message. `GatewayError.envelope` is the only place where the body is made.

Source of the envelope: https://platform.openai.com/docs/guides/error-codes
"""

from collections.abc import Mapping
from typing import Any, ClassVar


class GatewayError(Exception):
    """An error with an HTTP status and an OpenAI envelope.

    `retry_after` is in seconds and becomes the `Retry-After` header; `headers` are added as they are.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = "internal_error"

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        type: str | None = None,  # noqa: A002 - the envelope's own name
        status: int | None = None,
        retry_after: float | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.error_code = code if code is not None else self.code
        self.error_type = type or self.type
        self.http_status = status or self.status
        self.retry_after = retry_after
        self.headers = dict(headers or {})

    def envelope(self) -> dict[str, Any]:
        """The body: `{"error": {message, type, param, code}}`."""
        return {
            "error": {
                "message": self.message,
                "type": self.error_type,
                "param": self.param,
                "code": self.error_code,
            }
        }

    def response_headers(self) -> dict[str, str]:
        """The headers this error adds to its answer; `Retry-After` in whole seconds, rounded up."""
        headers = dict(self.headers)
        if self.retry_after is not None:
            headers["retry-after"] = str(max(0, -int(-self.retry_after // 1)))
        return headers


class InvalidRequest(GatewayError):
    status = 400
    type = "invalid_request_error"
    code: ClassVar[str | None] = None


class BodyTooLarge(InvalidRequest):
    status = 413
    code = "request_too_large"


class RouteNotFound(InvalidRequest):
    status = 404
    code = "unknown_url"


class MethodNotAllowed(InvalidRequest):
    status = 405
    code = "method_not_allowed"


class AuthenticationFailed(GatewayError):
    status = 401
    type = "authentication_error"
    code = "invalid_api_key"


class CredentialsMissing(GatewayError):
    """A provider that the library was told to call has no credentials; over HTTP its models are simply not there."""

    status = 401
    type = "authentication_error"
    code = "missing_credentials"


class PermissionDenied(GatewayError):
    status = 403
    type = "permission_error"
    code = "permission_denied"


class NotFound(GatewayError):
    status = 404
    type = "invalid_request_error"
    code = "not_found"


class ModelNotFound(NotFound):
    code = "model_not_found"


class IdempotencyConflict(GatewayError):
    """A request with this `Idempotency-Key` is known, and its answer cannot be given: not yet, or not any more."""

    status = 409
    type = "invalid_request_error"
    code = None


class SessionBusy(GatewayError):
    """Another turn of this conversation is running: two at once would each miss what the other said."""

    status = 409
    type = "invalid_request_error"
    code = "session_busy"


class RevisionConflict(GatewayError):
    """The configuration has been changed since it was read: nothing of this change was made."""

    status = 409
    type = "invalid_request_error"
    code = "revision_conflict"


class AlreadyExists(GatewayError):
    status = 409
    type = "invalid_request_error"
    code = "already_exists"


class StillInUse(GatewayError):
    """What is to be deleted is named by something else."""

    status = 409
    type = "invalid_request_error"
    code = "still_in_use"


class PreconditionFailed(GatewayError):
    """The resource is not, or no more, the one whose ETag was sent in `If-Match`."""

    status = 412
    type = "invalid_request_error"
    code = "precondition_failed"


class PreconditionRequired(GatewayError):
    """A change that could undo somebody else's was sent without `If-Match`: RFC 6585, section 3."""

    status = 428
    type = "invalid_request_error"
    code = "precondition_required"


class ProviderKeyRefused(GatewayError):
    """A new key that its provider did not accept when it was tried: the old one stays."""

    status = 422
    type = "invalid_request_error"
    code = "provider_key_refused"


class IdempotencyKeyReused(GatewayError):
    status = 422
    type = "invalid_request_error"
    code = "idempotency_key_reused"


class RateLimited(GatewayError):
    status = 429
    type = "rate_limit_error"
    code = "rate_limit_exceeded"


class DeploymentLimited(RateLimited):
    """Nothing but the deployment's own limits is in the way: another deployment may have room.

    Of a budget it has the type and code of `QuotaExceeded`, and reads the same to the caller.
    """


class QuotaExceeded(RateLimited):
    """A budget has no room for the request: OpenAI's own words for it, which clients branch on."""

    type = "insufficient_quota"
    code = "insufficient_quota"


class InternalFailure(GatewayError):
    status = 500


class Unavailable(GatewayError):
    status = 503
    code: ClassVar[str | None] = "service_unavailable"


class ProviderKeyUnreadable(Unavailable):
    code = "provider_key_unreadable"


class UpstreamError(GatewayError):
    """Something between the gateway and the provider, or the provider's own word, went wrong."""

    status = 502
    code: ClassVar[str | None] = "upstream_error"


class UpstreamRejected(UpstreamError):
    """The provider refused the request; its status, code, param and message are kept."""

    status = 400
    type = "invalid_request_error"
    code = None


class UpstreamUnauthenticated(UpstreamRejected):
    """The provider does not accept the gateway's credential: one that was replaced, revoked or has expired.

    Every dialect says it so, whatever the status: Google answers 400 to an unknown key, AWS 403 to an expired token.
    """

    status = 401
    type = "authentication_error"


class UpstreamFailed(UpstreamError):
    pass


class UpstreamUnreachable(UpstreamFailed):
    code = "upstream_unreachable"


class UpstreamMalformed(UpstreamFailed):
    code = "upstream_malformed"


class UpstreamCut(UpstreamFailed):
    code = "upstream_cut"


class UpstreamUnavailable(UpstreamError):
    status = 503
    code = "upstream_unavailable"


class UpstreamTimeout(UpstreamError):
    status = 504
    code = "upstream_timeout"


class UpstreamConnectTimeout(UpstreamTimeout):
    """The provider never had the request."""
