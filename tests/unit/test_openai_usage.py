"""Token counts of OpenAI-compatible providers, in one convention: input with what was cached, output with reasoning."""

from decimal import Decimal
from typing import Any

import pytest

from llm_gateway.dialects.openai_usage import read_usage
from llm_gateway.domain.usage import Usage

BLOCKS: list[tuple[str, Any, Usage | None]] = [
    (
        "openai",
        {
            "prompt_tokens": 100,
            "completion_tokens": 50,
            "total_tokens": 150,
            "prompt_tokens_details": {"cached_tokens": 40, "audio_tokens": 5},
            "completion_tokens_details": {"reasoning_tokens": 30, "audio_tokens": 2},
        },
        Usage(100, 50, cached_tokens=40, reasoning_tokens=30, input_audio_tokens=5, output_audio_tokens=2),
    ),
    (
        "deepseek",
        {"prompt_tokens": 100, "completion_tokens": 5, "prompt_cache_hit_tokens": 64, "prompt_cache_miss_tokens": 36},
        Usage(100, 5, cached_tokens=64),
    ),
    (
        "openrouter writes a cache",
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "prompt_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 8},
        },
        Usage(10, 1, cache_write_tokens=8),
    ),
    (
        "perplexity tells the cost in parts",
        {
            "prompt_tokens": 20,
            "completion_tokens": 1645,
            "total_tokens": 1665,
            "cost": {
                "input_tokens_cost": 6e-05,
                "output_tokens_cost": 0.02467,
                "request_cost": 0.006,
                "total_cost": 0.03073,
            },
        },
        Usage(20, 1645, told_cost_usd=Decimal("0.03073"), told_request_fee_usd=Decimal("0.006")),
    ),
    (
        "a cost without a total",
        {"prompt_tokens": 1, "cost": {"request_cost": 0.006}},
        Usage(1, 0, told_request_fee_usd=Decimal("0.006")),
    ),
    (
        "reasoning beside completion",
        {
            "prompt_tokens": 37,
            "completion_tokens": 530,
            "total_tokens": 800,
            "completion_tokens_details": {"reasoning_tokens": 233},
        },
        Usage(37, 763, reasoning_tokens=233),
    ),
    (
        "thoughts in the total alone",
        {"prompt_tokens": 20, "completion_tokens": 198, "total_tokens": 623},
        Usage(20, 603, reasoning_tokens=405),
    ),
    ("a total that is too small", {"prompt_tokens": 20, "completion_tokens": 5, "total_tokens": 3}, Usage(20, 5)),
    (
        "openrouter tells its cost",
        {
            "prompt_tokens": 10,
            "completion_tokens": 1,
            "cost": 0.00014,
            "cost_details": {"upstream_inference_cost": None},
        },
        Usage(10, 1, told_cost_usd=Decimal("0.00014")),
    ),
    ("embeddings", {"prompt_tokens": 8, "total_tokens": 8}, Usage(8, 0)),
    ("nulls", {"prompt_tokens": 8, "completion_tokens": None, "prompt_tokens_details": None}, Usage(8, 0)),
    ("an impossible count", {"prompt_tokens": 10**30, "completion_tokens": 5}, None),
    ("a count that is no whole number", {"prompt_tokens": 12.5, "completion_tokens": 5}, None),
    ("nonsense", {"prompt_tokens": "8", "completion_tokens": True}, None),
    ("negative", {"prompt_tokens": -5, "completion_tokens": 5}, None),
    ("empty", {}, None),
    ("null", None, None),
]


@pytest.mark.parametrize(("block", "usage"), [block[1:] for block in BLOCKS], ids=[block[0] for block in BLOCKS])
def test_counts(block: Any, usage: Usage | None) -> None:
    assert read_usage(block) == usage
