"""Specifies where AWS credentials come from, when they are fetched again, and that their secrets are never printed."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import Unavailable, UpstreamError, UpstreamUnreachable
from llm_gateway.upstream.credentials import (
    AwsCredentials,
    ContainerCredentials,
    EnvironmentCredentials,
    NoCredentials,
    RoleCredentials,
    StaticCredentials,
    credential_source,
)

URL = "http://127.0.0.1:9001/v2/credentials"
KEYS = {"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "very-secret", "AWS_SESSION_TOKEN": "very-token"}


class Answer:
    headers: Mapping[str, str] = {}

    def __init__(self, status: int, body: bytes) -> None:
        self.status = status
        self._body = body

    async def read(self, limit: int) -> bytes:
        return self._body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self._body

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        return None


class Endpoint:
    """The credential endpoint: hands out key 1, 2, 3, …, each good for `life` seconds of `clock`."""

    def __init__(self, life: float = 3600.0) -> None:
        self.now = 1_770_000_000.0
        self.life = life
        self.requests: list[HttpRequest] = []
        self.answers: list[Answer | Exception] = []

    def clock(self) -> float:
        return self.now

    async def send(self, request: HttpRequest) -> Answer:
        self.requests.append(request)
        await asyncio.sleep(0)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        expiration = datetime.fromtimestamp(self.now + self.life, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        number = len(self.requests)
        body = {"AccessKeyId": f"AKID{number}", "SecretAccessKey": "s", "Token": "t", "Expiration": expiration}
        return Answer(200, json.dumps(body).encode())

    async def close(self) -> None:
        return None


def container(endpoint: Endpoint, **more: str) -> ContainerCredentials:
    return ContainerCredentials(endpoint, URL, clock=endpoint.clock, **more)


def test_no_secret_in_a_repr() -> None:
    credentials = AwsCredentials("AKID", "very-secret", "very-token", 1.0)
    assert "very" not in repr(credentials)
    assert "AKID" in repr(credentials)


async def test_environment() -> None:
    source = credential_source(KEYS, Endpoint())
    assert isinstance(source, EnvironmentCredentials)
    assert await source.current() == AwsCredentials("AKID", "very-secret", "very-token", None)


async def test_environment_without_a_session() -> None:
    source = EnvironmentCredentials({**KEYS, "AWS_SESSION_TOKEN": ""})
    assert (await source.current()).session_token is None


async def test_static() -> None:
    credentials = AwsCredentials("a", "b")
    assert await StaticCredentials(credentials).current() is credentials


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({}, "AWS_ACCESS_KEY_ID"),
        ({}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_ACCESS_KEY_ID": "AKID"}, "AWS_SECRET_ACCESS_KEY"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://198.51.100.7/"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "file:///etc/passwd"}, "AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://localhost.evil.example/"}, "loopback"),
    ],
)
def test_what_is_missing_or_wrong_is_named(environ: dict[str, str], named: str) -> None:
    with pytest.raises(NoCredentials, match=named):
        credential_source(environ, Endpoint())


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "http://localhost/x",
        "http://169.254.170.2/x",
        "http://169.254.170.23/x",
        "http://[::1]:1/",
        "https://any.example/",
    ],
)
def test_hosts_that_sdks_ask(url: str) -> None:
    source = credential_source({"AWS_CONTAINER_CREDENTIALS_FULL_URI": url}, Endpoint())
    assert isinstance(source, ContainerCredentials)


async def test_fetched_once_for_many() -> None:
    endpoint = Endpoint()
    source = container(endpoint, token="the-token")
    found = await asyncio.gather(*(source.current() for _ in range(50)))
    assert {credentials.access_key for credentials in found} == {"AKID1"}
    assert len(endpoint.requests) == 1
    assert endpoint.requests[0].method == "GET"
    assert endpoint.requests[0].headers["authorization"] == "the-token"
    assert found[0].expires_at == endpoint.now + endpoint.life


async def test_token_file_is_read_at_every_fetch(tmp_path: Path) -> None:
    endpoint = Endpoint()
    token = tmp_path / "token"
    token.write_text("first\n")
    source = container(endpoint, token_file=str(token))
    await source.current()
    token.write_text("second\n")
    endpoint.now += 3600
    await source.current()
    assert [request.headers["authorization"] for request in endpoint.requests] == ["first", "second"]
    token.unlink()
    endpoint.now += 3600
    with pytest.raises(Unavailable, match="TOKEN_FILE"):
        await source.current()


async def test_refreshed_five_minutes_before_they_expire() -> None:
    endpoint = Endpoint()
    source = container(endpoint)
    await source.current()
    endpoint.now += 3600 - 301
    assert (await source.current()).access_key == "AKID1"
    endpoint.now += 2
    assert (await source.current()).access_key == "AKID2"


async def test_a_failed_refresh_costs_nothing_while_the_old_ones_last() -> None:
    endpoint = Endpoint()
    source = container(endpoint)
    await source.current()
    endpoint.now += 3600 - 100
    endpoint.answers = [UpstreamUnreachable("down")] * 9
    assert (await source.current()).access_key == "AKID1"
    asked = len(endpoint.requests)
    assert (await source.current()).access_key == "AKID1"
    assert len(endpoint.requests) == asked, "asked again within 5 seconds of a failure"
    endpoint.now += 6
    assert (await source.current()).access_key == "AKID1"
    assert len(endpoint.requests) > asked
    endpoint.now += 100
    with pytest.raises(Unavailable):
        await source.current()
    assert (await source.current()).access_key == f"AKID{len(endpoint.requests)}"


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([Answer(404, b"very-secret")], id="refused"),
        pytest.param([Answer(200, b'{"SecretAccessKey": "very-secret"')], id="torn"),
        pytest.param([Answer(200, b'{"SecretAccessKey": "very-secret"}')], id="incomplete"),
        pytest.param([Answer(200, b'["very-secret"]')], id="no-object"),
        pytest.param(
            [Answer(200, b'{"AccessKeyId":"a","SecretAccessKey":"very-secret","Expiration":"soon"}')], id="no-date"
        ),
        pytest.param([Answer(500, b"")] * 3, id="fails"),
        pytest.param([UpstreamUnreachable("down")] * 3, id="unreachable"),
    ],
)
async def test_no_credentials_and_no_secret_told(answers: list[Answer | Exception]) -> None:
    endpoint = Endpoint()
    endpoint.answers = list(answers)
    with pytest.raises(Unavailable) as caught:
        await container(endpoint).current()
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "very-secret" not in f"{chain!r} {vars(chain)}"
        chain = chain.__cause__ or chain.__context__
    assert not endpoint.answers


async def test_tried_again_after_a_passing_failure() -> None:
    endpoint = Endpoint()
    endpoint.answers = [UpstreamUnreachable("down"), Answer(503, b"")]
    assert (await container(endpoint).current()).access_key == "AKID3"


async def test_a_cancelled_caller_takes_nobodys_credentials_away() -> None:
    endpoint = Endpoint()
    source = container(endpoint)
    first = asyncio.create_task(source.current())
    second = asyncio.create_task(source.current())
    await asyncio.sleep(0)
    first.cancel()
    assert (await second).access_key == "AKID1"
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_refused_credentials_are_forgotten_once() -> None:
    endpoint = Endpoint()
    source = container(endpoint)
    assert (await source.current()).access_key == "AKID1"
    assert not source.forget("AKID1"), "the next would be no better"
    endpoint.now += 6
    assert source.forget("AKID1")
    assert (await source.current()).access_key == "AKID2"
    assert source.forget("AKID1"), "others have come already, which stay"
    assert (await source.current()).access_key == "AKID2"
    assert not StaticCredentials(AwsCredentials("a", "b")).forget("a")


@pytest.mark.parametrize(
    ("environ", "there"),
    [
        ({}, False),
        ({"AWS_ACCESS_KEY_ID": "AKID"}, False),
        ({"AWS_ACCESS_KEY_ID": "AKID", "AWS_SECRET_ACCESS_KEY": "s"}, True),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": URL}, True),
        ({"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://198.51.100.7/"}, False),
    ],
)
def test_whether_there_are_credentials_is_known_without_asking(environ: dict[str, str], there: bool) -> None:
    endpoint = Endpoint()
    role = RoleCredentials(environ, endpoint)
    assert role.available is there
    assert role.available is there
    assert not endpoint.requests
