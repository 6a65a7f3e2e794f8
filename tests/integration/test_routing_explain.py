"""`POST /v1/routing/explain`, and the header `x-gateway-route`: where a request would go, and where it went."""

from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest

from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.limits import Scope
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat, error

CONFIG = """
[providers.corp]
base_url = "{base_url}"
[providers.other]
base_url = "{base_url}"
[providers.off]
base_url = "{base_url}"
enabled = false
[prices."corp:a"]
input = "1"
output = "2"
[models.fast]
deployments = [
  {{ provider = "corp", model = "a", weight = 3 }},
  {{ provider = "corp", model = "b" }},
  {{ provider = "off", model = "c" }},
]
fallbacks = ["smart", "corp:last"]
[models.smart]
strategy = "priority"
deployments = [{{ provider = "other", model = "d" }}]
{more}
[keys.prod]
key = "sk-prod-key"
{key}
"""
AUTH = {"Authorization": "Bearer sk-prod-key"}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as upstream:
        for model in ("a", "b", "d", "last"):
            upstream.script(model, chat())
        yield upstream


def app_of(upstream: OpenAIUpstream, more: str = "", key: str = "", **given: Any) -> GatewayApp:
    secrets = {"corp": "sk-corp", "other": "sk-other", "claude": "sk-claude"}
    return GatewayApp(CONFIG.format(base_url=upstream.base_url, more=more, key=key), secrets=secrets, **given)


def ask(
    app: GatewayApp,
    path: str = "/routing/explain",
    headers: Mapping[str, str] | None = None,
    params: Mapping[str, str] | None = None,
    **fields: Any,
) -> httpx.Response:
    return httpx.post(
        app.base_url + path,
        json={"model": "fast", "messages": HELLO, **fields},
        headers={**AUTH, **(headers or {})},
        params=params,
        timeout=20,
    )


def explained(app: GatewayApp, **given: Any) -> dict[str, Any]:
    answer = ask(app, **given)
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert isinstance(body, dict)
    return body


def test_every_deployment_is_there_with_its_reason(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        told = explained(app, max_tokens=50)
        records = dict(app.ledger.records)
    assert (told["object"], told["requested"], told["strategy"]) == ("routing.explanation", "fast", "weighted")
    assert [each["position"] for each in told["candidates"]] == [1, 2, 3, 4]
    assert {each["deployment"] for each in told["candidates"][:2]} == {"corp:a", "corp:b"}
    by_name = {each["deployment"]: each for each in told["candidates"]}
    assert by_name["corp:a"] == {
        "deployment": "corp:a",
        "group": "fast",
        "position": by_name["corp:a"]["position"],
        "reason": "weight",
        "numbers": {"weight": 3, "share": 0.75},
        "circuit": "closed",
    }
    assert [each["deployment"] for each in told["candidates"][2:]] == ["other:d", "corp:last"]
    assert told["dropped"] == [{"deployment": "off:c", "group": "fast", "reason": "disabled"}]
    assert told["request"]["max_output_tokens"] == 50
    assert told["request"]["input_tokens"] > 0
    assert (told["rule"], told["shadow"], told["limits"], told["queue_s"]) == (None, None, [], 0)
    assert not records
    assert not upstream.requests


def test_it_says_what_a_request_with_these_draws_does(upstream: OpenAIUpstream) -> None:
    """By the id of a request that was sent: the explanation's first is where it went."""
    first = {"corp:a": "a", "corp:b": "b"}
    with app_of(upstream) as app:
        for _ in range(12):
            answer = ask(app, "/chat/completions")
            told = explained(app, params={"request_id": answer.headers["x-request-id"]})
            assert told["request_id"] == answer.headers["x-request-id"]
            assert first[told["candidates"][0]["deployment"]] == answer.headers["x-gateway-model"]
            assert answer.headers["x-gateway-route"] == f"weighted; {told['candidates'][0]['deployment']}"
    assert {each.json["model"] for each in upstream.requests} == {"a", "b"}


def test_the_way_it_took_is_in_a_header(upstream: OpenAIUpstream) -> None:
    for model in ("a", "b"):
        upstream.script(model, error(503))
    upstream.script("d", ChatStream())
    with app_of(upstream) as app:
        answer = ask(app, "/chat/completions", stream=True)
    assert answer.status_code == 200
    strategy, *calls, last = answer.headers["x-gateway-route"].split("; ")
    assert (strategy, last) == ("weighted", "other:d")
    assert set(calls) == {"corp:a=503", "corp:b=503"}
    assert int(answer.headers["x-gateway-attempts"]) == len(calls) + 1


def test_the_way_that_came_to_nothing_is_there_too(upstream: OpenAIUpstream) -> None:
    upstream.script("only", error(400))
    with app_of(upstream) as app:
        answer = ask(app, "/chat/completions", model="corp:only")
    assert answer.status_code == 400
    assert answer.headers["x-gateway-route"] == "weighted; corp:only=400"


def test_a_rule_a_canary_and_a_shadow_are_told(upstream: OpenAIUpstream) -> None:
    more = """
[models.ruled]
strategy = "sticky"
deployments = [{ provider = "corp", model = "a" }, { provider = "corp", model = "b" }]
canary = { provider = "other", model = "new", percent = 100 }
shadow_traffic = { provider = "other", model = "copy", percent = 100 }
rules = [
  { when = { tags = { tier = "gold" } }, use = "corp:best" },
  { when = { input_tokens_above = 100000 }, use = "smart" },
]
"""
    with app_of(upstream, more) as app:
        gold = explained(app, model="ruled", headers={"x-gateway-tag-tier": "gold"})
        plain = explained(app, model="ruled")
    assert (gold["rule"], gold["candidates"][0]["deployment"]) == (0, "corp:best")
    assert {"deployment": "other:d", "group": "smart", "reason": "rule"} in gold["dropped"]
    assert (plain["rule"], plain["strategy"], plain["shadow"]) == (None, "sticky", "other:copy")
    assert (plain["candidates"][0]["deployment"], plain["candidates"][0]["reason"]) == ("other:new", "canary")
    assert {each["deployment"] for each in plain["dropped"]} == {"corp:best", "other:d"}


def test_limits_are_told_and_nothing_is_taken(upstream: OpenAIUpstream) -> None:
    key = 'team = "t"\nqueue_s = 5\nlimits = { rpm = 2, tpm = 5000 }\nbudget = { usd = "0.01", period = "day" }'
    more = "[teams.t]\nlimits = { parallel = 3 }\nshadow = true\n[models.one]\nlimits = { rpm = 1 }\n"
    more += 'deployments = [{ provider = "corp", model = "a", limits = { rpm = 9 } }]'
    scopes = MemoryScopes()
    with app_of(upstream, more, key, scopes=scopes) as app:
        answer = ask(app, "/chat/completions", model="one", max_tokens=10)
        app.record(answer.headers["x-request-id"])
        told = [explained(app, model="one", max_tokens=10) for _ in range(3)][-1]
        before = len(app.ledger.records)
        refused = ask(app, "/chat/completions", model="one", max_tokens=10)
    assert (before, answer.status_code, refused.status_code) == (1, 200, 429)
    limits = {(each["scope"], each["metric"]): each for each in told["limits"]}
    assert limits.keys() == {
        ("key#prod", "requests"),
        ("key#prod", "tokens"),
        ("key#prod", "budget"),
        ("team#t", "parallel"),
        ("model#one", "requests"),
        ("deployment#corp:a", "requests"),
    }
    requests = limits["key#prod", "requests"]
    assert (requests["limit"], requests["used"], requests["asked"], requests["fits"]) == (2, 1, 1, True)
    full = limits["model#one", "requests"]
    assert (full["fits"], full["enforced"]) == (False, True)
    assert 0 < full["frees_in_s"] <= 60
    assert limits["team#t", "parallel"] == {
        "scope": "team#t",
        "metric": "parallel",
        "limit": 3,
        "used": None,
        "asked": 1,
        "fits": True,
        "enforced": False,
        "frees_in_s": None,
    }
    budget = limits["key#prod", "budget"]
    assert (budget["limit"], budget["period"], budget["fits"]) == ("0.01", "day", True)
    assert budget["used"] != "0"
    assert told["queue_s"] == 5


async def test_a_look_leaves_no_counter_behind(upstream: OpenAIUpstream) -> None:
    scopes = MemoryScopes()
    with app_of(upstream, key="limits = { rpm = 2, parallel = 1 }", scopes=scopes) as app:
        for _ in range(5):
            assert all(each["fits"] for each in explained(app)["limits"])
    assert [each async for each in scopes.scopes()] == []
    assert await scopes.holds(Scope("key", "prod")) == []


def test_what_cannot_take_the_request_is_left_out_and_says_why(upstream: OpenAIUpstream) -> None:
    """Claude's wire has no log probabilities; under a hard budget what has no price is not called."""
    more = """
[providers.claude]
dialect = "anthropic_messages"
base_url = "http://127.0.0.1:9/v1"
[models.mixed]
strategy = "priority"
deployments = [{ provider = "claude", model = "claude-x" }, { provider = "corp", model = "a" }, { provider = "corp", model = "b" }]
"""
    with app_of(upstream, more, 'budget = { usd = "1", period = "day" }') as app:
        told = explained(app, model="mixed", max_tokens=10, logprobs=True)
        answer = ask(app, "/chat/completions", model="mixed", max_tokens=10, logprobs=True)
    assert [each["deployment"] for each in told["candidates"]] == ["corp:a"]
    unfit = {each["deployment"]: each for each in told["dropped"]}
    assert {each["reason"] for each in unfit.values()} == {"unfit"}
    assert "logprobs" in unfit["claude:claude-x"]["message"]
    assert "price" in unfit["corp:b"]["message"]
    assert answer.headers["x-gateway-model"] == "a"


@pytest.mark.parametrize("path", ["/v1/routing/explain", "/routing/explain"])
def test_it_asks_for_a_key_and_gives_no_more_than_the_key_may_have(upstream: OpenAIUpstream, path: str) -> None:
    with app_of(upstream, key='models = ["smart"]') as app:
        body = {"model": "fast", "messages": HELLO}
        unknown = httpx.post(app.root + path, json=body)
        forbidden = httpx.post(app.root + path, json=body, headers=AUTH)
        allowed = httpx.post(app.root + path, json={**body, "model": "smart"}, headers=AUTH)
        nobody = httpx.post(app.root + path, json={**body, "model": "nope:x"}, headers=app.auth)
        broken = httpx.post(app.root + path, json={"model": "smart"}, headers=AUTH)
        wrong = httpx.get(app.root + path, headers=AUTH)
        other = httpx.post(app.root + path, json=body, headers=AUTH, params={"request_id": "no id"})
    assert unknown.status_code == 401
    assert (forbidden.status_code, forbidden.json()["error"]["code"]) == (403, "model_not_allowed")
    assert (allowed.status_code, allowed.headers["cache-control"]) == (200, "no-store")
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (404, "model_not_found")
    assert (broken.status_code, broken.json()["error"]["param"]) == (400, "messages")
    assert wrong.status_code == 405
    assert (other.status_code, other.json()["error"]["param"]) == (400, "request_id")


def test_openapi_has_it(upstream: OpenAIUpstream) -> None:
    with app_of(upstream, docs=True) as app:
        document = httpx.get(f"{app.root}/openapi.json").json()
        answers = [ask(app, path).status_code for path in ("/routing/explain",)]
    told = document["paths"]["/v1/routing/explain"]["post"]
    assert told["requestBody"]["content"]["application/json"]["schema"]["required"] == ["messages"]
    assert {each["name"] for each in told["parameters"]} == {"x-gateway-tag-{name}", "x-gateway-queue", "request_id"}
    chat = document["paths"]["/v1/chat/completions"]["post"]
    assert "x-gateway-queue" in {each["name"] for each in chat["parameters"]}
    assert answers == [200]


def test_a_provider_without_a_key_is_passed_over_as_explained(upstream: OpenAIUpstream) -> None:
    config = CONFIG.format(base_url=upstream.base_url, more="", key="")
    with GatewayApp(config, secrets={"other": "sk-other"}) as app:
        told = explained(app)
        answer = ask(app, "/chat/completions")
    record = app.only_record()
    assert [each["deployment"] for each in told["candidates"]] == ["other:d"]
    without = {each["deployment"] for each in told["dropped"] if each["reason"] == "no_key"}
    assert without == {"corp:a", "corp:b", "corp:last"}
    assert (answer.status_code, answer.headers["x-gateway-model"]) == (200, "d")
    assert [each.provider for each in record.attempts] == ["other"]
