"""Two gateway processes on one store: however many ask at once under one `Idempotency-Key`, the provider is called once."""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from tests.contract.conftest import AwsClients, create_ledger_table, engine_url
from tests.fakes.gateway_on_store import AUTH, GatewayOnStore
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"
"""
HEADERS = {**AUTH, "Idempotency-Key": "one"}
ORIGINAL = "x-gateway-original-request-id"
CALLERS = 200
REPLAYS = 40


def body(*, stream: bool) -> dict[str, Any]:
    return {"model": "corp:x", "messages": [{"role": "user", "content": "hi"}], "stream": stream}


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture(params=["moto", pytest.param("dynamodb-local", marks=pytest.mark.dynamodb_local)])
async def store(request: pytest.FixtureRequest, aws: AwsClients) -> tuple[AwsJsonClient, str, str]:
    """A client of the engine, its address, and an empty table."""
    url = engine_url(request, request.param)
    client = aws(url)
    return client, url, await create_ledger_table(client)


@pytest.fixture
async def gateways(
    store: tuple[AwsJsonClient, str, str], upstream: OpenAIUpstream
) -> AsyncIterator[tuple[GatewayOnStore, GatewayOnStore]]:
    _, url, table = store
    config = CONFIG.format(base_url=upstream.base_url)
    with GatewayOnStore(url, table, config) as one, GatewayOnStore(url, table, config) as other:
        yield one, other


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as made:
        yield made
    await asyncio.sleep(0.1)  # a closed transport lets go of its socket some turns of the loop later


@pytest.mark.parametrize("stream", [False, True])
async def test_two_hundred_at_once_are_one_call(
    gateways: tuple[GatewayOnStore, GatewayOnStore], upstream: OpenAIUpstream, client: httpx.AsyncClient, stream: bool
) -> None:
    scenario = ChatStream(text="once", hold=True) if stream else chat("once", hold=True)
    upstream.script("x", scenario)
    urls = [f"{gateways[number % 2].root}/v1/chat/completions" for number in range(CALLERS)]

    async def ask(url: str) -> httpx.Response:
        return await client.post(url, json=body(stream=stream), headers=HEADERS)

    asked = [asyncio.create_task(ask(url)) for url in urls]
    pending = set(asked)
    while len(pending) > 1:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED, timeout=60)
        assert done, "somebody waits who should have been refused"
    scenario.gate.release()
    answers = await asyncio.gather(*asked)
    assert Counter(answer.status_code for answer in answers) == {200: 1, 409: CALLERS - 1}
    (first,) = [answer for answer in answers if answer.status_code == 200]
    refused = [answer for answer in answers if answer.status_code == 409]
    assert {answer.json()["error"]["code"] for answer in refused} == {"idempotency_in_progress"}
    assert {answer.headers[ORIGINAL] for answer in refused} == {first.headers["x-request-id"]}

    await until_kept(client, urls[0], stream=stream)
    replays = await asyncio.gather(*(ask(url) for url in urls[:REPLAYS]))
    assert {answer.content for answer in replays} == {first.content}
    assert {answer.headers[ORIGINAL] for answer in replays} == {first.headers["x-request-id"]}
    assert len({answer.headers["x-request-id"] for answer in replays}) == REPLAYS
    assert len(upstream.requests) == 1


async def until_kept(client: httpx.AsyncClient, url: str, *, stream: bool) -> None:
    deadline = time.monotonic() + 20
    while (await client.post(url, json=body(stream=stream), headers=HEADERS)).status_code != 200:
        assert time.monotonic() < deadline, "the answer was never kept"
        await asyncio.sleep(0.02)


async def test_a_killed_process_holds_the_key_until_its_lease_ends(
    gateways: tuple[GatewayOnStore, GatewayOnStore],
    store: tuple[AwsJsonClient, str, str],
    upstream: OpenAIUpstream,
    client: httpx.AsyncClient,
) -> None:
    dying, living = gateways
    scenario = chat("never", hold=True)
    upstream.script("x", scenario, chat("at last"))
    lost = asyncio.create_task(
        client.post(f"{dying.root}/v1/chat/completions", json=body(stream=False), headers=HEADERS)
    )
    await asyncio.to_thread(scenario.gate.wait_held)
    dying.kill()
    with pytest.raises(httpx.TransportError):
        await lost

    url = f"{living.root}/v1/chat/completions"
    refused = await client.post(url, json=body(stream=False), headers=HEADERS)
    assert refused.status_code == 409
    dynamodb, _, table = store
    (item,) = (await dynamodb.call("Scan", {"TableName": table}))["Items"]
    assert item["owner"] == {"S": refused.headers[ORIGINAL]}
    assert 900 <= int(item["ttl"]["N"]) - time.time() <= 1020

    item["ttl"] = {"N": str(int(time.time()) - 1)}
    await dynamodb.call("PutItem", {"TableName": table, "Item": item})
    rivals = await asyncio.gather(*(client.post(url, json=body(stream=False), headers=HEADERS) for _ in range(20)))
    statuses = Counter(answer.status_code for answer in rivals)
    assert statuses[200] >= 1
    assert statuses[200] + statuses[409] == 20
    assert len(upstream.requests) == 2, "the dead one's, and one after it"
