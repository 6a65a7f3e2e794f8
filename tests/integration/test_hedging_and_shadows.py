"""Specifies what is done beside a request: a second deployment next to a silent one, and copies that nobody sees."""

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat, error

CONFIG = """
[providers.one]
dialect = "openai_chat"
base_url = "{up.base_url}"
credential = "none"
[providers.two]
dialect = "openai_chat"
base_url = "{up.base_url}"
credential = "none"
[prices."one:slow"]
input = "1"
output = "2"
[prices."two:quick"]
input = "10"
output = "20"
[models.hedged]
deployments = [{{ provider = "one", model = "slow" }}]
fallbacks = ["two:quick"]
hedge = {{ after = 0.1, percent = 100 }}
[models.patient]
deployments = [{{ provider = "one", model = "slow" }}]
fallbacks = ["two:quick"]
hedge = {{ after = 10, percent = 100 }}
[models.copied]
deployments = [{{ provider = "one", model = "slow" }}]
shadow_traffic = {{ provider = "two", model = "quick", percent = 100 }}
[teams.poor]
budget = {{ usd = "0.0005", period = "day" }}
[keys.poor]
key = "sk-poor-for-a-test"
team = "poor"
"""
HELLO = [{"role": "user", "content": "Tell me a long story, please."}]


@pytest.fixture
def up() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(up: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(up=up)) as running:
        yield running


def ask(app: GatewayApp, model: str, key: str | None = None, **more: Any) -> httpx.Response:
    headers = app.auth if key is None else {"Authorization": f"Bearer {key}"}
    body = {"model": model, "messages": HELLO, "max_tokens": 20, **more}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=headers, timeout=20)


def models_called(up: OpenAIUpstream) -> list[str]:
    return [request.json["model"] for request in up.requests]


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_serves_where_the_first_is_silent(app: GatewayApp, up: OpenAIUpstream, stream: bool) -> None:
    up.script("slow", ChatStream(hold=True) if stream else chat(hold=True))
    up.script("quick", ChatStream(text="here") if stream else chat("here"))
    began = time.monotonic()
    answer = ask(app, "hedged", stream=stream)
    assert time.monotonic() - began < 3
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "two")
    assert "here" in answer.text
    assert models_called(up) == ["slow", "quick"]
    assert up.requests[0].wait_left(), "the loser is cancelled"
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.provider, record.routed_model) == ("settled", "two", "quick")
    loser, winner = sorted(record.attempts, key=lambda attempt: attempt.provider)
    assert (loser.provider, loser.input_tokens > 0, loser.output_tokens) == ("one", True, 0)
    assert winner.status == 200
    assert record.cost_usd == (loser.cost_usd or 0) + (winner.cost_usd or 0)
    assert record.usage.estimated


def test_the_first_serves_where_it_is_quick(app: GatewayApp, up: OpenAIUpstream) -> None:
    for _ in range(5):
        assert ask(app, "patient").headers["x-gateway-provider"] == "one"
    assert set(models_called(up)) == {"slow"}


def test_the_first_may_still_win(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("slow", chat("first", delay_s=0.4))
    up.script("quick", chat(hold=True))
    answer = ask(app, "hedged")
    assert answer.headers["x-gateway-provider"] == "one"
    assert models_called(up) == ["slow", "quick"]
    assert up.requests[1].wait_left()
    assert app.record(answer.headers["x-request-id"]).provider == "one"


def test_where_both_fail_the_caller_hears_it(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("slow", replace(error(500, "down"), delay_s=0.3))
    up.script("quick", error(500, "down too"))
    answer = ask(app, "hedged")
    assert answer.status_code == 502
    assert len(up.requests) <= 6
    assert app.record(answer.headers["x-request-id"]).status == "failed"


def test_a_failure_of_one_is_the_others_turn(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("slow", replace(error(500, "down"), delay_s=0.3))
    up.script("quick", chat("late but well", delay_s=0.5))
    answer = ask(app, "hedged")
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "two")


def test_a_budget_without_room_for_both_has_one(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("slow", chat("alone", delay_s=0.4))
    answer = ask(app, "hedged", key="sk-poor-for-a-test")
    assert (answer.status_code, answer.headers["x-gateway-provider"]) == (200, "one")
    assert models_called(up) == ["slow"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_shadow_is_recorded_and_never_shown(app: GatewayApp, up: OpenAIUpstream, stream: bool) -> None:
    up.script("slow", ChatStream(text="mine") if stream else chat("mine"))
    up.script("quick", ChatStream(text="theirs") if stream else chat("theirs"))
    answer = ask(app, "copied", stream=stream, key="sk-poor-for-a-test")
    assert "mine" in answer.text
    assert "theirs" not in answer.text
    request_id = answer.headers["x-request-id"]
    record, copy = app.record(request_id), app.record(f"{request_id}-shadow")
    assert (copy.status, copy.provider, copy.routed_model) == ("settled", "two", "quick")
    assert (copy.key, copy.team, copy.user, copy.tags) == (None, None, None, {"shadow": "true"})
    assert (copy.finish_reason, copy.usage.output_tokens > 0) == ("stop", True)
    assert copy.cost_usd is not None
    assert record.cost_usd is not None
    assert copy.cost_usd > record.cost_usd > Decimal(0)
    assert [attempt.provider for attempt in record.attempts] == ["one"]


def test_a_shadow_that_fails_harms_nobody(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("quick", error(500, "down"))
    answer = ask(app, "copied")
    assert answer.status_code == 200
    copy = app.record(f"{answer.headers['x-request-id']}-shadow")
    assert (copy.status, copy.cost_usd) == ("failed", Decimal(0))
