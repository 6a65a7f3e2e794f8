"""What of a request a provider cannot be told, whatever its wire: refused, or left out with a warning.

Each dialect with a wire of its own declares what it reads (`Reach`). Everything else that a caller sent and that asks
for something is told in a warning, or is a 400 where the answer would be another without it, so that nothing can be
forgotten. What asks for what happens anyway (`n: 1`, `logprobs: false`, a penalty of 0, null) is left out without a
word.
Source: https://platform.openai.com/docs/api-reference/chat/create
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_gateway.errors import InvalidRequest

_UNASKED: Mapping[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "frequency_penalty": (0,),
    "presence_penalty": (0,),
    "logit_bias": ({},),
    "metadata": ({},),
    "store": (False,),
    "strict": (False,),
    "parallel_tool_calls": (True,),
    "tool_choice": ("auto",),
    "service_tier": ("auto", "default"),
    "modalities": ([], ["text"]),
    "functions": ([],),
    "detail": ("auto",),
}
"""Values that say what happens unsaid."""

_EMPTY: tuple[Any, ...] = ("", [], {})
OPENAIS_OWN = frozenset(
    {"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens"}
    | {"max_tokens", "messages", "metadata", "modalities", "model", "n", "parallel_tool_calls", "prediction"}
    | {"presence_penalty", "prompt_cache_key", "prompt_cache_retention", "reasoning_effort", "response_format"}
    | {"safety_identifier", "seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature"}
    | {"tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options"}
)
"""The members of a request that OpenAI documents."""

MESSAGES = frozenset(
    {"role", "content", "tool_calls", "tool_call_id", "function_call", "refusal", "reasoning_details"}
    | {"is_error", "cache_control"}
)
"""Members of messages that every dialect reads."""

_THOUGHTS = frozenset({"reasoning_content", "reasoning"})
_MOST_TOLD = 10


@dataclass(frozen=True, slots=True)
class Reach:
    """What a dialect tells its provider, by names of the caller's wire.

    `members` are the request's, `messages` the messages', `functions` those of a tool's function. `refused` says in
    words why a member is a 400. `passes_unknown`: what OpenAI does not have is the model's own, and goes up.
    """

    vendor: str
    members: frozenset[str]
    refused: Mapping[str, str]
    functions: frozenset[str] = frozenset({"name", "description", "parameters", "strict", "cache_control"})
    messages: frozenset[str] = field(default=MESSAGES)
    passes_unknown: bool = False


def asks(fields: Mapping[str, Any], name: str) -> bool:
    """Whether a member is there and asks for something."""
    value = fields.get(name)
    return value is not None and value not in _UNASKED.get(name, ())


def unsent(fields: Mapping[str, Any], reach: Reach) -> list[str]:
    """The warnings for what is left out. Raises `InvalidRequest` for what cannot be."""
    for name, reason in reach.refused.items():
        if asks(fields, name):
            raise InvalidRequest(reason, param=name, code="unsupported_parameter")
    names = fields.keys() - reach.members - reach.refused.keys()
    if reach.passes_unknown:
        names &= OPENAIS_OWN
    lost = [name for name in fields if name in names and asks(fields, name) and fields[name] not in _EMPTY]
    lost += dict.fromkeys(_of_messages(fields["messages"], reach))
    lost += dict.fromkeys(_of_functions(fields.get("tools"), reach.functions))
    return dropped(lost, reach.vendor)


def dropped(names: Sequence[str], vendor: str) -> list[str]:
    """The warnings. The names are the caller's, and go into a header: printable, short and few."""
    told = [f"{ascii(name)[1:-1][:64]} was dropped: {vendor} has no such parameter" for name in names[:_MOST_TOLD]]
    return told if len(names) <= _MOST_TOLD else [*told, f"{len(names) - _MOST_TOLD} more were dropped"]


def _of_messages(messages: Sequence[Mapping[str, Any]], reach: Reach) -> Iterator[str]:
    for message in messages:
        known = reach.messages
        if message.get("role") == "tool":
            known = known | {"name"}  # the call that it answers says the same
        if message.get("reasoning_details"):
            known = known | _THOUGHTS  # the same, for people
        for name in message.keys() - known:
            if message[name] is not None and message[name] not in _EMPTY:
                yield f"{name} of messages"
        if isinstance(message.get("content"), list):
            yield from _details(message["content"])


def _details(parts: Sequence[Any]) -> Iterator[str]:
    for part in parts:
        image = part.get("image_url") if isinstance(part, dict) else None
        if isinstance(image, dict) and asks(image, "detail"):
            yield "detail of images"


def _of_functions(tools: Any, known: frozenset[str]) -> Iterator[str]:
    for tool in tools or ():
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict):
            continue
        for name in function.keys() - known:
            if asks(function, name):
                yield f"{name} of tools"
