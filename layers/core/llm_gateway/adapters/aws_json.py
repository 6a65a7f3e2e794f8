"""A lean client for AWS services that speak the AWS JSON protocol: DynamoDB, Secrets Manager, SQS.

Sources: https://smithy.io/2.0/aws/protocols/aws-json-1_0-protocol.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html and, for what may be
retried, https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
"""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit
from zlib import crc32

import orjson

from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError, UpstreamMalformed
from llm_gateway.upstream.credentials import AwsCredentials, CredentialSource
from llm_gateway.upstream.sigv4 import sign

_SERVICES: Final = {
    "dynamodb": ("DynamoDB_20120810", "application/x-amz-json-1.0"),
    "dynamodbstreams": ("DynamoDBStreams_20120810", "application/x-amz-json-1.0"),
    "secretsmanager": ("secretsmanager", "application/x-amz-json-1.1"),
    "sqs": ("AmazonSQS", "application/x-amz-json-1.0"),
}
_SIGNED_AS: Final = {"dynamodbstreams": "dynamodb"}
_HOSTS: Final = {"dynamodbstreams": "streams.dynamodb"}
"""https://docs.aws.amazon.com/general/latest/gr/ddb.html"""
_RETRYABLE: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "PriorRequestNotComplete",
        "ProvisionedThroughputExceededException",
        "ReplicatedWriteConflictException",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "RequestTimeout",
        "RequestTimeoutException",
        "Throttling",
        "ThrottlingException",
        "ThrottledException",
        "TooManyRequestsException",
        "TransactionConflictException",
        "TransactionInProgressException",
    }
)
_BODY_LIMIT: Final = 16 * 1024 * 1024
_BACKOFF_BASE_S: Final = 0.05
_BACKOFF_CAP_S: Final = 1.0
_RETRY_AFTER_S: Final = 1.0
_OK: Final = 200
_SERVER_ERROR: Final = 500


class AwsError(Unavailable):
    """AWS answered, and refused. What a caller of the gateway sees names the code alone.

    `aws_message` may name tables, roles and accounts: it is for the operator's log.
    """

    def __init__(self, code: str, message: str, status: int) -> None:
        super().__init__(f"The gateway's own store refused a call ({code}).")
        self.aws_code = code
        self.aws_message = message
        self.aws_status = status

    def __str__(self) -> str:
        return f"{self.aws_code} ({self.aws_status}): {self.aws_message}"


class ConditionalCheckFailed(AwsError):
    """The item was not as the condition demands. `item` is what it is, where the call asked for it."""

    def __init__(self, message: str, status: int, item: dict[str, Any] | None) -> None:
        super().__init__("ConditionalCheckFailedException", message, status)
        self.item = item


class TransactionCanceled(AwsError):
    """`reasons` are the actions', in order: `{"Code", "Message", "Item"}`; the code is `None` for one at no fault.

    https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_TransactWriteItems.html
    """

    def __init__(self, message: str, status: int, reasons: Sequence[Mapping[str, Any]]) -> None:
        super().__init__("TransactionCanceledException", message, status)
        self.reasons = reasons


class AwsJsonClient:
    """Calls one service in one Region.

    `calls` counts attempts by operation; `capacity` the DynamoDB capacity units they consumed, where
    `count_capacity` asks DynamoDB to tell.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        service: str,
        region: str,
        credentials: CredentialSource,
        endpoint_url: str | None = None,
        connect_s: float = 1.0,
        timeout_s: float = 2.0,
        attempts: int = 3,
        count_capacity: bool = False,
        clock: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        """`timeout_s` bounds one attempt from its signature to its last byte, so a call takes at most
        `attempts` times that and a backoff of less than a second between two.

        Raises `ValueError` for an unknown service or an endpoint that is no plain http(s) URL.
        """
        if service not in _SERVICES:
            raise ValueError(f"no AWS JSON service is called {service!r}")
        self._prefix, self._content_type = _SERVICES[service]
        self._http = http
        self._signed_as = _SIGNED_AS.get(service, service)
        self._region = region
        self._credentials = credentials
        self._url = _endpoint(service, region, endpoint_url)
        self._connect_s = connect_s
        self._timeout_s = timeout_s
        self._attempts = attempts
        self._count_capacity = count_capacity and service == "dynamodb"
        self._clock = clock
        self._sleep = sleep
        self._jitter = jitter
        self.calls: Counter[str] = Counter()
        self.capacity: dict[str, float] = {}

    async def call(
        self, operation: str, payload: bytes | Mapping[str, Any] | Callable[[], Mapping[str, Any]]
    ) -> dict[str, Any]:
        """One operation, such as `PutItem`, with its JSON, and the JSON it answers.

        A callable makes the JSON anew each time that it is sent.

        Throttling, server errors and transport failures are tried again with full jitter, so a write must be one
        that may happen twice. Raises `ConditionalCheckFailed`, `AwsError` for any other refusal, and
        `errors.Unavailable` where all attempts failed.
        """
        made = payload if callable(payload) else None
        body = b"" if callable(payload) else self._encode(payload)
        failure: Exception | None = None
        for attempt in range(self._attempts):
            if attempt:
                await self._sleep(self._jitter() * min(_BACKOFF_CAP_S, _BACKOFF_BASE_S * 2**attempt))
            try:
                async with asyncio.timeout(self._timeout_s):
                    return await self._attempt(operation, body, made)
            except AwsError as error:
                if error.aws_code not in _RETRYABLE and error.aws_status < _SERVER_ERROR:
                    raise
                failure = error
            except (UpstreamError, TimeoutError) as error:
                failure = error
        raise Unavailable("The gateway's own store does not answer.", retry_after=_RETRY_AFTER_S) from failure

    def _encode(self, payload: bytes | Mapping[str, Any]) -> bytes:
        if isinstance(payload, bytes):
            return payload
        if self._count_capacity:
            payload = {**payload, "ReturnConsumedCapacity": "TOTAL"}
        return orjson.dumps(payload)

    async def _attempt(
        self, operation: str, body: bytes, made: Callable[[], Mapping[str, Any]] | None
    ) -> dict[str, Any]:
        credentials = await self._credentials.current()
        if made is None:
            request = self._request(operation, body, credentials)
        else:

            def renew() -> HttpRequest:
                return self._request(operation, self._encode(made()), credentials, renew)

            request = renew()
        response = await self._http.send(request)
        try:
            answer = await response.read(_BODY_LIMIT)
        finally:
            await response.close()
        checksum = response.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(crc32(answer)):
            raise UpstreamMalformed("An answer of the gateway's own store was damaged on its way.")
        if response.status != _OK:
            raise _refusal(response.status, response.headers, answer)
        result = _object(answer)
        if result is None:
            raise UpstreamMalformed("An answer of the gateway's own store is not a JSON object.")
        if self._count_capacity:
            self._count(operation, result)
        return result

    def _request(
        self,
        operation: str,
        body: bytes,
        credentials: AwsCredentials,
        renew: Callable[[], HttpRequest] | None = None,
    ) -> HttpRequest:
        headers = {"content-type": self._content_type, "x-amz-target": f"{self._prefix}.{operation}"}
        signed = sign("POST", self._url, headers, body, credentials, self._region, self._signed_as, self._clock())
        self.calls[operation] += 1
        return HttpRequest(
            "POST", self._url, signed, body, self._connect_s, self._timeout_s, self._timeout_s, renew=renew
        )

    def _count(self, operation: str, result: Mapping[str, Any]) -> None:
        consumed = result.get("ConsumedCapacity")
        if consumed:
            tables = consumed if isinstance(consumed, list) else [consumed]
            units: float = sum(each["CapacityUnits"] for each in tables)
            self.capacity[operation] = self.capacity.get(operation, 0.0) + units


def _endpoint(service: str, region: str, endpoint_url: str | None) -> str:
    if endpoint_url is None:
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        return f"https://{_HOSTS.get(service, service)}.{region}.{suffix}/"
    parts = urlsplit(endpoint_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise ValueError("an AWS endpoint is http(s)://host[:port][/path], and nothing more")
    return endpoint_url.rstrip("/") + "/"


def _object(body: bytes) -> dict[str, Any] | None:
    """The JSON object in `body`, or None. A parser's exception would carry the body, which may be a secret."""
    try:
        value = orjson.loads(body) if body else {}
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _refusal(status: int, headers: Mapping[str, str], body: bytes) -> AwsError:
    """`{"__type": "namespace#Code", "message" or "Message": …}`; the code may stand in `x-amzn-errortype` instead."""
    answer = _object(body) or {}
    code = str(answer.get("__type") or headers.get("x-amzn-errortype") or f"Http{status}")
    code = code.rsplit("#", 1)[-1].split(":", 1)[0]
    message = str(answer.get("message") or answer.get("Message") or "")
    if code == "ConditionalCheckFailedException":
        return ConditionalCheckFailed(message, status, answer.get("Item"))
    if code == "TransactionCanceledException":
        return TransactionCanceled(message, status, answer.get("CancellationReasons") or ())
    return AwsError(code, message, status)
