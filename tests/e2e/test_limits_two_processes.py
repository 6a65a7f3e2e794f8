"""Limits by the minute and in parallel, exact at the boundary: fifty callers at once over two gateways on one store."""

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator

import httpx
import pytest

from llm_gateway.domain.limits import Scope
from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing, dynamodb_local_required
from tests.fakes.gateway_on_dynamodb import GatewayOnDynamoDB, prepare
from tests.fakes.openai_upstream import OpenAIUpstream, chat
from tests.prove.books import open_books

CALLERS = 50
CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"

[teams.search]
limits = {{ rpm = 17 }}
[keys.rpm]
key = "sk-test-rpm-of-the-team"
team = "search"

[keys.tpm]
key = "sk-test-tpm"
limits = {{ tpm = 1000 }}

[keys.parallel]
key = "sk-test-parallel"
limits = {{ parallel = 7 }}

[keys.shadow]
key = "sk-test-shadow"
shadow = true
limits = {{ rpm = 1, tpm = 1, parallel = 1 }}
"""
KEYS = {
    "rpm": "sk-test-rpm-of-the-team",
    "tpm": "sk-test-tpm",
    "parallel": "sk-test-parallel",
    "shadow": "sk-test-shadow",
}
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 90}
Gateways = tuple[GatewayOnDynamoDB, GatewayOnDynamoDB]

pytestmark = pytest.mark.dynamodb_local


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBLocal]:
    missing = dynamodb_local_missing()
    if missing is not None and not dynamodb_local_required():
        pytest.skip(f"no DynamoDB Local: {missing}")
    started = DynamoDBLocal.start(tmp_path_factory.mktemp("engine") / "log")
    yield started
    started.stop()


@pytest.fixture(scope="module")
def gateways(
    tmp_path_factory: pytest.TempPathFactory, engine: DynamoDBLocal, upstream: OpenAIUpstream
) -> Iterator[Gateways]:
    prepare(engine.url, CONFIG.format(base_url=upstream.base_url))
    log = tmp_path_factory.mktemp("gateways") / "log"
    with GatewayOnDynamoDB(engine.url, log=log) as one, GatewayOnDynamoDB(engine.url, log=log) as other:
        for each in (one, other):
            warm_up(each)
        yield one, other
    assert "Traceback" not in log.read_text()


def warm_up(gateway: GatewayOnDynamoDB) -> None:
    """The key and the catalog are read, so that all fifty come to the counters at once."""
    for key in KEYS.values():
        models = httpx.get(f"{gateway.base_url}/models", headers={"Authorization": f"Bearer {key}"}, timeout=30)
        assert models.status_code == 200


_USED: set[int] = set()
"""Minutes, counted since 1970, in which there was a burst."""


def early_in_a_minute() -> None:
    """A burst must not fall into two minutes: they would let in two limits' worth, and rightly. Nor into the minute of
    another one, which has used it up."""
    if (second := time.time() % 60) > 40 or int(time.time() // 60) in _USED:
        time.sleep(60.1 - second)
    _USED.add(int(time.time() // 60))


async def burst(gateways: Gateways, key: str, model: str = "corp:m") -> list[httpx.Response]:
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def ask(number: int) -> httpx.Response:
            return await client.post(
                f"{gateways[number % 2].base_url}/chat/completions",
                json={**BODY, "model": model},
                headers={"Authorization": f"Bearer {KEYS[key]}"},
            )

        return await asyncio.gather(*(ask(number) for number in range(CALLERS)))


def of_status(answers: list[httpx.Response], status: int) -> list[httpx.Response]:
    return [answer for answer in answers if answer.status_code == status]


def seconds_of(header: str) -> float:
    found = re.fullmatch(r"(\d+\.\d{3})s", header)
    assert found is not None, header
    return float(found[1])


def test_requests_per_minute(gateways: Gateways, upstream: OpenAIUpstream) -> None:
    upstream.script("rpm", chat("yes"))
    early_in_a_minute()
    answers = asyncio.run(burst(gateways, "rpm", "corp:rpm"))
    assert Counter(answer.status_code for answer in answers) == {200: 17, 429: 33}
    assert sum(request.json["model"] == "rpm" for request in upstream.requests) == 17
    left = sorted(int(answer.headers["x-ratelimit-remaining-requests"]) for answer in of_status(answers, 200))
    assert left == list(range(17)), "each was told its own place"
    for refused in of_status(answers, 429):
        error = refused.json()["error"]
        assert (error["type"], error["code"]) == ("rate_limit_error", "rate_limit_exceeded")
        assert "team `search`: 17 requests per minute, 17 used" in error["message"]
        assert refused.headers["x-ratelimit-limit-requests"] == "17"
        assert refused.headers["x-ratelimit-remaining-requests"] == "0"
        reset = seconds_of(refused.headers["x-ratelimit-reset-requests"])
        assert 0 < reset <= 60
        assert reset <= float(refused.headers["retry-after"]) <= reset + 1
        assert refused.headers["x-request-id"]


def test_tokens_per_minute(gateways: Gateways, upstream: OpenAIUpstream) -> None:
    """Held open, so that what is expected counts and not what it came to."""
    scenario = chat("yes", hold=True)
    upstream.script("tpm", scenario)
    early_in_a_minute()
    answers = asyncio.run(held_burst(gateways, "tpm", upstream, scenario.gate.release))
    taken = of_status(answers, 200)
    each = 1000 - max(int(answer.headers["x-ratelimit-remaining-tokens"]) for answer in taken)
    assert 90 < each <= 110, "the prompt and `max_tokens`"
    assert len(taken) == 1000 // each
    assert Counter(answer.status_code for answer in answers) == {200: 1000 // each, 429: CALLERS - 1000 // each}
    for refused in of_status(answers, 429):
        assert f"key `tpm`: 1000 tokens per minute, {each * len(taken)} used, {each} wanted" in refused.text
        assert refused.headers["x-ratelimit-limit-tokens"] == "1000"
        assert int(refused.headers["x-ratelimit-remaining-tokens"]) == 1000 - each * len(taken)
        assert seconds_of(refused.headers["x-ratelimit-reset-tokens"]) <= float(refused.headers["retry-after"]) + 1


def test_in_parallel(gateways: Gateways, upstream: OpenAIUpstream, engine: DynamoDBLocal) -> None:
    for _ in range(2):  # the places are free again
        scenario = chat("yes", hold=True)
        upstream.script("parallel", scenario)
        answers = asyncio.run(held_burst(gateways, "parallel", upstream, scenario.gate.release))
        assert Counter(answer.status_code for answer in answers) == {200: 7, 429: CALLERS - 7}
        for refused in of_status(answers, 429):
            assert "key `parallel`: 7 parallel requests, 7 used, 1 wanted" in refused.text
            assert int(refused.headers["retry-after"]) >= 1
        asyncio.run(until_free(engine.url))


def test_in_shadow_everybody_passes(gateways: Gateways) -> None:
    answers = asyncio.run(burst(gateways, "shadow"))
    assert Counter(answer.status_code for answer in answers) == {200: CALLERS}
    assert not any(name.startswith("x-ratelimit") for name in answers[0].headers)


async def held_burst(
    gateways: Gateways, key: str, upstream: OpenAIUpstream, release: Callable[[], None]
) -> list[httpx.Response]:
    """The provider answers once everybody else was refused."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=60, limits=limits, trust_env=False) as client:

        async def ask(number: int) -> httpx.Response:
            return await client.post(
                f"{gateways[number % 2].base_url}/chat/completions",
                json={**BODY, "model": f"corp:{key}"},
                headers={"Authorization": f"Bearer {KEYS[key]}"},
            )

        before = sum(request.json["model"] == key for request in upstream.requests)
        pending = asked = {asyncio.create_task(ask(number)) for number in range(CALLERS)}
        while True:
            held = sum(request.json["model"] == key for request in upstream.requests) - before
            if len(pending) == held:
                break
            done, pending = await asyncio.wait(pending, timeout=30, return_when=asyncio.FIRST_COMPLETED)
            assert done, f"{len(pending)} wait, and the provider knows of {held}"
        release()
        return list(await asyncio.gather(*asked))


async def until_free(store_url: str) -> None:
    """Places are given back after the caller's last byte."""
    deadline = time.monotonic() + 20
    async with open_books(store_url) as books:
        while (await books.scopes.level(Scope("key", "parallel"), 0, ())).in_flight:
            assert time.monotonic() < deadline, "the places were never given back"
            await asyncio.sleep(0.05)
