"""Gemini's `usageMetadata`, and OpenAI's `usage` made of it.

The prompt's count includes what came from a cache; thoughts are counted beside the candidates, and are billed as
output; what tools of Google's own read is counted beside the prompt, and is billed as input.
Source: https://ai.google.dev/api/generate-content#UsageMetadata
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.domain.usage import Usage


def read_usage(metadata: Any) -> Usage | None:
    """None where there is no count. In a stream the counts are running totals: the last one is the answer's."""
    if not isinstance(metadata, dict) or not metadata:
        return None
    thoughts = _count(metadata, "thoughtsTokenCount")
    return Usage(
        input_tokens=_count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount"),
        output_tokens=_count(metadata, "candidatesTokenCount") + thoughts,
        cached_tokens=_count(metadata, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        input_audio_tokens=_audio(metadata, "promptTokensDetails"),
        cached_audio_tokens=_audio(metadata, "cacheTokensDetails"),
        output_audio_tokens=_audio(metadata, "candidatesTokensDetails"),
    )


def write_usage(usage: Usage) -> dict[str, Any]:
    """Source: https://platform.openai.com/docs/api-reference/chat/object (usage)"""
    return {
        "prompt_tokens": usage.input_tokens,
        "completion_tokens": usage.output_tokens,
        "total_tokens": usage.input_tokens + usage.output_tokens,
        "prompt_tokens_details": {
            "cached_tokens": usage.cached_tokens,
            "cache_write_tokens": usage.cache_write_tokens,
            "audio_tokens": usage.input_audio_tokens,
        },
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens,
            "audio_tokens": usage.output_audio_tokens,
        },
    }


def _count(counts: Mapping[str, Any], name: str) -> int:
    value = counts.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _audio(metadata: Mapping[str, Any], name: str) -> int:
    details = metadata.get(name)
    if details is None:
        return 0
    return sum(
        _count(detail, "tokenCount")
        for detail in (details if isinstance(details, list) else ())
        if isinstance(detail, dict) and detail.get("modality") == "AUDIO"
    )
