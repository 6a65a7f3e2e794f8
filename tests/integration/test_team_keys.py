"""A team's own keys before the stack's; several keys of a provider, of which the limited ones are passed over."""

import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream, Reply, chat, error

CONFIG = """
default_provider = "corp"
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
[providers.theirs]
dialect = "openai_chat"
base_url = "{base_url}"
[providers.unreadable]
dialect = "openai_chat"
base_url = "{base_url}"
[models.own]
deployments = [{{ provider = "theirs", model = "small" }}]
[teams.search]
[teams.ads]
[teams."search: theirs"]
[keys.search]
team = "search"
key = "sk-of-team-search"
[keys.ads]
team = "ads"
key = "sk-of-team-ads"
[keys.odd]
team = "search: theirs"
key = "sk-of-team-odd"
[keys.nobody]
key = "sk-of-no-team"
"""
HELLO = [{"role": "user", "content": "hi"}]
RING = json.dumps({"keys": [{"key": "sk-a", "name": "a"}, {"key": "sk-b", "name": "b", "weight": 2}]})
LIMITED = error(429, "slow down", code="rate_limit_exceeded", headers={"retry-after": "20"})


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    keys = {
        "corp": "sk-stack",
        "search/corp": "sk-own",
        "search/theirs": "sk-theirs",
        "ads/corp": RING,
        "unreadable": '{"keys": [{"kay": "sk-hidden"}]}',
    }
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets=keys) as running:
        yield running


def ask(app: GatewayApp, key: str, model: str = "corp:x", **more: Any) -> httpx.Response:
    headers = {"authorization": f"Bearer sk-of-{key}"}
    body = {"model": model, "messages": HELLO, **more}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=headers, timeout=20)


def sent(upstream: OpenAIUpstream) -> list[str]:
    return [request.headers["authorization"].removeprefix("Bearer ") for request in upstream.requests]


def attempts(app: GatewayApp, answer: httpx.Response) -> list[tuple[int | None, str | None, str | None]]:
    record = app.record(answer.headers["x-request-id"])
    return [(one.status, one.key_source, one.key_name) for one in record.attempts]


class TestWhoseKey:
    def test_the_teams_own_comes_before_the_stacks(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        answers = [ask(app, who) for who in ("team-search", "no-team", "team-odd")]
        assert [answer.status_code for answer in answers] == [200] * 3
        assert sent(upstream) == ["sk-own", "sk-stack", "sk-stack"]
        assert [attempts(app, answer) for answer in answers] == [
            [(200, "team", None)],
            [(200, "system", None)],
            [(200, "system", None)],
        ]

    def test_streams_too(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        answer = ask(app, "team-search", stream=True)
        assert "[DONE]" in answer.text
        assert sent(upstream) == ["sk-own"]
        assert attempts(app, answer) == [(200, "team", None)]

    def test_the_ledger_tells_it(self, app: GatewayApp) -> None:
        answer = ask(app, "team-search")
        app.record(answer.headers["x-request-id"])
        url = f"{app.root}/usage/requests/{answer.headers['x-request-id']}"
        [told] = httpx.get(url, headers=app.auth).json()["attempts"]
        assert (told["key_source"], told["key_name"]) == ("team", None)
        assert "sk-own" not in json.dumps(told)

    def test_a_provider_with_a_teams_key_only_is_that_teams(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        assert ask(app, "team-search", "theirs:x").status_code == 200
        assert ask(app, "team-search", "own").status_code == 200
        for who in ("team-ads", "no-team", "team-odd"):
            for model in ("theirs:x", "own"):
                answer = ask(app, who, model)
                if answer.status_code == 200:  # the default provider took `theirs:x` for a model's name
                    assert app.record(answer.headers["x-request-id"]).provider == "corp"
                else:
                    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
        assert sent(upstream).count("sk-theirs") == 2

    def test_the_model_list_is_the_teams(self, app: GatewayApp) -> None:
        def listed(who: str) -> set[str]:
            headers = {"authorization": f"Bearer sk-of-{who}"}
            answer = httpx.get(f"{app.base_url}/models", headers=headers)
            return {model["id"] for model in answer.json()["data"]}

        assert "own" in listed("team-search")
        assert "own" not in listed("team-ads") | listed("no-team") | listed("team-odd")

    def test_a_teams_refused_key_is_not_replaced_by_the_stacks(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.require_key("sk-stack")
        answer = ask(app, "team-search")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert sent(upstream) == ["sk-own"]

    def test_a_teams_key_that_is_rotated_is_picked_up(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.require_key("sk-own")
        assert ask(app, "team-search").status_code == 200
        upstream.require_key("sk-own-2")
        app.secret_store.put("llm-gateway/team/search/corp", "sk-own-2")
        answer = ask(app, "team-search")
        assert attempts(app, answer) == [(401, "team", None), (200, "team", None)]

    def test_one_that_cannot_be_read_says_so_and_disturbs_nobody(self, app: GatewayApp) -> None:
        answer = ask(app, "no-team", "unreadable:x")
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_key_unreadable")
        assert "number 1 of the `keys`" in answer.json()["error"]["message"]
        assert "sk-hidden" not in answer.text
        assert ask(app, "no-team", "corp:x").status_code == 200


class TestSeveralKeys:
    def test_they_rotate_by_weight(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        assert {ask(app, "team-ads").status_code for _ in range(90)} == {200}
        taken = Counter(sent(upstream))
        assert taken.keys() == {"sk-a", "sk-b"}
        assert taken["sk-b"] > taken["sk-a"]

    def test_a_limited_one_gives_way_within_the_call(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.queue(LIMITED)
        answer = ask(app, "team-ads")
        assert answer.status_code == 200
        [(refused, _, first), (status, source, second)] = attempts(app, answer)
        assert (refused, status, source, {first, second}) == (429, 200, "team", {"a", "b"})
        assert {ask(app, "team-ads").status_code for _ in range(20)} == {200}
        assert Counter(sent(upstream))[f"sk-{first}"] == 1, "the limited one rests"

    def test_and_within_a_stream_before_its_first_byte(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.queue(LIMITED)
        answer = ask(app, "team-ads", stream=True)
        assert "[DONE]" in answer.text
        assert [status for status, _, _ in attempts(app, answer)] == [429, 200]

    def test_it_rests_for_that_model_alone(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.queue(LIMITED)
        ask(app, "team-ads")
        for _ in range(40):
            ask(app, "team-ads", "corp:y")
        others = [request for request in upstream.requests if request.json["model"] == "y"]
        assert {request.headers["authorization"] for request in others} == {"Bearer sk-a", "Bearer sk-b"}

    def test_all_limited_is_a_429_that_says_when_the_first_is_free(
        self, app: GatewayApp, upstream: OpenAIUpstream
    ) -> None:
        upstream.script("x", LIMITED, error(429, "later", headers={"retry-after": "60"}))
        answer = ask(app, "team-ads")
        assert (answer.status_code, answer.json()["error"]["message"]) == (429, "later")
        assert answer.headers["retry-after"] in ("19", "20")
        assert len(upstream.requests) == 2, "each key once"
        again = ask(app, "team-ads")
        assert again.status_code == 429
        assert len(upstream.requests) == 3, "and then the one that is free first, to hear it from the provider"
        assert sent(upstream)[2] == sent(upstream)[0]

    def test_no_credit_moves_on_too(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.script("x", error(429, "no money", code="insufficient_quota"), chat("Hi"))
        assert ask(app, "team-ads").status_code == 200

    def test_a_refused_one_is_passed_over(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.require_key("sk-b")
        assert {ask(app, "team-ads").status_code for _ in range(30)} == {200}
        assert Counter(sent(upstream))["sk-a"] <= 1

    def test_all_refused_is_a_401(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.require_key("sk-other")
        answer = ask(app, "team-ads")
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, "invalid_api_key")
        assert sorted(sent(upstream)) == ["sk-a", "sk-b"]

    def test_a_limit_beside_a_refused_key_is_what_the_caller_hears(
        self, app: GatewayApp, upstream: OpenAIUpstream
    ) -> None:
        upstream.script("x", LIMITED, error(401, "bad key"))
        answer = ask(app, "team-ads")
        assert (answer.status_code, answer.json()["error"]["message"]) == (429, "slow down")

    @pytest.mark.parametrize("refusal", [error(400, "no"), error(403, "no"), error(500, "no"), error(503, "no")])
    def test_what_is_not_the_keys_fault_is_nothing_for_another_key(
        self, refusal: Reply, app: GatewayApp, upstream: OpenAIUpstream
    ) -> None:
        upstream.script("x", refusal)
        answer = ask(app, "team-ads")
        assert answer.status_code in (400, 403, 502, 503)
        passing = refusal.status >= 500
        assert len(upstream.requests) == (3 if passing else 1), "tried again as the deployment, not with another key"

    def test_one_key_alone_is_called_again_after_a_429(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.queue(LIMITED)
        first, second = ask(app, "no-team"), ask(app, "no-team")
        assert (first.status_code, first.headers["retry-after"], second.status_code) == (429, "20", 200)

    def test_a_key_is_masked_in_what_the_provider_says(self, app: GatewayApp, upstream: OpenAIUpstream) -> None:
        upstream.script("x", error(400, "sk-a and sk-b"))
        message = ask(app, "team-ads").json()["error"]["message"]
        assert message in ("*** and sk-b", "sk-a and ***")
