"""A provider's outage and two gateways on one store: one finds out, the other stops calling; both come back. And what
that costs in calls of DynamoDB."""

import time
from collections import Counter
from collections.abc import Iterator

import httpx
import pytest

from llm_gateway.settings import Settings
from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing, dynamodb_local_required
from tests.fakes.dynamodb_faults import DynamoDBFaults
from tests.fakes.gateway_on_dynamodb import ADMIN_KEY, GatewayOnDynamoDB, prepare
from tests.fakes.openai_upstream import OpenAIUpstream, chat, error

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"

[providers.spare]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"

[models.fast]
deployments = [{{ provider = "corp", model = "primary" }}]
fallbacks = ["spare:backup"]
retries = 0
"""
AUTH = {"Authorization": f"Bearer {ADMIN_KEY}"}
CACHE = Settings().cache_table
PAUSE_S = 0.25

pytestmark = pytest.mark.dynamodb_local


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBLocal]:
    missing = dynamodb_local_missing()
    if missing is not None and not dynamodb_local_required():
        pytest.skip(f"no DynamoDB Local: {missing}")
    started = DynamoDBLocal.start(tmp_path_factory.mktemp("engine") / "log")
    yield started
    started.stop()


class Environment:
    """A gateway behind a proxy that counts what it asks the store for; `name` is the user of its requests."""

    def __init__(self, name: str, gateway: GatewayOnDynamoDB, store: DynamoDBFaults, upstream: OpenAIUpstream) -> None:
        self.name = name
        self._gateway = gateway
        self._store = store
        self._upstream = upstream

    def ask(self) -> str:
        """Asks once; who answered."""
        body = {"model": "fast", "user": self.name, "messages": [{"role": "user", "content": "hi"}]}
        answer = httpx.post(f"{self._gateway.base_url}/chat/completions", json=body, headers=AUTH, timeout=30)
        assert answer.status_code == 200, answer.text
        return answer.headers["x-gateway-provider"]

    def primary_calls(self) -> int:
        return sum(
            each.json["model"] == "primary" and each.json["user"] == self.name for each in self._upstream.requests
        )

    def state(self) -> dict[str, object]:
        answer = httpx.get(f"{self._gateway.base_url}/providers/status", headers=AUTH, timeout=30)
        (found,) = [
            each
            for provider in answer.json()["data"]
            for each in provider["deployments"]
            if each["deployment"] == "corp:primary"
        ]
        return dict(found)

    def cache_calls(self) -> Counter[str]:
        """Of the table that what they tell each other is in."""
        return Counter({name: count for (name, table), count in self._store.asked.items() if table == CACHE})


def test_one_finds_out_and_both_come_back(engine: DynamoDBLocal, tmp_path_factory: pytest.TempPathFactory) -> None:
    log = tmp_path_factory.mktemp("gateways") / "log"
    with (
        OpenAIUpstream() as upstream,
        DynamoDBFaults(engine.url, share=0) as store_of_one,
        DynamoDBFaults(engine.url, share=0) as store_of_other,
    ):
        prepare(engine.url, CONFIG.format(base_url=upstream.base_url))
        upstream.script("primary", chat("yes"))
        with (
            GatewayOnDynamoDB(store_of_one.url, log=log) as first,
            GatewayOnDynamoDB(store_of_other.url, log=log) as second,
        ):
            one = Environment("one", first, store_of_one, upstream)
            other = Environment("other", second, store_of_other, upstream)
            all_is_well(one, other)
            upstream.script("primary", error(503))
            the_other_stops(one, other)
            upstream.script("primary", chat("yes"))
            both_come_back(one, other)
            for each in (one, other):
                assert each.cache_calls()["UpdateItem"] <= 4, "openings, tries that failed, the return"
                assert set(each.cache_calls()) <= {"GetItem", "UpdateItem"}
    assert "Traceback" not in log.read_text()


def all_is_well(one: Environment, other: Environment) -> None:
    """A reading in two seconds of requests, and nothing written."""
    one.ask(), other.ask()
    began, requests = time.monotonic(), 2
    while time.monotonic() - began < 5:
        assert {one.ask(), other.ask()} == {"corp"}
        requests += 1
        time.sleep(PAUSE_S)
    took = time.monotonic() - began
    for each in (one, other):
        calls = each.cache_calls()
        assert 1 <= calls["GetItem"] <= took / 2 + 2
        assert calls["GetItem"] < requests
        assert calls["UpdateItem"] == 0


def the_other_stops(one: Environment, other: Environment) -> None:
    before = other.primary_calls()
    while one.state()["state"] == "closed":
        assert one.ask() == "spare"
    assert one.cache_calls()["UpdateItem"] == 1
    began = time.monotonic()
    while other.state()["state"] == "closed":  # which looks at the store no more often than requests do
        assert time.monotonic() - began < 4
        assert other.ask() == "spare"
        time.sleep(0.6)  # so that it has not seen five failures itself when it is time to look
    told = other.state()
    assert told["last_error"] == one.state()["last_error"]
    found_out_itself = other.primary_calls() - before
    assert found_out_itself < 5, "five failures are what opens a circuit; it has not seen them itself"
    until = time.monotonic() + 3
    while time.monotonic() < until:
        assert other.ask() == "spare"
        time.sleep(PAUSE_S)
    assert other.primary_calls() - before <= found_out_itself + 1, "a try at most"


def both_come_back(one: Environment, other: Environment) -> None:
    began = time.monotonic()
    waiting = {one, other}
    while waiting:
        assert time.monotonic() - began < 15, "both serve from the primary again within 15 s"
        waiting -= {each for each in waiting if each.ask() == "corp"}
        time.sleep(PAUSE_S)
    assert {one.state()["state"], other.state()["state"]} == {"closed"}
