"""The tier that a provider says it served prices the request, streamed and buffered, and the team's markup comes on top."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat

CONFIG = """
[providers.openai]
base_url = "{base_url}"
[teams.search]
markup = "20%"
[keys.search-prod]
team = "search"
key = "sk-search-prod-for-tests"
"""
COUNTS = {
    "prompt_tokens": 12_000,
    "completion_tokens": 900,
    "total_tokens": 12_900,
    "prompt_tokens_details": {"cached_tokens": 4096},
    "completion_tokens_details": {"reasoning_tokens": 640},
}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("asked", "told", "tier", "billed"),
    [
        (None, None, None, "0.019392"),
        ("flex", "flex", "flex", "0.009696"),
        ("flex", "default", "default", "0.019392"),
        ("flex", None, "flex", "0.009696"),
        ("auto", "priority", "priority", "0.038784"),
    ],
)
def test_what_a_team_is_charged(
    asked: str | None, told: str | None, tier: str | None, billed: str, stream: bool
) -> None:
    extra: dict[str, Any] = {} if told is None else {"service_tier": told}
    with OpenAIUpstream() as upstream:
        upstream.script("gpt-5", ChatStream(counts=COUNTS, extra=extra) if stream else chat(usage=COUNTS, extra=extra))
        with GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets={"openai": "sk-1"}) as app:
            body: dict[str, Any] = {"model": "openai:gpt-5", "messages": [{"role": "user", "content": "hi"}]}
            if asked is not None:
                body["service_tier"] = asked
            answer = httpx.post(
                f"{app.base_url}/chat/completions",
                json={**body, "stream": stream},
                headers={"authorization": "Bearer sk-search-prod-for-tests"},
            )
            record = app.record(answer.headers["x-request-id"])
            entry = httpx.get(
                f"{app.root}/usage/requests/{record.request_id}",
                headers={"authorization": "Bearer sk-search-prod-for-tests"},
            ).json()
    charged = Decimal(billed) * Decimal("1.2")
    assert (record.provider_cost_usd, record.cost_usd) == (Decimal(billed), charged)
    assert record.usage.service_tier == tier
    assert (entry["service_tier"], Decimal(entry["cost_usd"])) == (tier, charged)
    assert "provider_cost_usd" not in entry
    if not stream:
        assert Decimal(answer.headers["x-gateway-cost-usd"]) == charged
