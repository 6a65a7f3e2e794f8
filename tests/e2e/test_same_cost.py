"""The same prompt, buffered and streamed, by plain HTTP, by the SDK and by the library, writes the same cost."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from llm_gateway import Gateway
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, chat

pytestmark = pytest.mark.e2e

HELLO: list[Any] = [{"role": "user", "content": "Hello there, how are you?"}]
COUNTS = {
    "prompt_tokens": 1017,
    "completion_tokens": 53,
    "total_tokens": 1070,
    "prompt_tokens_details": {"cached_tokens": 1000},
    "completion_tokens_details": {"reasoning_tokens": 40},
}
CONFIG = """
[providers.corp]
base_url = "{base_url}"
api_key_env = "CORP_API_KEY"
quirks = {{ moderations = "openai" }}

[models.fast]
deployments = [{{ provider = "corp", model = "small-1" }}]

[prices."corp:small-1"]
input = "0.10"
output = "0.40"
cached_input = "0.025"
"""
VERDICT = {
    "id": "modr-1",
    "model": "omni-moderation-2024-09-26",
    "results": [
        {"flagged": True, "categories": {"hate": True, "self-harm": False}, "category_scores": {"hate": 0.9}},
        {"flagged": False, "categories": {"hate": False, "self-harm": False}, "category_scores": {"hate": 0.1}},
    ],
}


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        running.require_key("sk-corp-secret")
        yield running


@pytest.fixture(scope="module")
def served(
    upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]
) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("served"),
        environ={**bare_environ, "CORP_API_KEY": "sk-corp-secret"},
        config=CONFIG.format(base_url=upstream.base_url),
    ).start()
    yield process
    process.stop()
    process.clean_up()


def entry(served: GatewayProcess, request_id: str) -> dict[str, Any]:
    """The ledger's entry, once it is no longer open: accounts are written after the last byte."""
    url = f"{served.base_url.removesuffix('/v1')}/usage/requests/{request_id}"
    for _ in range(200):
        found: dict[str, Any] = httpx.get(url, headers={"Authorization": f"Bearer {served.key}"}).json()
        if found["status"] != "open":
            return found
    raise AssertionError("the entry stayed open")


def by_http(served: GatewayProcess) -> list[str]:
    """Buffered and streamed; the requests' ids."""
    headers = {"Authorization": f"Bearer {served.key}"}
    answers = [
        httpx.post(
            f"{served.base_url}/chat/completions",
            json={"model": "fast", "messages": HELLO, "stream": stream},
            headers=headers,
        )
        for stream in (False, True)
    ]
    assert answers[1].text.endswith("data: [DONE]\n\n")
    return [answer.headers["x-request-id"] for answer in answers]


def by_sdk(served: GatewayProcess) -> list[str]:
    with openai.OpenAI(base_url=served.base_url, api_key=served.key, max_retries=0) as client:
        create = client.chat.completions.with_raw_response.create
        buffered = create(model="fast", messages=HELLO)
        streamed = create(model="fast", messages=HELLO, stream=True)
        assert [chunk for chunk in streamed.parse() if chunk.choices]
    return [buffered.headers["x-request-id"], streamed.headers["x-request-id"]]


async def by_library(base_url: str, folder: Path) -> list[dict[str, Any]]:
    file = folder / "gateway.toml"
    file.write_text(CONFIG.format(base_url=base_url), encoding="utf-8")
    async with Gateway(file, environ={"CORP_API_KEY": "sk-corp-secret"}) as gateway:
        buffered = await gateway.chat_completion("search", HELLO, model="fast")
        streamed = await gateway.chat_completion("search", HELLO, model="fast", stream=True)
        assert "".join([chunk.content or "" async for chunk in streamed]) == buffered.content
        records = [await gateway.record(each.request_id) for each in (buffered, streamed)]
    assert [str(record.cost_usd) for record in records if record] == [str(buffered.cost_usd), str(streamed.cost_usd)]
    return [
        {
            "cost_usd": format(record.cost_usd or 0, "f"),
            "price_version": record.price_version,
            "input": record.usage.input_tokens,
            "output": record.usage.output_tokens,
            "status": record.status,
        }
        for record in records
        if record is not None
    ]


async def test_every_way_in_writes_the_same_cost(
    served: GatewayProcess, upstream: OpenAIUpstream, tmp_path: Path
) -> None:
    whole, stream = chat("One two three", usage=COUNTS), ChatStream(text="One two three", counts=COUNTS)
    upstream.script("small-1", whole, stream, whole, stream, whole, stream)
    told = [entry(served, request_id) for request_id in (*by_http(served), *by_sdk(served))]
    entries = [
        {
            "cost_usd": found["cost_usd"],
            "price_version": found["price_version"],
            "input": found["usage"]["input_tokens"],
            "output": found["usage"]["output_tokens"],
            "status": found["status"],
        }
        for found in told
    ]
    entries += await by_library(upstream.base_url, tmp_path)
    expected = (17 * Decimal("0.10") + 1000 * Decimal("0.025") + 53 * Decimal("0.40")) / 10**6
    assert len(entries) == 6
    assert all(found == entries[0] for found in entries), entries
    assert Decimal(entries[0]["cost_usd"]) == expected
    assert entries[0]["status"] == "settled"


def test_moderation_by_the_sdk(served: GatewayProcess, upstream: OpenAIUpstream) -> None:
    upstream.script("omni-moderation-latest", Reply(VERDICT))
    with openai.OpenAI(base_url=served.base_url, api_key=served.key, max_retries=0) as client:
        answer = client.moderations.create(input=["one", "two"])
        named = client.moderations.with_raw_response.create(input="one", model="corp:omni-moderation-latest")
        with pytest.raises(openai.BadRequestError) as refused:
            client.moderations.create(input="x", model="echo:demo")
    assert [result.flagged for result in answer.results] == [True, False]
    assert answer.results[0].categories.hate is True
    assert answer.results[0].categories.self_harm is False
    assert upstream.last().path == "/v1/moderations"
    assert upstream.last().json == {"input": "one", "model": "omni-moderation-latest"}
    assert refused.value.param == "model"
    found = entry(served, named.headers["x-request-id"])
    assert (found["status"], found["provider"], found["cost_usd"]) == ("settled", "corp", None)
