"""Which fields of a request leave its cost bounded, and which do not.

The list is of what is known to be harmless or is counted; whatever else has a value is refused, since a field that the
gateway does not know may make a provider search, call another model, or charge for a feature.
Sources: https://platform.openai.com/docs/api-reference/chat/create, https://platform.openai.com/docs/api-reference/embeddings/create,
https://platform.claude.com/docs/en/api/messages/create, https://openrouter.ai/docs/api-reference/parameters
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

_HARMLESS = frozenset(
    {"model", "stream", "stream_options", "user", "safety_identifier", "metadata", "store", "labels"}
    | {"temperature", "top_p", "top_k", "top_a", "min_p", "typical_p", "seed", "random_seed", "logit_bias"}
    | {"frequency_penalty", "presence_penalty", "repetition_penalty", "stop", "stop_sequences", "min_tokens"}
    | {"logprobs", "top_logprobs", "parallel_tool_calls", "tool_choice", "function_call"}
    | {"reasoning_effort", "reasoning", "include_reasoning", "reasoning_format", "thinking", "verbosity"}
    | {"prompt_cache_key", "prompt_cache_retention", "safetySettings", "safety_settings", "usage", "transforms"}
    | {"request_metadata", "requestMetadata"}
    | {"additional_model_response_field_paths", "additionalModelResponseFieldPaths"}
)
"""Neither a price nor a count depends on them: thinking is output, and its budget lies within the maximum."""

_COUNTED = frozenset(
    {"messages", "tools", "functions", "response_format", "output_config", "prediction", "max_tokens"}
    | {
        "max_completion_tokens",
        "n",
        "modalities",
        "audio",
        "service_tier",
        "serviceTier",
        "cache_control",
        "provider",
        "anthropic_beta",
    }
)
_CHAT = _HARMLESS | _COUNTED
_EMBEDDINGS = frozenset(
    {"model", "input", "dimensions", "encoding_format", "user", "input_type", "task_type", "truncate", "normalize"}
)
_OWN_TOOLS = ("function", "custom")
"""Tools that the caller runs. Any other runs at the provider, as often as the model wants, and reads what it finds."""

_BETAS = (
    *("interleaved-thinking-", "fine-grained-tool-streaming-", "token-efficient-tools-", "prompt-caching-"),
    *("extended-cache-ttl-", "context-1m-", "output-128k-"),
)
"""Those of Anthropic's that charge for nothing, or that the bound allows for: a longer cache, window and answer.
https://platform.claude.com/docs/en/api/beta-headers"""

_WHY = {
    "web_search_options": "the provider searches the web, and charges for each search and for what it reads",
    "plugins": "a plug-in is charged apart",
    "models": "another model may answer",
    "route": "another model may answer",
    "preset": "a preset may name another model",
    "mcp_servers": "the provider calls tools by itself, as often as the model wants",
    "container": "the provider runs code, and charges for its time",
    "context_management": "the provider may call the model more than once",
    "speed": "a fast mode has a price of its own",
    "inference_geo": "a place has a price of its own",
    "guardrail_config": "guardrails are charged apart",
    "guardrailConfig": "guardrails are charged apart",
    "cachedContent": "a cached prompt is as long as it is, and is charged for its storage",
    "cached_content": "a cached prompt is as long as it is, and is charged for its storage",
}
_UNKNOWN = "the gateway does not know what it costs"


def unbounded(param: str, why: str) -> InvalidRequest:
    """The refusal: 400, code `unbounded_cost`, `param` the field at fault."""
    return InvalidRequest(
        f"`{param}` cannot be used under a hard budget: {why}, so the most this request can cost is not known "
        "before the call. Leave it out, or ask for a key whose budgets are soft.",
        param=param,
        code="unbounded_cost",
    )


def check_chat_fields(fields: Mapping[str, Any]) -> None:
    """Raises `unbounded` for the first field that leaves the cost of a chat completion open. Null says nothing."""
    _check(fields, _CHAT)
    _check_betas(fields.get("anthropic_beta"))
    tools = fields.get("tools")
    for index, tool in enumerate(tools if isinstance(tools, list) else ()):
        if not isinstance(tool, dict) or tool.get("type") not in _OWN_TOOLS:
            raise unbounded(f"tools[{index}].type", "the provider runs such a tool by itself, and charges for it")


def _check_betas(given: Any) -> None:
    """A list of names, or a header's value: names between commas."""
    listed = given if isinstance(given, list) else [] if given is None else [given]
    for each in listed:
        names = each.split(",") if isinstance(each, str) else [""]
        if not all(name.strip().startswith(_BETAS) for name in names):
            raise unbounded("anthropic_beta", _UNKNOWN)


def check_embeddings_fields(fields: Mapping[str, Any]) -> None:
    """The same for embeddings."""
    _check(fields, _EMBEDDINGS)


def _check(fields: Mapping[str, Any], known: frozenset[str]) -> None:
    for name, value in fields.items():
        if name not in known and value is not None and value != []:
            # The name is the caller's, and goes into a message and a log.
            shown = ascii(name)[1:-1][:64]
            raise unbounded(shown, _WHY.get(name, _UNKNOWN))
