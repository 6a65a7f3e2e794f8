"""A vendor's quirks as a caller meets them: the warning header, the 400 before any call, and what it says it bills."""

from decimal import Decimal

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import OpenAIUpstream, chat

CONFIG = """
[providers.mistral]
base_url = "{base_url}"
[providers.perplexity]
base_url = "{base_url}"
[providers.corp]
base_url = "{base_url}"
quirks = {{ developer_role = false, drop_from_messages = ["name"] }}
"""
SECRETS = {"mistral": "sk-1", "perplexity": "sk-2", "corp": "sk-3"}
COST = {"input_tokens_cost": 0.00006, "output_tokens_cost": 0.02467, "request_cost": 0.006, "total_cost": 0.03073}


def ask(upstream: OpenAIUpstream, app: GatewayApp, provider: str, **fields: object) -> httpx.Response:
    upstream.script("x", chat(usage={"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 25, "cost": COST}))
    asked = {"model": f"{provider}:x", "messages": [{"role": "developer", "name": "Ann", "content": "hi"}], **fields}
    return httpx.post(f"{app.base_url}/chat/completions", json=asked, headers=app.auth)


def test_what_is_left_out_is_told() -> None:
    with OpenAIUpstream() as upstream, GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets=SECRETS) as app:
        answer = ask(upstream, app, "mistral", user="u-1", seed=7, max_completion_tokens=5, logprobs=False)
        sent = upstream.requests[-1].json
    assert answer.status_code == 200
    left_out = [f"{name} is not supported by mistral and was left out" for name in ("user", "name of messages")]
    assert answer.headers["x-gateway-warning"] == "; ".join(left_out)
    assert sent.keys() == {"model", "messages", "random_seed", "max_tokens"}
    assert (sent["random_seed"], sent["max_tokens"], sent["messages"][0]["role"]) == (7, 5, "system")


def test_what_would_give_another_answer_is_refused_before_the_call() -> None:
    with OpenAIUpstream() as upstream, GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets=SECRETS) as app:
        answer = ask(upstream, app, "mistral", logprobs=True)
        assert upstream.requests == []
    assert answer.status_code == 400
    assert answer.json()["error"] == {
        "message": "`logprobs` is not supported by provider `mistral`.",
        "type": "invalid_request_error",
        "param": "logprobs",
        "code": "unsupported_parameter",
    }


def test_an_operator_declares_quirks_of_a_provider_of_their_own() -> None:
    with OpenAIUpstream() as upstream, GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets=SECRETS) as app:
        answer = ask(upstream, app, "corp")
        sent = upstream.requests[-1].json
    assert sent["messages"] == [{"role": "system", "content": "hi"}]
    assert answer.headers["x-gateway-warning"] == "name of messages is not supported by corp and was left out"


@pytest.mark.parametrize(
    ("provider", "cost", "told"), [("perplexity", Decimal("0.03073"), True), ("corp", None, False)]
)
def test_a_cost_in_parts_is_believed_of_whom_says_what_it_bills(
    provider: str, cost: Decimal | None, told: bool
) -> None:
    with OpenAIUpstream() as upstream, GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets=SECRETS) as app:
        answer = ask(upstream, app, provider)
        record = app.record(answer.headers["x-request-id"])
    assert record.cost_usd == cost
    assert (record.price_version == f"told-by-{provider}") is told
