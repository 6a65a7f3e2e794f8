"""A client and the fake provider it calls, as the tests of the upstream client over real sockets share them.

The peer is `tests/fakes/openai_upstream.py` on loopback.
A test module takes the fixtures by assignment: `client, up, provider = calls.client, calls.up, calls.provider`.
"""

from collections.abc import AsyncIterator, Iterator
from typing import Any

import orjson
import pytest

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.upstream.client import UpstreamClient, open_client
from tests.fakes.openai_upstream import OpenAIUpstream

KEY = "sk-secret-of-the-provider"


@pytest.fixture(scope="module")
def provider() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as upstream:
        yield upstream


@pytest.fixture
def up(provider: OpenAIUpstream) -> OpenAIUpstream:
    provider.requests.clear()
    return provider


@pytest.fixture
async def client() -> AsyncIterator[UpstreamClient]:
    opened = open_client()
    yield opened
    await opened.close()


def request_for(up: OpenAIUpstream | str, model: str = "m", stream: bool = False, **options: Any) -> HttpRequest:
    url = up if isinstance(up, str) else f"{up.base_url}/chat/completions"
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    headers = {"content-type": "application/json", "authorization": f"Bearer {KEY}", "x-title": "Some App"}
    return HttpRequest("POST", url, headers, orjson.dumps(body), **options)


async def read_all(client: UpstreamClient, request: HttpRequest) -> bytes:
    response = await client.send(request)
    try:
        return b"".join([piece async for piece in response.chunks()])
    finally:
        await response.close()
