"""OpenRouter and xAI say what they bill; nobody else is believed."""

from decimal import Decimal
from typing import Any

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat

CONFIG = """
[providers.openrouter]
base_url = "{base_url}"
[providers.xai]
base_url = "{base_url}"
[providers.corp]
base_url = "{base_url}"
[prices."openrouter:x"]
input = "1"
output = "1"
[prices."xai:x"]
input = "1"
output = "1"
[prices."corp:x"]
input = "1"
output = "1"
"""
COUNTS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost": 0.00014}
TICKS = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15, "cost_in_usd_ticks": 37_756_001}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("provider", "counts", "cost", "version"),
    [
        ("openrouter", COUNTS, "0.00014", "told-by-openrouter"),
        ("xai", TICKS, "0.0037756001", "told-by-xai"),
        ("corp", COUNTS, "0.000015", "operator-"),
        ("corp", TICKS, "0.000015", "operator-"),
    ],
)
def test_the_cost_that_is_written(provider: str, counts: dict[str, Any], cost: str, version: str, stream: bool) -> None:
    with OpenAIUpstream() as upstream:
        upstream.script("x", ChatStream(counts=counts, usage="with_finish") if stream else chat(usage=counts))
        config = CONFIG.format(base_url=upstream.base_url)
        with GatewayApp(config, secrets={"openrouter": "sk-1", "corp": "sk-2", "xai": "sk-3"}) as app:
            answer = httpx.post(
                f"{app.base_url}/chat/completions",
                json={"model": f"{provider}:x", "messages": [{"role": "user", "content": "hi"}], "stream": stream},
                headers=app.auth,
            )
            record = app.record(answer.headers["x-request-id"])
    assert record.cost_usd == Decimal(cost)
    assert record.price_version is not None
    assert record.price_version.startswith(version)
