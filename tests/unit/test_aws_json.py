"""Specifies the AWS JSON client: what it sends, what it tries again, for how long, and what a refusal becomes."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from zlib import crc32

import orjson
import pytest

from llm_gateway.adapters.aws_json import AwsError, AwsJsonClient, ConditionalCheckFailed
from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import Unavailable, UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream.credentials import AwsCredentials, NoCredentials, StaticCredentials
from tests.fakes.virtual_time import in_virtual_time


class Answer:
    def __init__(self, status: int, body: object, headers: Mapping[str, str] | None = None) -> None:
        self.status = status
        self.body = body if isinstance(body, bytes) else orjson.dumps(body)
        self.headers = headers or {}
        self.closed = False

    async def read(self, limit: int) -> bytes:
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        self.closed = True


def refusal(code: str, status: int = 400, **more: object) -> Answer:
    return Answer(status, {"__type": f"com.amazonaws.dynamodb.v20120810#{code}", "message": f"why {code}", **more})


class Aws:
    """The far side: gives the scripted answers in turn, then goes on giving the last."""

    def __init__(self, *answers: Answer | Exception | float) -> None:
        self.answers = list(answers)
        self.requests: list[HttpRequest] = []
        self.slept: list[float] = []

    async def send(self, request: HttpRequest) -> Answer:
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            raise AssertionError("the client should have given up by now")  # noqa: TRY004 - no type is wrong here
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def close(self) -> None:
        return None

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def client(self, service: str = "dynamodb", **more: object) -> AwsJsonClient:
        options: dict[str, object] = {
            "region": "eu-west-1",
            "credentials": StaticCredentials(AwsCredentials("AKID", "very-secret")),
            "sleep": self.sleep,
            "jitter": lambda: 1.0,
            **more,
        }
        return AwsJsonClient(self, service=service, **options)  # type: ignore[arg-type] # a table of options


@pytest.mark.parametrize(
    ("service", "region", "endpoint", "url", "content_type", "target"),
    [
        ("dynamodb", "eu-west-1", None, "https://dynamodb.eu-west-1.amazonaws.com/", "1.0", "DynamoDB_20120810.Op"),
        (
            "dynamodb",
            "cn-north-1",
            None,
            "https://dynamodb.cn-north-1.amazonaws.com.cn/",
            "1.0",
            "DynamoDB_20120810.Op",
        ),
        (
            "secretsmanager",
            "us-east-1",
            None,
            "https://secretsmanager.us-east-1.amazonaws.com/",
            "1.1",
            "secretsmanager.Op",
        ),
        ("sqs", "us-east-1", "http://127.0.0.1:4566", "http://127.0.0.1:4566/", "1.0", "AmazonSQS.Op"),
        ("sqs", "us-east-1", "http://127.0.0.1:4566/", "http://127.0.0.1:4566/", "1.0", "AmazonSQS.Op"),
    ],
)
async def test_what_is_sent(
    *, service: str, region: str, endpoint: str | None, url: str, content_type: str, target: str
) -> None:
    aws = Aws(Answer(200, {"Fine": True}))
    client = aws.client(service, region=region, endpoint_url=endpoint, connect_s=0.5, timeout_s=1.5)
    assert await client.call("Op", {"Name": "é"}) == {"Fine": True}
    (request,) = aws.requests
    assert (request.method, request.url, request.body) == ("POST", url, '{"Name":"é"}'.encode())
    assert request.headers["content-type"] == f"application/x-amz-json-{content_type}"
    assert request.headers["x-amz-target"] == target
    assert f"/{region}/{service}/aws4_request" in request.headers["authorization"]
    assert (request.connect_s, request.first_byte_s, request.idle_s) == (0.5, 1.5, 1.5)
    assert client.calls == {"Op": 1}


async def test_bytes_are_sent_as_they_are() -> None:
    aws = Aws(Answer(200, b""))
    assert await aws.client().call("Op", b'{ "a":1}') == {}
    assert aws.requests[0].body == b'{ "a":1}'


@pytest.mark.parametrize(
    "endpoint", ["ftp://h/", "h:1", "http://", "http://user@h/", "http://h/?q=1", "http://h/#f", "http://user:pw@h/"]
)
def test_an_endpoint_is_a_plain_url(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint"):
        Aws(Answer(200, {})).client(endpoint_url=endpoint)


def test_an_unknown_service_is_refused() -> None:
    with pytest.raises(ValueError, match="s3"):
        Aws(Answer(200, {})).client("s3")


PASSING = [
    pytest.param(refusal("ProvisionedThroughputExceededException"), id="throughput"),
    pytest.param(refusal("ThrottlingException"), id="throttling"),
    pytest.param(refusal("RequestLimitExceeded"), id="limit"),
    pytest.param(refusal("TransactionConflictException"), id="conflict"),
    pytest.param(refusal("InternalServerError", 500), id="internal"),
    pytest.param(Answer(503, b"<html>busy</html>"), id="html-503"),
    pytest.param(Answer(200, b'{"torn'), id="torn"),
    pytest.param(Answer(200, b"[]"), id="no-object"),
    pytest.param(Answer(200, {}, {"x-amz-crc32": "1"}), id="checksum"),
    pytest.param(UpstreamUnreachable("no"), id="unreachable"),
    pytest.param(UpstreamTimeout("no"), id="timeout"),
    pytest.param(UpstreamCut("no"), id="cut"),
]


@pytest.mark.parametrize("failure", PASSING)
async def test_what_passes_is_tried_again(failure: Answer | Exception) -> None:
    aws = Aws(failure, failure, Answer(200, {"Fine": 1}))
    client = aws.client()
    assert await client.call("Op", {}) == {"Fine": 1}
    assert client.calls == {"Op": 3}
    assert aws.slept == [0.1, 0.2]
    assert all(answer.closed for answer in [failure] if isinstance(answer, Answer))


@pytest.mark.parametrize("failure", PASSING)
async def test_what_stays_is_given_up_as_unavailable(failure: Answer | Exception) -> None:
    aws = Aws(failure)
    with pytest.raises(Unavailable) as caught:
        await aws.client(attempts=4).call("Op", {})
    assert len(aws.requests) == 4
    assert (caught.value.http_status, caught.value.response_headers()["retry-after"]) == (503, "1")
    assert "why" not in caught.value.message


async def test_backoff_is_jittered_and_capped() -> None:
    aws = Aws(UpstreamUnreachable("no"))
    with pytest.raises(Unavailable):
        await aws.client(attempts=8, jitter=lambda: 0.5).call("Op", {})
    assert aws.slept == [0.05, 0.1, 0.2, 0.4, 0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (refusal("ResourceNotFoundException"), "ResourceNotFoundException"),
        (refusal("ValidationException"), "ValidationException"),
        (Answer(400, {"__type": "AccessDeniedException", "Message": "why"}), "AccessDeniedException"),
        (Answer(400, {"message": "why"}, {"x-amzn-errortype": "ExpiredToken:http://x"}), "ExpiredToken"),
        (Answer(403, b"<html>why</html>"), "Http403"),
        (Answer(302, b"", {"location": "http://elsewhere.example/"}), "Http302"),
    ],
)
async def test_a_refusal_is_not_repeated(answer: Answer, code: str) -> None:
    aws = Aws(answer)
    with pytest.raises(AwsError) as caught:
        await aws.client().call("Op", {})
    assert len(aws.requests) == 1
    assert (caught.value.aws_code, caught.value.aws_status) == (code, answer.status)
    assert "why" not in str(caught.value.envelope()), "AWS's own words may name accounts and roles"
    assert code in str(caught.value.envelope())
    assert code in str(caught.value)


async def test_a_failed_condition_has_the_item() -> None:
    item = {"pk": {"S": "1"}}
    for answer, expected in [
        (refusal("ConditionalCheckFailedException", Item=item), item),
        (refusal("ConditionalCheckFailedException"), None),
    ]:
        with pytest.raises(ConditionalCheckFailed) as caught:
            await Aws(answer).client().call("PutItem", {})
        assert caught.value.item == expected


async def test_the_checksum_is_checked() -> None:
    body = orjson.dumps({"Fine": 1})
    aws = Aws(Answer(200, body, {"x-amz-crc32": str(crc32(body))}))
    assert await aws.client(attempts=1).call("Op", {}) == {"Fine": 1}
    damaged = Aws(Answer(200, body, {"x-amz-crc32": str(crc32(body) ^ 1)}))
    with pytest.raises(Unavailable):
        await damaged.client(attempts=1).call("Op", {})


@in_virtual_time
async def test_silence_is_bounded() -> None:
    aws = Aws(60.0)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(Unavailable):
        await aws.client(timeout_s=5.0, attempts=3).call("Op", {})
    assert loop.time() - began == pytest.approx(15.0)
    assert len(aws.requests) == 3


@in_virtual_time
async def test_being_cancelled_is_no_failure() -> None:
    aws = Aws(60.0)
    call = asyncio.create_task(aws.client(timeout_s=30.0).call("Op", {}))
    await asyncio.sleep(0.01)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert len(aws.requests) == 1


async def test_no_parser_exception_carries_the_answer_along() -> None:
    """An answer may be a secret: what failed to parse must not hang on the exception."""
    with pytest.raises(Unavailable) as caught:
        await Aws(Answer(200, b'{"SecretString": "very-secret"')).client("secretsmanager", attempts=1).call("Op", {})
    error: BaseException | None = caught.value
    while error is not None:
        assert "very-secret" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__


async def test_missing_credentials_send_nothing() -> None:
    class Nothing:
        async def current(self) -> AwsCredentials:
            raise NoCredentials("none")

    aws = Aws(Answer(200, {}))
    with pytest.raises(NoCredentials):
        await aws.client(credentials=Nothing()).call("Op", {})
    assert aws.requests == []


async def test_capacity_is_asked_for_and_counted() -> None:
    aws = Aws(Answer(200, {"ConsumedCapacity": {"CapacityUnits": 1.5}}))
    client = aws.client(count_capacity=True)
    await client.call("PutItem", {"TableName": "t"})
    await client.call("PutItem", {"TableName": "t"})
    assert orjson.loads(aws.requests[0].body) == {"TableName": "t", "ReturnConsumedCapacity": "TOTAL"}
    assert client.capacity == {"PutItem": 3.0}
    assert client.calls == {"PutItem": 2}


async def test_capacity_is_not_asked_for_unasked() -> None:
    aws = Aws(Answer(200, {}))
    await aws.client().call("PutItem", {})
    await aws.client("sqs", count_capacity=True).call("SendMessage", {})
    assert [request.body for request in aws.requests] == [b"{}", b"{}"]
