"""A hard budget and answers that nobody read to their end: whatever their providers may bill has been charged."""

import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import BRISK, GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Stream, chat
from tests.fakes.openai_wire import Scenario

CONFIG = """
[providers.one]
base_url = "{up.base_url}"
credential = "none"
[providers.two]
base_url = "{up.base_url}"
credential = "none"
[prices."one:a"]
input = "1"
output = "10"
[prices."two:b"]
input = "1"
output = "10"
[models.alone]
deployments = [{{ provider = "one", model = "a" }}]
timeouts = {{ first_token_s = 0.3, idle_s = 0.3 }}
retries = 0
[models.pair]
deployments = [{{ provider = "one", model = "a" }}]
fallbacks = ["two:b"]
timeouts = {{ first_token_s = 0.5 }}
retries = 0
[models.hedged]
deployments = [{{ provider = "one", model = "a" }}]
fallbacks = ["two:b"]
hedge = {{ after = 0.1, percent = 100 }}
[teams.t]
budget = {{ usd = "{usd}", period = "total" }}
[keys.k]
key = "sk-k-for-a-test"
team = "t"
"""
BOUND = Decimal("0.010078")
"""Of one attempt: 1,000 tokens out, and the prompt's bytes and frame."""
WRITTEN = {"prompt_tokens": 20, "completion_tokens": 1000, "total_tokens": 1020}
BILLED = Decimal("0.01002")


@pytest.fixture
def up() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


def app_of(up: OpenAIUpstream, usd: str) -> GatewayApp:
    return GatewayApp(CONFIG.format(up=up, usd=usd), clock=BRISK)


def ask(app: GatewayApp, model: str, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1000, **more}
    headers = {"Authorization": "Bearer sk-k-for-a-test"}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=headers, timeout=20)


@pytest.mark.parametrize(
    ("scenario", "stream"),
    [
        (replace(chat(usage=WRITTEN), delay_s=1.5), False),
        (ChatStream(text="one two", delay_s=1.5), True),
        (Stream([], end="stall"), True),
    ],
    ids=["silent", "silent stream", "stalled stream"],
)
def test_a_timeout_costs_what_the_provider_may_bill(up: OpenAIUpstream, scenario: Scenario, stream: bool) -> None:
    up.script("a", scenario)
    with app_of(up, "0.011") as app:
        first, second = (ask(app, "alone", stream=stream).status_code for _ in range(2))
        record = next(iter(app.ledger.records.values()))
    assert (first, second) == (504, 429)
    assert (record.cost_usd, record.reserved_usd) == (BOUND, BOUND)
    assert len(up.requests) == 1, "the budget does not hold what a second one may cost"


def test_of_a_stream_cut_in_its_midst_what_came_is_charged(up: OpenAIUpstream) -> None:
    up.script("a", Stream([{"choices": [{"index": 0, "delta": {"content": "one two"}}]}], end="cut"))
    with app_of(up, "1") as app:
        assert "upstream_cut" in ask(app, "alone", stream=True).text
        record = app.only_record()
    assert (record.reserved_usd, record.usage.estimated) == (BOUND, True)
    assert record.cost_usd is not None
    assert 0 < record.cost_usd < BOUND / 10


def test_the_reservation_holds_both_attempts(up: OpenAIUpstream) -> None:
    up.script("a", replace(chat(usage=WRITTEN), delay_s=2))
    up.script("b", chat(usage=WRITTEN))
    with app_of(up, "1") as app:
        assert ask(app, "pair").status_code == 200
        record = app.only_record()
    assert (record.reserved_usd, record.cost_usd) == (2 * BOUND, BOUND + BILLED)
    assert [attempt.cost_usd for attempt in record.attempts] == [BOUND, BILLED]


def test_a_refusal_costs_nothing(up: OpenAIUpstream) -> None:
    up.script("a", replace(chat(), status=503))
    up.script("b", chat(usage=WRITTEN))
    with app_of(up, "0.0101") as app:
        assert ask(app, "pair").status_code == 200
        record = app.only_record()
    assert (record.reserved_usd, record.cost_usd) == (BOUND, BILLED)


def test_the_slower_one_of_two_costs_what_it_may_have_written(up: OpenAIUpstream) -> None:
    up.script("a", replace(chat(usage=WRITTEN), delay_s=2))
    up.script("b", chat(usage=WRITTEN))
    with app_of(up, "0.021") as app:
        assert ask(app, "hedged").status_code == 200
        record = app.only_record()
        deadline = time.monotonic() + 5
        while (last := ask(app, "hedged")).status_code != 429:
            assert time.monotonic() < deadline
    assert [(each.error, each.cost_usd) for each in record.attempts] == [("given_up", BOUND), (None, BILLED)]
    assert last.json()["error"]["code"] == "insufficient_quota"
    assert len(up.requests) == 2


def test_an_answer_of_unknown_cost_costs_all_that_was_held(up: OpenAIUpstream) -> None:
    up.script("a", chat(usage={**WRITTEN, "num_search_queries": 1}))
    with app_of(up, "0.0102") as app:
        statuses = [ask(app, "alone").status_code for _ in range(2)]
        record = next(iter(app.ledger.records.values()))
    assert statuses == [200, 429]
    assert (record.cost_usd, record.reserved_usd) == (BOUND, BOUND)


def test_the_operators_price_holds_for_a_dated_name_too(up: OpenAIUpstream) -> None:
    """The book knows `gpt-4o-2024-05-13`, and would make it dearer than what was reserved."""
    up.script("gpt-4o", chat(usage=WRITTEN, extra={"model": "gpt-4o-2024-05-13"}))
    config = CONFIG.format(up=up, usd="1") + '[prices."corp:gpt-4o"]\ninput = "1"\noutput = "4"\n'
    config += f'[providers.corp]\nbase_url = "{up.base_url}"\nlike = "openai"\n'
    with GatewayApp(config, secrets={"corp": "sk-corp"}) as app:
        assert ask(app, "corp:gpt-4o").status_code == 200
        record = app.only_record()
    assert (record.answered_model, record.cost_usd) == ("gpt-4o-2024-05-13", Decimal("0.00402"))
    assert record.price_version is not None
    assert record.price_version.startswith("operator-")
