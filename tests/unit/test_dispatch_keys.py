"""Specifies the time that a call's several keys have, and what is sent with each."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Provider, Timeouts
from llm_gateway.domain.ports import HttpRequest, HttpResponse
from llm_gateway.errors import UpstreamRejected, UpstreamUnreachable
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.provider_keys import FirstKeys, GivenKeys, ProviderKey
from llm_gateway.upstream.authorize import KEY_AUTHORIZERS

CORP = Provider("corp", "openai_chat", "https://corp.example/v1")
HELLO = EncodedRequest("/chat/completions", b"{}")


class Answered:
    """An `HttpResponse` that is all there."""

    def __init__(self, status: int) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {"retry-after": "30"}
        self.closed = False

    async def read(self, limit: int) -> bytes:
        return b'{"error": {"message": "no"}}'

    async def chunks(self) -> AsyncIterator[bytes]:
        yield b""

    async def close(self) -> None:
        self.closed = True


class Upstream:
    """An `HttpClient` that answers each request after `delay_s`, with the next of `statuses`; None cannot be reached."""

    def __init__(self, *statuses: int | None, delay_s: float = 0.0) -> None:
        self.requests: list[HttpRequest] = []
        self.answers: list[Answered] = []
        self._statuses = iter(statuses)
        self._delay_s = delay_s

    async def send(self, request: HttpRequest) -> HttpResponse:
        self.requests.append(request)
        await asyncio.sleep(self._delay_s)
        status = next(self._statuses)
        if status is None:
            raise UpstreamUnreachable("nobody there")
        self.answers.append(Answered(status))
        return self.answers[-1]

    async def close(self) -> None: ...


class Ring(GivenKeys):
    """Two keys for everybody."""

    async def resolve(self, provider: Provider, team: str | None) -> list[ProviderKey]:
        return [ProviderKey("sk-a", "system", "a"), ProviderKey("sk-b", "system", "b")]


async def send(upstream: Upstream, *, first_token_s: float = 120.0) -> Outcome:
    outcome = Outcome(0.0)
    dispatcher = Dispatcher(upstream, FirstKeys(Ring({})), Dialects(), KEY_AUTHORIZERS, print)
    timeouts = Timeouts(first_token_s=first_token_s)
    dialect = dispatcher.dialect_of(CORP)
    try:
        await dispatcher.send(dialect, HELLO, CORP, "m", timeouts, None, outcome)
    except (UpstreamRejected, UpstreamUnreachable) as error:
        outcome.error = error
    return outcome


async def test_the_second_key_has_the_time_that_is_left() -> None:
    upstream = Upstream(429, 200, delay_s=0.05)
    outcome = await send(upstream, first_token_s=10)
    first, second = upstream.requests
    assert first.first_byte_s == 10
    assert 9 < second.first_byte_s < 9.96
    assert {first.headers["authorization"], second.headers["authorization"]} == {"Bearer sk-a", "Bearer sk-b"}
    assert outcome.key is not None
    assert second.headers["authorization"] == f"Bearer {outcome.key.text}"
    assert [answer.closed for answer in upstream.answers] == [True, False], "the caller closes the accepted one"


async def test_no_time_left_is_the_providers_refusal() -> None:
    upstream = Upstream(429, 200, delay_s=0.1)
    outcome = await send(upstream, first_token_s=1.05)
    assert len(upstream.requests) == 1
    assert outcome.error is not None
    assert outcome.error.http_status == 429


async def test_the_first_byte_never_comes_later_than_the_api_waits() -> None:
    upstream = Upstream(200)
    await send(upstream, first_token_s=900)
    assert upstream.requests[0].first_byte_s == 280


@pytest.mark.parametrize("statuses", [(None,), (429, None)])
async def test_a_provider_that_cannot_be_reached_ends_it(statuses: tuple[int | None, ...]) -> None:
    upstream = Upstream(*statuses)
    outcome = await send(upstream)
    assert len(upstream.requests) == len(statuses)
    assert isinstance(outcome.error, UpstreamUnreachable)
    assert [one.status for one in outcome.attempts] == list(statuses)
    assert {one.key_source for one in outcome.attempts} == {"system"}
    assert len({one.key_name for one in outcome.attempts}) == len(statuses)
