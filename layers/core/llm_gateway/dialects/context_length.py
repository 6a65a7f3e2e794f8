"""How providers say that a prompt does not fit: frameworks cut their history when the code says so.

Only OpenAI and some who follow it send `context_length_exceeded`; the others have words alone. Collected from the
providers' pages, and from issue threads where what they send is quoted:
https://platform.claude.com/docs/en/api/errors (Anthropic), https://github.com/aws-samples/bedrock-chat/issues/95,
https://github.com/aaif-goose/goose/pull/7550, https://github.com/RooCodeInc/Roo-Code/issues/1767 (Bedrock),
https://github.com/badlogic/pi-mono/blob/main/packages/ai/src/utils/overflow.ts (the compatible vendors)
"""

import re

CODE = "context_length_exceeded"

_WORDS = re.compile(
    r"prompt is too long"  # Anthropic, Fireworks
    r"|input is too long|expected maxLength"  # Bedrock
    r"|input length and `max_tokens` exceed context limit"  # Anthropic
    r"|token count.{0,40}exceeds the maximum"  # Gemini
    r"|exceeds the maximum number of (?:input )?tokens"  # Vertex
    r"|maximum (?:context|prompt|model|input) length"  # OpenAI, Azure, DeepSeek, OpenRouter, vLLM, xAI
    r"|reduce the length of the (?:messages|prompt|input)"  # Groq, Cerebras
    r"|too large for model with \d+ maximum context"  # Mistral
    r"|(?:exceeds?|exceeded|longer than|greater than) (?:the |this )?(?:model'?s? )?(?:available |max(?:imum)? )?"
    r"(?:context|token limit|input token)"  # Together, Ollama, llama.cpp, LM Studio, Moonshot
    r"|context (?:window|length|size)[^.]{0,40}exceed"  # MiniMax
    r"|too many (?:input )?tokens: |too many input tokens",  # Cohere, Titan
    re.IGNORECASE,
)


def is_too_long(message: str) -> bool:
    """Whether a refusal with a status of the 400s (and none of 429's) means the context's length."""
    return _WORDS.search(message) is not None
