"""Specifies the time that a call's several keys have, and what is sent with each."""

import asyncio
from collections.abc import AsyncIterator, Mapping

import pytest

from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import HttpRequest, HttpResponse
from llm_gateway.errors import UpstreamError, UpstreamRejected, UpstreamUnreachable
from llm_gateway.pipeline.batches import Part
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.provider_keys import FirstKeys, GivenKeys, ProviderKey
from llm_gateway.schemas.openai_chat import ModelRequest
from llm_gateway.upstream.authorize import KEY_AUTHORIZERS
from tests.fakes.legs import leg_at
from tests.fakes.virtual_time import in_virtual_time, virtual_clock

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

    def end(self, error: UpstreamError) -> None:
        """All has come."""

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


async def send(upstream: Upstream, *, within_s: float = 120.0) -> Leg:
    keys = FirstKeys(Ring({}))
    dispatcher = Dispatcher(upstream, keys, Dialects(), KEY_AUTHORIZERS, print, clock=virtual_clock())
    leg = leg_at(CORP, within_s=within_s)
    try:
        await dispatcher.send(leg, Part(ModelRequest(b"{}", {}, "m"), HELLO))
    except (UpstreamRejected, UpstreamUnreachable) as error:
        leg.error = error
    return leg


@in_virtual_time
async def test_the_second_key_has_the_time_that_is_left() -> None:
    upstream = Upstream(429, 200, delay_s=4.0)
    leg = await send(upstream, within_s=10)
    first, second = upstream.requests
    assert first.first_byte_s == 10
    assert second.first_byte_s == pytest.approx(6)
    assert {first.headers["authorization"], second.headers["authorization"]} == {"Bearer sk-a", "Bearer sk-b"}
    assert leg.key is not None
    assert second.headers["authorization"] == f"Bearer {leg.key.text}"
    assert [answer.closed for answer in upstream.answers] == [True, False], "the caller closes the accepted one"


@in_virtual_time
async def test_no_time_left_is_the_providers_refusal() -> None:
    upstream = Upstream(429, 200, delay_s=4.5)
    leg = await send(upstream, within_s=5)
    assert len(upstream.requests) == 1
    assert leg.error is not None
    assert leg.error.http_status == 429


@pytest.mark.parametrize("statuses", [(None,), (429, None)])
async def test_a_provider_that_cannot_be_reached_ends_it(statuses: tuple[int | None, ...]) -> None:
    upstream = Upstream(*statuses)
    leg = await send(upstream)
    assert len(upstream.requests) == len(statuses)
    assert isinstance(leg.error, UpstreamUnreachable)
    assert [one.status for one in leg.attempts] == list(statuses)
    assert {one.key_source for one in leg.attempts} == {"system"}
    assert len({one.key_name for one in leg.attempts}) == len(statuses)
