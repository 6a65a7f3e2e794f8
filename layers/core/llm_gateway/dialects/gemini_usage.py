"""Gemini's `usageMetadata`, and OpenAI's `usage` made of it.

The prompt's count includes what came from a cache; thoughts are counted beside the candidates, and are billed as
output; what tools of Google's own read is counted beside the prompt, and is billed as input. Documents are priced as
images. Searches are not counted at all: an answer tells its queries, of which a prompt to Gemini 2.5 and older is
billed one, whatever their number, and a later model each that differs and is not empty.
Sources: https://ai.google.dev/api/generate-content#UsageMetadata,
https://ai.google.dev/gemini-api/docs/google-search#pricing,
https://ai.google.dev/gemini-api/docs/flex-inference (serviceTier),
https://cloud.google.com/vertex-ai/generative-ai/docs/reference/rest/v1/GenerateContentResponse (trafficType)
"""

from collections.abc import Iterable, Mapping
from typing import Any

from llm_gateway.dialects.service_tier import named_tier
from llm_gateway.domain.usage import Usage

_ONE_FEE_A_PROMPT = ("gemini-1", "gemini-2", "gemini-pro")


def search_queries(candidates: Any) -> set[str]:
    """What was searched for, of the candidates of an answer or of a stream's event."""
    found: set[str] = set()
    for candidate in candidates if isinstance(candidates, list) else ():
        grounding = candidate.get("groundingMetadata") if isinstance(candidate, dict) else None
        queries = grounding.get("webSearchQueries") if isinstance(grounding, dict) else None
        if isinstance(queries, list):
            found.update(query for query in queries if isinstance(query, str) and query)
    return found


def billed_searches(queries: set[str], model: str) -> int:
    return min(1, len(queries)) if model.startswith(_ONE_FEE_A_PROMPT) else len(queries)


def read_usage(metadata: Any, searches: int = 0) -> Usage | None:
    """None where there is no count. In a stream the counts are running totals: the last one is the answer's."""
    if not isinstance(metadata, dict) or not metadata:
        return None
    thoughts = _count(metadata, "thoughtsTokenCount")
    return Usage(
        input_tokens=_count(metadata, "promptTokenCount") + _count(metadata, "toolUsePromptTokenCount"),
        output_tokens=_count(metadata, "candidatesTokenCount") + thoughts,
        cached_tokens=_count(metadata, "cachedContentTokenCount"),
        reasoning_tokens=thoughts,
        **_by_medium(metadata, "input", ("promptTokensDetails", "toolUsePromptTokensDetails")),
        **_by_medium(metadata, "cached", ("cacheTokensDetails",)),
        **_by_medium(metadata, "output", ("candidatesTokensDetails",)),
        web_searches=searches,
        service_tier=named_tier(metadata.get("serviceTier") or metadata.get("trafficType")),
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


_MEDIA = {"AUDIO": "audio", "IMAGE": "image", "DOCUMENT": "image", "VIDEO": "video"}
_PRICED_APART = frozenset(Usage.__dataclass_fields__)


def _by_medium(metadata: Mapping[str, Any], way: str, lists: Iterable[str]) -> dict[str, Any]:
    """Counts by the fields of `Usage` (`input_audio_tokens`); text, the usual case, has none of its own."""
    found: dict[str, Any] = {}
    for name in lists:
        details = metadata.get(name)
        for detail in details if isinstance(details, list) else ():
            modality = detail.get("modality") if isinstance(detail, dict) else None
            medium = _MEDIA.get(modality) if isinstance(modality, str) else None
            field = f"{way}_{medium}_tokens"
            if medium is not None and field in _PRICED_APART:
                found[field] = found.get(field, 0) + _count(detail, "tokenCount")
    return found
