"""Waiting in line for what another process holds: two gateways, a key with one place, one DynamoDB."""

import asyncio
import time
from collections.abc import Iterator
from itertools import pairwise

import httpx
import pytest

from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing, dynamodb_local_required
from tests.fakes.gateway_on_dynamodb import GatewayOnDynamoDB, prepare
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"

[keys.prod]
key = "sk-test-prod"
limits = {{ parallel = 1 }}
queue_s = 30
"""
AUTH = {"Authorization": "Bearer sk-test-prod"}
HELLO = [{"role": "user", "content": "hi"}]

pytestmark = pytest.mark.dynamodb_local


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBLocal]:
    missing = dynamodb_local_missing()
    if missing is not None and not dynamodb_local_required():
        pytest.skip(f"no DynamoDB Local: {missing}")
    started = DynamoDBLocal.start(tmp_path_factory.mktemp("engine") / "log")
    yield started
    started.stop()


async def test_one_waits_for_what_the_other_holds(
    tmp_path_factory: pytest.TempPathFactory, engine: DynamoDBLocal, upstream: OpenAIUpstream
) -> None:
    held = ChatStream(gate_after=2)
    upstream.script("slow", held)
    upstream.script("x", chat(delay_s=0.3))
    await asyncio.to_thread(prepare, engine.url, CONFIG.format(base_url=upstream.base_url))
    log = tmp_path_factory.mktemp("gateways") / "log"
    with GatewayOnDynamoDB(engine.url, log=log) as one, GatewayOnDynamoDB(engine.url, log=log) as other:
        async with httpx.AsyncClient(timeout=60, headers=AUTH) as client:

            async def post(gateway: GatewayOnDynamoDB) -> httpx.Response:
                body = {"model": "corp:x", "messages": HELLO}
                return await client.post(f"{gateway.base_url}/chat/completions", json=body)

            body = {"model": "corp:slow", "messages": HELLO, "stream": True}
            async with client.stream("POST", f"{one.base_url}/chat/completions", json=body) as first:
                assert first.status_code == 200
                waiting = [asyncio.ensure_future(post(gateway)) for gateway in (one, other, one, other)]
                await asyncio.sleep(2.5)
                assert not any(each.done() for each in waiting)
                held.gate.release()
                released = time.monotonic()
                await first.aread()
            answers = await asyncio.gather(*waiting)
            took_s = time.monotonic() - released
    assert [each.status_code for each in answers] == [200] * 4
    assert all(int(each.headers["x-gateway-queued-ms"]) >= 2000 for each in answers)
    assert took_s < 15
    # One place: whatever the processes, no call begins before the one before it is over.
    assert len(upstream.requests) == 5
    for earlier, later in pairwise(upstream.requests):
        assert earlier.done_at is not None
        assert later.received_at >= earlier.done_at
