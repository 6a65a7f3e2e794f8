"""Service tiers by one name, whichever wire they come in.

OpenAI and Bedrock say `default`, Anthropic and Gemini `standard`, Groq and Vertex `on_demand`, Vertex with the tier
behind it (`ON_DEMAND_FLEX`), and Gemini's SDKs `SERVICE_TIER_FLEX`.
Sources: https://platform.openai.com/docs/api-reference/chat/object (service_tier),
https://platform.claude.com/docs/en/api/service-tiers, https://ai.google.dev/gemini-api/docs/flex-inference,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ServiceTier.html,
https://console.groq.com/docs/service-tiers
"""

from typing import Any

STANDARD = "default"

_SAME = {"standard": STANDARD, "standard_only": STANDARD, "on_demand": STANDARD}
_PREFIXES = ("service_tier_", "on_demand_")
_LONGEST = 32


def named_tier(tier: Any) -> str | None:
    """`default` for the standard tier, else the tier's own word in lower case; None for `auto` and what is no tier."""
    if not isinstance(tier, str) or not 0 < len(tier) <= _LONGEST:
        return None
    name = tier.lower()
    for prefix in _PREFIXES:
        name = name.removeprefix(prefix)
    return None if name in ("auto", "unspecified") else _SAME.get(name, name)
