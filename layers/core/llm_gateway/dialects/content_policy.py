"""How providers say that their content policy refuses a request: nothing may lead round that by accident.

A code where the vendor has one, else words. An answer that the policy ended (`finish_reason: content_filter`) is no
refusal of the request, and never comes here. Collected from the providers' pages, and from issue threads where what
they send is quoted:
https://learn.microsoft.com/en-us/azure/ai-foundry/openai/concepts/content-filter (Azure: 400, `content_filter`),
https://platform.openai.com/docs/guides/error-codes (OpenAI), https://openrouter.ai/docs/errors (OpenRouter: 403),
https://github.com/theopenco/llmgateway/pull/1785 (xAI: 403), https://github.com/NousResearch/hermes-agent/pull/41110
(xAI: 500), https://github.com/deepseek-ai/awesome-deepseek-integration/issues/13 (DeepSeek: 400)
"""

import re

_CODES = frozenset(
    {
        "content_filter",  # Azure; what dialects give where the vendor has words alone
        "content_policy_violation",  # OpenAI
        "invalid_prompt",  # OpenAI, reasoning models
        "moderation_blocked",  # OpenAI
        "responsibleaipolicyviolation",  # Azure's inner error
        "data_inspection_failed",  # Alibaba
        "new_sensitive",  # xAI
    }
)

_WORDS = re.compile(
    r"content (?:management|filtering) policy"  # Azure; Anthropic
    r"|violat\w+ (?:our )?(?:content policy|usage (?:policy|policies|guidelines))"  # OpenAI, Azure, xAI
    r"|requires moderation|input was flagged|(?:request|prompt) was flagged"  # OpenRouter, OpenAI
    r"|rejected as a result of our safety system"  # OpenAI
    r"|content exists risk"  # DeepSeek
    r"|blocked by our content filters"  # Bedrock
    r"|(?:image|text) is sensitive",  # xAI
    re.IGNORECASE,
)


def is_refused(code: str | None, message: str) -> bool:
    """Whether a provider's refusal is one of its content policy, by the code or by the words."""
    return (code or "").lower() in _CODES or _WORDS.search(message) is not None
