"""Which refusals mean that the prompt does not fit: as the vendors word it, and what must not be taken for it."""

import pytest

from llm_gateway.dialects.context_length import is_too_long


@pytest.mark.parametrize(
    "said",
    [
        "prompt is too long: 208310 tokens > 200000 maximum",
        "Input is too long for requested model.",
        "This model's maximum context length is 8192 tokens. However, your messages resulted in 9000 tokens.",
        "This model's maximum prompt length is 131072 but the request contains 537812 tokens.",
        "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576).",
        "The input token count (1200000) exceeds the maximum number of tokens allowed",
        "Please reduce the length of the messages or completion.",
        "This endpoint's maximum context length is 131072 tokens. However, you requested about 138956 tokens (7884 of text input, 131072 in the output).",
        "request (14429 tokens) exceeds the available context size (8192 tokens), try increasing it",
        "Prompt contains 40000 tokens, too large for model with 32768 maximum context length",
        "The input (9000 tokens) is longer than the model's context length (8192 tokens).",
        "the request exceeds the available context size, try increasing it",
        "Your request exceeded model token limit: 262144",
        "invalid params, context window exceeds limit (2013)",
        "prompt too long; exceeded max context length by 123 tokens",
        "Your input exceeds the context window of this model.",
        "too many tokens: size limit exceeded by 326 tokens. Try using shorter or fewer inputs",
        "400 Bad Request: Too many input tokens. Max input tokens: 8192, request input token count: 9000",
    ],
)
def test_too_long(said: str) -> None:
    assert is_too_long(said)


@pytest.mark.parametrize(
    "said",
    [
        "Too many tokens, please wait before trying again.",
        "max_tokens is too large: 100000. This model supports at most 16384 completion tokens.",
        "max_tokens: 100000 > 8192, which is the maximum allowed number of output tokens for this model",
        "Request too large for model `x` on tokens per minute (TPM): Limit 6000, Requested 7000.",
        "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
        "Invalid 'messages[0].name': string too long. Expected a string with maximum length 64.",
        "The image exceeds the maximum size of 5 MB",
        "Number of request tokens has exceeded your per-minute rate limit",
    ],
)
def test_something_else(said: str) -> None:
    assert not is_too_long(said)
