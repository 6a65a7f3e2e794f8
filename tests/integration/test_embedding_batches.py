"""A request for more embeddings than the provider takes in a call: several calls, one answer, one record, exact cost."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.bedrock_upstream import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BedrockUpstream, exception
from tests.fakes.gateway_app import KEY, GatewayApp
from tests.fakes.gemini_upstream import GeminiUpstream
from tests.fakes.openai_upstream import Recorded, Reply
from tests.fakes.openai_wire import Scenario

TITAN, COHERE = "amazon.titan-embed-text-v2:0", "cohere.embed-multilingual-v3"
CONFIG = """
[providers.bedrock]
base_url = "{base_url}"
[prices."bedrock:amazon.titan-embed-text-v2:0"]
input = "0.02"
output = "0"
per_request = "0.0001"
[prices."bedrock:cohere.embed-multilingual-v3"]
input = "0.1"
output = "0"
"""


class Embedder(BedrockUpstream):
    """Titan and Cohere: text `n` is [n, -n], and n tokens. The first ones take longest; `bad` is throttled.

    Of a call with `777` in it the last vector is missing.
    """

    def __init__(self) -> None:
        super().__init__()
        self.under_way = self.most_under_way = 0
        self.stalled = Reply(hold=True)

    def choose(self, request: Recorded) -> Scenario:
        refused = super().choose(request)
        assert isinstance(refused, Reply)
        if refused.status == 403:
            return refused
        texts = request.json.get("texts") or [request.json["inputText"]]
        if "bad" in texts:
            throttled = exception(429, "ThrottlingException", "Too many tokens, please wait", {"retry-after": "7"})
            return replace(throttled, delay_s=0.15)  # the others are under way by then
        if "stall" in texts:
            return self.stalled
        with self._lock:
            running = sum(each.done_at is None and each.left_at is None for each in self.requests)
            self.most_under_way = max(self.most_under_way, running)
        vectors, tokens = [[int(text), -int(text)] for text in texts], sum(map(int, texts))
        if "777" in texts:
            vectors.pop()
        if "texts" in request.json:
            counted = {"x-amzn-bedrock-input-token-count": str(tokens)}
            return Reply({"embeddings": {"float": vectors}}, headers=counted)
        delay_s = 0.05 if int(texts[0]) < 4 else 0.01
        return Reply({"embedding": vectors[0], "inputTextTokenCount": tokens}, delay_s=delay_s)


@pytest.fixture
def upstream() -> Iterator[Embedder]:
    with Embedder() as running:
        yield running


@pytest.fixture
def app(upstream: Embedder) -> Iterator[GatewayApp]:
    credentials = StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN))
    signer = {"sigv4": SignedByRole(credentials, "us-east-1")}
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), authorizers=signer) as running:
        yield running


def embed(app: GatewayApp, texts: Any, model: str = f"bedrock:{TITAN}", **more: Any) -> httpx.Response:
    body = {"model": model, "input": texts, **more}
    return httpx.post(f"{app.base_url}/embeddings", json=body, headers=app.auth, timeout=20)


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def test_a_batch_of_what_takes_one_at_a_time(app: GatewayApp, upstream: Embedder) -> None:
    with openai.OpenAI(base_url=app.base_url, api_key=KEY, max_retries=0) as client:  # asks for base64
        raw = client.embeddings.with_raw_response.create(model=f"bedrock:{TITAN}", input=numbers(1, 30), dimensions=256)
    answer = raw.parse()
    assert [item.embedding for item in answer.data] == [[number, -number] for number in range(1, 31)]
    assert [item.index for item in answer.data] == list(range(30))
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (465, 465)
    assert (answer.model, answer.object) == (TITAN, "list")
    assert sorted(int(request.json["inputText"]) for request in upstream.requests) == list(range(1, 31))
    assert {request.json["dimensions"] for request in upstream.requests} == {256}
    assert 2 <= upstream.most_under_way <= 8
    assert upstream.connections <= 8
    record = app.only_record()
    assert (record.status, record.usage.input_tokens, record.usage.estimated) == ("settled", 465, False)
    assert [attempt.status for attempt in record.attempts] == [200]
    # 465 tokens at 0.02 a million, and 30 calls at 0.0001
    assert record.cost_usd == Decimal("0.0030093") == Decimal(raw.headers["x-gateway-cost-usd"])


@pytest.mark.parametrize("texts", [["1", "777", "2"], [*numbers(1, 150), "777"]])
def test_fewer_vectors_than_inputs_are_no_answer(app: GatewayApp, texts: list[str]) -> None:
    answer = embed(app, texts, model=f"bedrock:{COHERE}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "upstream_malformed")
    assert app.only_record().status == "failed"


def test_one_refusal_is_the_whole_answer(app: GatewayApp, upstream: Embedder) -> None:
    answer = embed(app, ["1", "2", "stall", "stall", "bad", *numbers(5, 600)])
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (429, "ThrottlingException")
    assert answer.headers["retry-after"] == "7"
    stalled = [request for request in upstream.requests if request.json["inputText"] == "stall"]
    assert len(stalled) == 2
    assert all(request.wait_left() for request in stalled), "calls still under way go on"
    assert len(upstream.requests) < 600, "calls were begun after the failure"
    record = app.only_record()
    assert (record.status, record.error_code, record.http_status) == ("failed", "ThrottlingException", 429)
    assert (429, "ThrottlingException") in [(each.status, each.error) for each in record.attempts]


def test_what_was_answered_before_the_refusal_is_billed(app: GatewayApp, upstream: Embedder) -> None:
    # Seven places are held, so that the texts go one after the other.
    answer = embed(app, [*["stall"] * 7, "10", "20", "bad"])
    assert answer.status_code == 429
    record = app.only_record()
    assert record.usage.input_tokens == 30
    assert record.cost_usd == Decimal("0.0002006")


async def test_a_caller_who_leaves_takes_every_call_along(app: GatewayApp, upstream: Embedder) -> None:
    def stalled() -> list[Recorded]:
        return [request for request in upstream.requests if request.json["inputText"] == "stall"]

    body = {"model": f"bedrock:{TITAN}", "input": ["3", *["stall"] * 20]}
    async with httpx.AsyncClient(timeout=20) as client, asyncio.timeout(15):
        caller = asyncio.create_task(client.post(f"{app.base_url}/embeddings", json=body, headers=app.auth))
        while len(stalled()) < 8:  # noqa: ASYNC110 - of another thread
            await asyncio.sleep(0.01)
        caller.cancel()
        await asyncio.wait([caller])
    assert [request.wait_left(5) for request in stalled()] == [True] * 8
    record = app.only_record()
    assert (record.error_code, record.usage.input_tokens) == ("client_disconnected", 3)
    await asyncio.sleep(0.1)
    assert len(upstream.requests) == 9


def test_cohere_takes_96_a_call(app: GatewayApp, upstream: Embedder) -> None:
    answer = embed(app, numbers(1, 200), f"bedrock:{COHERE}", input_type="search_query")
    assert answer.status_code == 200
    assert sorted(len(request.json["texts"]) for request in upstream.requests) == [8, 96, 96]
    assert [item["embedding"] for item in answer.json()["data"]] == [[number, -number] for number in range(1, 201)]
    record = app.only_record()
    assert record.usage.input_tokens == answer.json()["usage"]["prompt_tokens"] == 20_100
    assert record.cost_usd == Decimal("0.00201")


def test_token_numbers_are_refused_in_the_dialects_words(app: GatewayApp, upstream: Embedder) -> None:
    answer = embed(app, [1, 2, 3])
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "input")
    assert not upstream.requests


VERTEX = """
[providers.vertex]
dialect = "gemini_generate_content"
base_url = "{base_url}"
credential = "bearer"
quirks = {{ envelope = "vertex" }}
[providers.gemini]
base_url = "{base_url}"
"""


class Google(GeminiUpstream):
    def choose(self, request: Recorded) -> Scenario:
        if request.path.endswith(":embedContent"):
            self.requests.append(request)
            length = len(request.json["content"]["parts"][0]["text"])
            return Reply({"embedding": {"values": [length]}, "usageMetadata": {"promptTokenCount": length}})
        return super().choose(request)


def google(model: str, texts: list[str]) -> tuple[httpx.Response, list[Recorded]]:
    with Google() as upstream:
        config = VERTEX.format(base_url=upstream.base_url)
        with GatewayApp(config, secrets={"vertex": "token", "gemini": "key"}) as app:
            answer = embed(app, texts, model, dimensions=64, task_type="CLUSTERING")
        return answer, upstream.requests


def test_gemini_embedding_2_on_vertex_embeds_one_content_a_call() -> None:
    answer, requests = google("vertex:gemini-embedding-2", ["a", "bb", "ccc"])
    assert [item["embedding"] for item in answer.json()["data"]] == [[1], [2], [3]]
    assert answer.json()["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert {request.path for request in requests} == {"/v1beta/models/gemini-embedding-2:embedContent"}
    assert min(requests, key=lambda each: len(each.body)).json == {
        "content": {"role": "user", "parts": [{"text": "a"}]},
        "embedContentConfig": {"taskType": "CLUSTERING", "outputDimensionality": 64},
    }


def test_gemini_embedding_001_on_vertex_takes_one_instance_a_call() -> None:
    answer, requests = google("vertex:gemini-embedding-001", ["a", "b", "c"])
    assert len(answer.json()["data"]) == 3
    assert answer.json()["usage"] == {"prompt_tokens": 6, "total_tokens": 6}
    assert [len(request.json["instances"]) for request in requests] == [1, 1, 1]


@pytest.mark.parametrize(
    ("model", "most", "member"),
    [("gemini:gemini-embedding-001", 100, "requests"), ("vertex:text-embedding-005", 250, "instances")],
)
def test_what_google_takes_at_once(model: str, most: int, member: str) -> None:
    answer, requests = google(model, ["some text"] * (most + 1))
    assert [item["index"] for item in answer.json()["data"]] == list(range(most + 1))
    assert sorted(len(request.json[member]) for request in requests) == [1, most]
