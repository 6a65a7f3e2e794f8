"""Under a hard budget a request is held at the dearest tier that it names, whichever of its two names the wire reads."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.bedrock_upstream import ACCESS_KEY, SECRET_KEY, SESSION_TOKEN, BedrockUpstream
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import Reply

MODEL = "amazon.nova-lite-v1:0"
CONFIG = """
[providers.bedrock]
base_url = "{base_url}"
[prices."bedrock:amazon.nova-lite-v1:0"]
input = "1"
output = "10"
[prices."bedrock:amazon.nova-lite-v1:0".service_tiers.priority]
input = "1.75"
output = "17.5"
[teams.held]
budget = {{ usd = "{usd}", period = "total" }}
[keys.held]
key = "sk-held-for-a-test"
team = "held"
"""
ANSWER = {
    "output": {"message": {"role": "assistant", "content": [{"text": "hi"}]}},
    "stopReason": "end_turn",
    "usage": {"inputTokens": 20, "outputTokens": 1000, "totalTokens": 1020},
    "metrics": {"latencyMs": 1},
}
COST = Decimal("0.017535")
NAMED: list[dict[str, Any]] = [
    {"service_tier": "priority"},
    {"serviceTier": {"type": "priority"}},
    {"service_tier": "default", "serviceTier": {"type": "priority"}},
    {"service_tier": "auto", "serviceTier": {"type": "priority"}},
]


@pytest.mark.parametrize("tiers", NAMED)
@pytest.mark.parametrize("told", [True, False])
def test_the_dearest_tier_that_is_named_is_held(tiers: dict[str, Any], told: bool) -> None:
    answer = {**ANSWER, "serviceTier": {"type": "priority"}} if told else ANSWER
    status, record, sent = ask("0.02", tiers, answer)
    assert (status, sent) == (200, [{"type": "priority"}])
    assert record.cost_usd == COST


@pytest.mark.parametrize("tiers", NAMED)
def test_what_holds_the_standard_tier_alone_does_not_hold_a_dearer_one(tiers: dict[str, Any]) -> None:
    status, _, sent = ask("0.0102", tiers, ANSWER)
    assert (status, sent) == (429, [])


def ask(usd: str, tiers: dict[str, Any], answer: dict[str, Any]) -> tuple[int, Any, list[Any]]:
    """The status, the record of what was let in, and the tiers that Bedrock was asked for."""
    credentials = StaticCredentials(AwsCredentials(ACCESS_KEY, SECRET_KEY, SESSION_TOKEN))
    with BedrockUpstream() as upstream:
        upstream.script(MODEL, Reply(answer))
        authorizers = {"sigv4": SignedByRole(credentials, "us-east-1")}
        with GatewayApp(CONFIG.format(base_url=upstream.base_url, usd=usd), authorizers=authorizers) as app:
            told = httpx.post(
                f"{app.base_url}/chat/completions",
                json={
                    "model": f"bedrock:{MODEL}",
                    "messages": [{"role": "user", "content": "hi"}],
                    "max_tokens": 1000,
                    **tiers,
                },
                headers={"authorization": "Bearer sk-held-for-a-test"},
            )
            record = app.record(told.headers["x-request-id"]) if told.status_code == 200 else None
        return told.status_code, record, [request.json.get("serviceTier") for request in upstream.requests]
