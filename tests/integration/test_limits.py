"""Limits and budgets as callers meet them: over HTTP, against a provider that counts what it likes."""

import asyncio
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Grant, Hold, Policy, Refusal, Scope
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, chat, error

HEAD = """
[providers.corp]
base_url = "{base_url}"
[prices."corp:x"]
input = "1"
output = "10"
{teams}
[keys.prod]
key = "sk-prod-key"
team = "search"
"""
COUNTS = {"prompt_tokens": 20, "completion_tokens": 10, "total_tokens": 30}
COST = Decimal("0.00012")
"""20 prompt tokens at $1 and 10 of output at $10 a million."""
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as upstream:
        upstream.script("x", *(chat(usage=COUNTS) for _ in range(100)))
        yield upstream


def app_of(
    upstream: OpenAIUpstream, config: str, *, more_secrets: Mapping[str, str] | None = None, **more: Any
) -> GatewayApp:
    teams = "" if "[teams.search]" in config else "[teams.search]"
    secrets = {"corp": "sk-corp", **(more_secrets or {})}
    return GatewayApp(HEAD.format(base_url=upstream.base_url, teams=teams) + config, secrets=secrets, **more)


def post(app: GatewayApp, headers: Mapping[str, str] | None = None, **fields: Any) -> httpx.Response:
    return httpx.post(
        f"{app.base_url}/chat/completions",
        json={"model": "corp:x", "messages": HELLO, **fields},
        headers={"Authorization": "Bearer sk-prod-key", **(headers or {})},
    )


def settled(app: GatewayApp, answer: httpx.Response) -> None:
    app.record(answer.headers["x-request-id"])


def test_requests_per_minute(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "limits = { rpm = 2 }") as app:
        first, second, third = post(app), post(app), post(app)
    assert [first.status_code, second.status_code, third.status_code] == [200, 200, 429]
    assert (first.headers["x-ratelimit-limit-requests"], first.headers["x-ratelimit-remaining-requests"]) == ("2", "1")
    assert float(first.headers["x-ratelimit-reset-requests"].removesuffix("s")) <= 60
    assert third.headers["x-ratelimit-remaining-requests"] == "0"
    assert 1 <= int(third.headers["retry-after"]) <= 60
    told = third.json()["error"]
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "key `prod`: 2 requests per minute" in told["message"]
    assert "x-gateway-provider" not in third.headers
    assert len(upstream.requests) == 2


def test_tokens_per_minute_are_expected_and_then_true(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "limits = { tpm = 1000 }") as app:
        too_large = post(app, max_tokens=1000)
        first = post(app, max_tokens=900)
        settled(app, first)
        second = post(app, max_tokens=900)
    assert (too_large.status_code, too_large.headers["x-should-retry"]) == (429, "false")
    assert "larger than the whole limit" in too_large.json()["error"]["message"]
    assert int(first.headers["x-ratelimit-remaining-tokens"]) < 100
    assert (first.status_code, second.status_code) == (200, 200)


def test_without_a_maximum_a_request_is_not_too_large(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "limits = { tpm = 100 }") as app:
        assert post(app).status_code == 200


def test_parallel_requests(upstream: OpenAIUpstream) -> None:
    stream = ChatStream(counts=COUNTS, usage="always", gate_after=2)
    upstream.script("slow", stream)
    with app_of(upstream, "limits = { parallel = 1 }") as app:
        with httpx.stream(
            "POST",
            f"{app.base_url}/chat/completions",
            json={"model": "corp:slow", "messages": HELLO, "stream": True},
            headers={"Authorization": "Bearer sk-prod-key"},
        ) as held:
            refused = post(app)
            stream.gate.release()
            held.read()
        settled(app, held)
        assert post(app).status_code == 200
    assert refused.status_code == 429
    assert "1 parallel requests" in refused.json()["error"]["message"]


def test_a_budget_is_not_overspent_and_what_fits_passes(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'budget = { usd = "0.001", period = "day" }') as app:
        for _ in range(2):
            answer = post(app, max_tokens=10)
            assert answer.status_code == 200, answer.text
            settled(app, answer)
        refused = post(app, max_tokens=90)
        fits = post(app, max_tokens=10)
    assert refused.status_code == 429
    told = refused.json()["error"]
    assert (told["type"], told["code"]) == ("insufficient_quota", "insufficient_quota")
    assert "$0.001 a day" in told["message"]
    assert "$0.00024 is spent or reserved" in told["message"]
    assert refused.headers["x-should-retry"] == "false"
    assert fits.status_code == 200


def test_the_record_says_what_is_held(upstream: OpenAIUpstream) -> None:
    config = 'budget = { usd = "1", period = "day" }\n[teams.search]\nlimits = { rpm = 9 }'
    with app_of(upstream, config) as app:
        answer = post(app, max_tokens=10)
        record = app.record(answer.headers["x-request-id"])
    assert record.scopes == ("key#prod", "team#search")
    assert len(record.holds) == 2
    assert record.cost_usd == COST


def test_without_a_maximum_it_is_clamped_to_what_fits(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'budget = { usd = "0.001", period = "day" }') as app:
        answer = post(app)
        clamped = upstream.last().json
        settled(app, answer)
    assert answer.status_code == 200, answer.text
    most = int(answer.headers["x-gateway-max-tokens"])
    assert 16 <= most <= 100
    assert clamped["max_completion_tokens"] == most


def test_a_key_may_want_a_maximum(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'without_max_tokens = "refuse"\nbudget = { usd = "1", period = "day" }') as app:
        refused = post(app)
    assert (refused.status_code, refused.json()["error"]["code"]) == (400, "max_tokens_required")
    assert upstream.requests == []


def test_a_reservation_of_everything_may_not_fit(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'without_max_tokens = "reserve"\nbudget = { usd = "0.001", period = "day" }') as app:
        refused = post(app)
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"web_search_options": {}}, "unbounded_cost", "web_search_options"),
        ({"model": "corp:unpriced"}, "unpriced_model", "model"),
    ],
)
def test_what_cannot_be_bounded_is_refused(
    upstream: OpenAIUpstream, fields: dict[str, Any], code: str, param: str
) -> None:
    with app_of(upstream, 'budget = { usd = "1", period = "day" }') as app:
        refused = post(app, **fields)
    told = refused.json()["error"]
    assert (refused.status_code, told["code"], told["param"]) == (400, code, param)
    assert upstream.requests == []


DOUBLES = [
    (
        b'{"max_tokens": 9000, "model": "corp:x", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}',
        "max_tokens",
    ),
    (
        b'{"max_tokens": 1, "model": "corp:x", "messages": [{"role": "user", "content": "x", "content": "hi"}]}',
        "content",
    ),
]


@pytest.mark.parametrize(("body", "name"), DOUBLES)
def test_a_provider_must_not_read_another_value(upstream: OpenAIUpstream, body: bytes, name: str) -> None:
    headers = {"Authorization": "Bearer sk-prod-key", "Content-Type": "application/json"}
    with app_of(upstream, 'budget = { usd = "1", period = "day" }') as app:
        refused = httpx.post(f"{app.base_url}/chat/completions", content=body, headers=headers)
    told = refused.json()["error"]
    assert (refused.status_code, told["code"], told["param"]) == (400, "duplicate_member", name)
    assert upstream.requests == []
    with app_of(upstream, 'budget = { usd = "1", period = "day", hard = false }') as app:
        assert httpx.post(f"{app.base_url}/chat/completions", content=body, headers=headers).status_code == 200
    assert upstream.last().body == body.replace(b"corp:x", b"x"), "without a hard budget bytes pass as they came"


def test_what_is_free_fits_any_budget(upstream: OpenAIUpstream) -> None:
    verdict = {"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": [{"flagged": False}]}
    upstream.script("omni-moderation-latest", Reply(verdict), Reply(verdict))
    config = f"""budget = {{ usd = "0.000001", period = "day" }}
[providers.openai]
base_url = "{upstream.base_url}"
[prices."openai:text-moderation-stable"]
input = "1000"
output = "0"
"""
    with app_of(upstream, config, more_secrets={"openai": "sk-openai"}) as app:
        headers = {"Authorization": "Bearer sk-prod-key"}
        given = {"model": "openai:omni-moderation-latest", "input": "I hate you"}
        answer = httpx.post(f"{app.base_url}/moderations", json=given, headers=headers)
        record = app.record(answer.headers["x-request-id"])
        given["model"] = "openai:text-moderation-stable"
        priced = httpx.post(f"{app.base_url}/moderations", json=given, headers=headers)
    assert answer.status_code == 200, answer.text
    assert (record.cost_usd, record.reserved_usd) == (Decimal(0), Decimal(0))
    assert record.scopes == ("key#prod",)
    assert priced.status_code == 429, "an operator who gives it a price means it"


def test_a_soft_budget_refuses_nothing(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'budget = { usd = "0.0001", period = "day", hard = false }') as app:
        answers = [post(app, web_search_options={}) for _ in range(3)]
        records = [app.record(answer.headers["x-request-id"]) for answer in answers]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert records[-1].over_limits == ("key#prod budget",)


def test_shadow_counts_and_tells(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "shadow = true\nlimits = { rpm = 1 }") as app:
        first, second = post(app), post(app)
        records = [app.record(answer.headers["x-request-id"]) for answer in (first, second)]
    assert [first.status_code, second.status_code] == [200, 200]
    assert [record.over_limits for record in records] == [(), ("key#prod requests",)]
    assert "x-ratelimit-limit-requests" not in first.headers


def test_every_scope_is_asked(upstream: OpenAIUpstream) -> None:
    config = "\n[organisation]\nlimits = { rpm = 4 }\n[teams.search]\nlimits = { rpm = 3 }\n"
    config += '[users."*"]\nlimits = { rpm = 2 }\n'
    with app_of(upstream, config) as app:
        answers = [post(app, user=user) for user in ("ann", "ann", "ann", "bob", "cid")]
    assert [answer.status_code for answer in answers] == [200, 200, 429, 200, 429]
    assert "user `ann`" in answers[2].json()["error"]["message"]
    assert "team `search`" in answers[4].json()["error"]["message"]


def test_a_model_and_a_deployment_have_limits(upstream: OpenAIUpstream) -> None:
    config = """
[models.fast]
deployments = [{ provider = "corp", model = "x", limits = { rpm = 2 } }]
limits = { rpm = 1 }
"""
    with app_of(upstream, config) as app:
        answers = [post(app, model=model) for model in ("fast", "fast", "corp:x", "corp:x")]
    assert [answer.status_code for answer in answers] == [200, 429, 200, 429]
    assert "model `fast`" in answers[1].json()["error"]["message"]
    assert "deployment `corp:x`" in answers[3].json()["error"]["message"]


@pytest.mark.parametrize("stream", [False, True])
def test_a_provider_that_refuses_costs_nothing(upstream: OpenAIUpstream, stream: bool) -> None:
    upstream.script("bad", error(400, "no"))
    with app_of(
        upstream, 'budget = { usd = "1", period = "total" }\n[prices."corp:bad"]\ninput = "1"\noutput = "1"'
    ) as app:
        answer = post(app, model="corp:bad", stream=stream, max_tokens=5)
        settled(app, answer)
        scope, deadline = Scope("key", "prod"), time.monotonic() + 5
        while asyncio.run(app.scopes.holds(scope)):  # they go after the record is written
            assert time.monotonic() < deadline
        level = asyncio.run(app.scopes.level(scope, 0, ("T",)))
    assert answer.status_code == 400
    assert (level.committed_in("T"), level.spent_in("T"), level.in_flight) == (0, 0, 0)


class Down(MemoryScopes):
    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        raise Unavailable("down")


def test_a_ledger_that_is_down_denies_hard_limits(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "limits = { rpm = 1 }", scopes=Down()) as app:
        refused = post(app)
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert upstream.requests == []


def test_a_key_may_be_let_through(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, 'on_ledger_outage = "allow"\nlimits = { rpm = 1 }', scopes=Down()) as app:
        assert post(app).status_code == 200


def test_a_caller_who_leaves_does_not_pass_a_budget(upstream: OpenAIUpstream) -> None:
    """The provider bills what it writes, read or not: so it is read to its end."""
    slow = chat(usage={"prompt_tokens": 20, "completion_tokens": 90, "total_tokens": 110})
    slow.delay_s = 0.4
    upstream.script("slow", slow)
    config = 'budget = { usd = "0.001", period = "total" }\n[prices."corp:slow"]\ninput = "1"\noutput = "10"'
    with app_of(upstream, config) as app:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{app.base_url}/chat/completions",
                json={"model": "corp:slow", "messages": HELLO, "max_tokens": 90},
                headers={"Authorization": "Bearer sk-prod-key"},
                timeout=0.2,
            )
        record = app.only_record()
        refused = post(app, max_tokens=10)
    assert (record.cost_usd, record.usage.estimated, record.error_code) == (
        Decimal("0.00092"),
        False,
        "client_disconnected",
    )
    assert refused.status_code == 429


def test_a_stream_that_is_left_is_read_to_its_end(upstream: OpenAIUpstream) -> None:
    stream = ChatStream(text="one two three four", counts=COUNTS, usage="always", gate_after=2)
    upstream.script("slow", stream)
    config = 'budget = { usd = "1", period = "total" }\n[prices."corp:slow"]\ninput = "1"\noutput = "10"'
    with app_of(upstream, config) as app:
        with httpx.stream(
            "POST",
            f"{app.base_url}/chat/completions",
            json={"model": "corp:slow", "messages": HELLO, "stream": True, "max_tokens": 10},
            headers={"Authorization": "Bearer sk-prod-key"},
        ) as left:
            next(left.iter_bytes())
        stream.gate.release()
        record = app.record(left.headers["x-request-id"])
    assert (record.cost_usd, record.usage.estimated) == (COST, False)


@pytest.mark.parametrize("stream", [False, True])
def test_one_caller_after_the_other_is_never_two_at_once(upstream: OpenAIUpstream, stream: bool) -> None:
    upstream.script("x", *(ChatStream(counts=COUNTS) if stream else chat(usage=COUNTS) for _ in range(30)))
    with app_of(upstream, "limits = { parallel = 1 }") as app:
        answers = [post(app, stream=stream) for _ in range(30)]
    assert {answer.status_code for answer in answers} == {200}


def test_what_only_others_hold_is_worth_another_try(upstream: OpenAIUpstream) -> None:
    stream = ChatStream(counts=COUNTS, gate_after=2)
    upstream.script("slow", stream)
    config = 'budget = { usd = "0.001", period = "day" }\n[prices."corp:slow"]\ninput = "1"\noutput = "10"'
    with app_of(upstream, config) as app:
        with httpx.stream(
            "POST",
            f"{app.base_url}/chat/completions",
            json={"model": "corp:slow", "messages": HELLO, "stream": True, "max_tokens": 80},
            headers={"Authorization": "Bearer sk-prod-key"},
        ) as held:
            refused = post(app, max_tokens=40)
            stream.gate.release()
            held.read()
        settled(app, held)
        assert post(app, max_tokens=40).status_code == 200
    assert (refused.status_code, refused.json()["error"]["code"]) == (429, "insufficient_quota")
    assert refused.headers["retry-after"] == "1"
    assert "x-should-retry" not in refused.headers


def test_without_a_maximum_the_rest_of_the_minute_will_do(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, "limits = { tpm = 500 }") as app:
        for _ in range(3):
            answer = post(app)
            assert answer.status_code == 200, answer.text
            settled(app, answer)
