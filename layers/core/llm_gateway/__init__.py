"""An OpenAI-compatible gateway to language models: a stack on AWS, a command on a laptop, and this library.

    from llm_gateway import Gateway

What stands here is the library's face; nothing is imported before it is asked for.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_gateway.catalog.faults import ConfigError
    from llm_gateway.domain.totals import Totals
    from llm_gateway.domain.usage import Usage
    from llm_gateway.errors import CredentialsMissing, GatewayError
    from llm_gateway.library.answers import ChatChunk, ChatCompletion, Embeddings, Moderation, ToolCall
    from llm_gateway.library.client import ConfigLoader, LLMGatewayClient, ProviderFactory
    from llm_gateway.library.client_request import InterventionContext, LLMConfig, LLMRequest
    from llm_gateway.library.client_response import ErrorDetails, LLMResponse
    from llm_gateway.library.gateway import Gateway
    from llm_gateway.library.plugins import ProviderPlugin
    from llm_gateway.library.stream import ChatStream
    from llm_gateway.observability.call_events import CallFailed, CallStarted, CallStopped
    from llm_gateway.pipeline.usage_queries import UsageRow

__all__ = [
    "CallFailed",
    "CallStarted",
    "CallStopped",
    "ChatChunk",
    "ChatCompletion",
    "ChatStream",
    "ConfigError",
    "ConfigLoader",
    "CredentialsMissing",
    "Embeddings",
    "ErrorDetails",
    "Gateway",
    "GatewayError",
    "InterventionContext",
    "LLMConfig",
    "LLMGatewayClient",
    "LLMRequest",
    "LLMResponse",
    "Moderation",
    "ProviderFactory",
    "ProviderPlugin",
    "ToolCall",
    "Totals",
    "Usage",
    "UsageRow",
]

_HOMES = {
    "llm_gateway.catalog.faults": ("ConfigError",),
    "llm_gateway.domain.totals": ("Totals",),
    "llm_gateway.domain.usage": ("Usage",),
    "llm_gateway.errors": ("CredentialsMissing", "GatewayError"),
    "llm_gateway.library.answers": ("ChatChunk", "ChatCompletion", "Embeddings", "Moderation", "ToolCall"),
    "llm_gateway.library.client": ("ConfigLoader", "LLMGatewayClient", "ProviderFactory"),
    "llm_gateway.library.client_request": ("InterventionContext", "LLMConfig", "LLMRequest"),
    "llm_gateway.library.client_response": ("ErrorDetails", "LLMResponse"),
    "llm_gateway.library.gateway": ("Gateway",),
    "llm_gateway.library.plugins": ("ProviderPlugin",),
    "llm_gateway.library.stream": ("ChatStream",),
    "llm_gateway.observability.call_events": ("CallFailed", "CallStarted", "CallStopped"),
    "llm_gateway.pipeline.usage_queries": ("UsageRow",),
}


def __getattr__(name: str) -> Any:
    home = next((home for home, names in _HOMES.items() if name in names), None)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module  # noqa: PLC0415 - the functions in Lambda never come here

    found = globals()[name] = getattr(import_module(home), name)
    return found
