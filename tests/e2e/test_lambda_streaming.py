"""The deployed shape without AWS: API Gateway's and Lambda's stand-in around the real runtime process and the real app.

The official `openai` SDK calls the stand-in; stores are the embedded AWS of a `llm-gateway run`; the provider is a fake
over real HTTP.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.lambda_platform import LambdaPlatform
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, chat, error

APP = "llm_gateway.bootstrap:build_lambda_app"
HELLO: list[Any] = [{"role": "user", "content": "Hello there, how are you?"}]
CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"

[models.fast]
deployments = [{{ provider = "corp", model = "small-1" }}]

[prices."corp:small-1"]
input = "1"
output = "2"
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def stores(
    upstream: OpenAIUpstream, tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]
) -> Iterator[GatewayProcess]:
    process = GatewayProcess(
        tmp_path_factory.mktemp("stores"), environ=bare_environ, config=CONFIG.format(base_url=upstream.base_url)
    ).start()
    yield process
    process.stop()
    process.clean_up()


def environment(stores: GatewayProcess, **more: str) -> dict[str, str]:
    return {
        "AWS_ENDPOINT_URL": stores.aws.endpoint_url,
        "AWS_ACCESS_KEY_ID": stores.aws.access_key,
        "AWS_SECRET_ACCESS_KEY": stores.aws.secret_key,
        "AWS_REGION": "us-east-1",
        "AWS_LAMBDA_FUNCTION_NAME": "gateway",
        **more,
    }


@pytest.fixture(scope="module")
def platform(stores: GatewayProcess) -> Iterator[LambdaPlatform]:
    with LambdaPlatform(APP, env=environment(stores), concurrency=8) as running:
        yield running


@pytest.fixture
def client(platform: LambdaPlatform, stores: GatewayProcess) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{platform.url}/v1", api_key=stores.key, max_retries=0, timeout=20) as made:
        yield made


def entry(stores: GatewayProcess, request_id: str) -> dict[str, Any]:
    root = stores.base_url.removesuffix("/v1")
    answer = httpx.get(f"{root}/usage/requests/{request_id}", headers={"Authorization": f"Bearer {stores.key}"})
    found: dict[str, Any] = answer.json()
    return found


def test_the_first_chunk_arrives_while_the_provider_still_produces(
    client: openai.OpenAI, platform: LambdaPlatform, stores: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    scenario = ChatStream(text="first second third", gate_after=2)
    upstream.script("small-1", scenario)
    raw = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, stream=True)
    stream = raw.parse()
    first = next(iter(stream))
    assert first.choices
    assert upstream.last().done_at is None
    request_id = raw.headers["x-request-id"]
    assert entry(stores, request_id)["status"] == "open"
    scenario.gate.release()
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream).endswith("third")
    invocation = platform.invocations[-1]
    assert invocation.over.wait(5)
    assert invocation.polled_again.wait(5)
    assert invocation.ended_at is not None
    assert invocation.next_at is not None
    assert invocation.ended_at < invocation.next_at, "the caller has its last byte before the accounts are written"
    settled = entry(stores, request_id)
    assert settled["status"] == "settled"
    assert Decimal(settled["cost_usd"]) > 0
    assert invocation.trailers == {}


def test_streamed_and_buffered_cost_the_same(
    client: openai.OpenAI, platform: LambdaPlatform, stores: GatewayProcess, upstream: OpenAIUpstream
) -> None:
    counts = {"prompt_tokens": 31, "completion_tokens": 7, "total_tokens": 38}
    upstream.script("small-1", chat("a b c", usage=counts), ChatStream(text="a b c", counts=counts))
    buffered = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO)
    streamed = client.chat.completions.with_raw_response.create(model="fast", messages=HELLO, stream=True)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in streamed.parse()) == "a b c"
    assert platform.invocations[-1].polled_again.wait(5)
    costs = [Decimal(entry(stores, one.headers["x-request-id"])["cost_usd"]) for one in (buffered, streamed)]
    assert costs == [Decimal(31 + 14) / 10**6] * 2
    assert buffered.headers["x-gateway-cost-usd"] == "0.000045"


def test_eight_streams_in_one_process(
    client: openai.OpenAI, platform: LambdaPlatform, upstream: OpenAIUpstream
) -> None:
    scenario = ChatStream(text="a b c d", gate_after=2)
    upstream.script("small-1", scenario)

    def one(number: int) -> str:
        stream = client.chat.completions.create(
            model="fast", messages=[{"role": "user", "content": str(number)}], stream=True
        )
        texts = []
        for chunk in stream:
            texts.append(chunk.choices[0].delta.content or "")
            begun.append(number)
        return "".join(texts)

    begun: list[int] = []
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(one, number) for number in range(8)]
        while len(set(begun)) < 8:
            assert not any(answer.done() for answer in answers)
        scenario.gate.release()
        assert [answer.result() for answer in answers] == ["a b c d"] * 8
    assert platform.most_polls == 8


@pytest.mark.parametrize("stream", [False, True])
def test_a_failure_before_the_first_byte_is_a_real_status(
    client: openai.OpenAI, platform: LambdaPlatform, upstream: OpenAIUpstream, stream: bool
) -> None:
    upstream.script("small-1", error(429, "slow down", code="rate_limit_exceeded", headers={"retry-after": "3"}))
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model="fast", messages=HELLO, stream=stream)
    assert caught.value.response.headers["retry-after"] == "3"
    assert caught.value.response.headers["x-request-id"].startswith("req_")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="sk-wrong").chat.completions.create(model="fast", messages=HELLO, stream=stream)
    assert platform.invocations[-1].error is None


def test_a_failure_in_mid_stream_is_in_band(
    client: openai.OpenAI, platform: LambdaPlatform, upstream: OpenAIUpstream
) -> None:
    upstream.script("small-1", Stream([{"choices": [{"index": 0, "delta": {"content": "a"}}]}], end="cut"))
    with pytest.raises(openai.APIError, match=r"ended before|closed"):
        list(client.chat.completions.create(model="fast", messages=HELLO, stream=True))
    assert b"[DONE]" not in platform.invocations[-1].body


def test_near_the_deadline_the_stream_ends_well_formed(stores: GatewayProcess, upstream: OpenAIUpstream) -> None:
    upstream.script("small-1", Stream([{"choices": [{"index": 0, "delta": {"content": "a b c"}}]}], end="stall"))
    with (
        LambdaPlatform(APP, env=environment(stores), timeout_s=4) as short,
        httpx.stream(
            "POST",
            f"{short.url}/v1/chat/completions",
            json={"model": "fast", "messages": HELLO, "stream": True},
            headers={"Authorization": f"Bearer {stores.key}"},
            timeout=20,
        ) as answer,
    ):
        text = "".join(answer.iter_text())
        assert "event: error" in text
        assert '"code":"deadline_exceeded"' in text
        assert "[DONE]" not in text
        assert short.invocations[-1].polled_again.wait(5)
        found = entry(stores, answer.headers["x-request-id"])
        assert (found["status"], found["error_code"], found["estimated"]) == ("failed", "deadline_exceeded", True)


def test_metrics_are_lines_in_the_log(
    client: openai.OpenAI, platform: LambdaPlatform, upstream: OpenAIUpstream
) -> None:
    upstream.script("small-1", Reply({"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": 1}}))
    client.chat.completions.create(model="fast", messages=HELLO)
    assert platform.invocations[-1].polled_again.wait(5)
    assert '"Namespace":"LLMGateway"' in platform.stdout.replace('": "', '":"').replace('": ', '":')
    assert "Hello there" not in platform.stdout + platform.stderr


def test_models_and_unknown_routes(client: openai.OpenAI, platform: LambdaPlatform) -> None:
    assert "fast" in [model.id for model in client.models.list()]
    answer = httpx.get(f"{platform.url}/nothing")
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "unknown_url")


def test_keys_cannot_be_switched_off_when_deployed(stores: GatewayProcess) -> None:
    with LambdaPlatform(APP, env=environment(stores, AUTH="none"), wait_for_poll=False) as refused:
        assert refused.wait_exit() == 1
        assert refused.init_error is not None
        assert "AUTH=none" in str(refused.init_error)
