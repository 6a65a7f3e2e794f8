"""Specifies publishing to a topic: the form that botocore sends, and what becomes of refusals."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qsl

import botocore.awsrequest
import botocore.session
import pytest
from botocore.compat import HTTPHeaders

from llm_gateway.adapters.sns import SnsTopic
from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import Unavailable, UpstreamCut, UpstreamError
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials

TOPIC = "arn:aws:sns:eu-central-1:123456789012:budgets"
ATTRIBUTES = {"scope": "team#search", "share": "0.8"}


class Answer:
    headers: dict[str, str] = {}  # noqa: RUF012 - never written

    def __init__(self, status: int, body: bytes) -> None:
        self.status, self._body = status, body

    async def read(self, limit: int) -> bytes:
        return self._body

    def chunks(self) -> AsyncIterator[bytes]:
        raise NotImplementedError

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        return None


class Sns:
    def __init__(
        self, status: int = 200, body: bytes = b"<PublishResponse/>", failure: Exception | None = None
    ) -> None:
        self.requests: list[HttpRequest] = []
        self._answer = Answer(status, body)
        self._failure = failure

    async def send(self, request: HttpRequest) -> Answer:
        self.requests.append(request)
        if self._failure is not None:
            raise self._failure
        return self._answer

    async def close(self) -> None:
        return None


def publish(sns: Sns, subject: str = "80 % of the budget", text: str = "team `search` & ü\n") -> None:
    topic = SnsTopic(sns, TOPIC, StaticCredentials(AwsCredentials("AKID", "secret")), clock=lambda: 1_795_000_000.0)
    asyncio.run(topic.publish(subject, text, ATTRIBUTES))


def botocores_own(**parameters: Any) -> tuple[str, dict[str, str]]:
    """What botocore would send: its URL and form."""
    client: Any = botocore.session.get_session().create_client(
        "sns", region_name="eu-central-1", aws_access_key_id="AKID", aws_secret_access_key="secret"
    )
    sent: list[Any] = []

    def keep(request: Any, **_: Any) -> Any:
        sent.append(request)
        return botocore.awsrequest.AWSResponse(request.url, 200, HTTPHeaders(), None)

    client.meta.events.register("before-send.sns.Publish", keep)
    with pytest.raises(Exception):  # noqa: B017, PT011 - the empty answer does not parse, and does not matter
        client.publish(**parameters)
    body = sent[0].body
    return sent[0].url, dict(parse_qsl(body if isinstance(body, str) else body.decode()))


def test_it_is_what_botocore_sends() -> None:
    sns = Sns()
    publish(sns)
    (request,) = sns.requests
    url, form = botocores_own(
        TopicArn=TOPIC,
        Subject="80 % of the budget",
        Message="team `search` & ü\n",
        MessageAttributes={name: {"DataType": "String", "StringValue": value} for name, value in ATTRIBUTES.items()},
    )
    assert (request.url, dict(parse_qsl(request.body.decode()))) == (url, form)
    assert request.headers["content-type"] == "application/x-www-form-urlencoded; charset=utf-8"
    assert "/eu-central-1/sns/aws4_request" in request.headers["authorization"]


def test_a_subject_is_short_and_plain() -> None:
    sns = Sns()
    publish(sns, subject="team `ü\n" + "x" * 200)
    form = dict(parse_qsl(sns.requests[0].body.decode()))
    assert len(form["Subject"]) == 100
    assert form["Subject"].startswith("team `??xxx")


@pytest.mark.parametrize(
    ("sns", "words"),
    [
        (
            Sns(403, b"<ErrorResponse><Error><Code>AuthorizationError</Code></Error></ErrorResponse>"),
            "AuthorizationError",
        ),
        (Sns(500, b"oops"), "500"),
        (Sns(failure=UpstreamCut("cut")), "does not answer"),
    ],
)
def test_a_message_that_is_not_taken_is_told(sns: Sns, words: str) -> None:
    with pytest.raises(Unavailable, match=words):
        publish(sns)


def test_what_is_no_topic_is_refused() -> None:
    with pytest.raises(ValueError, match="no ARN of a topic"):
        SnsTopic(Sns(), "https://example.com", StaticCredentials(AwsCredentials("a", "b")))
