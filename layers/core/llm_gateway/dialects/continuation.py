"""Going on with another model's answer: the request that asks for the rest, and the stream that joins it.

The text so far goes up as a last message of the assistant's, a prefill. What takes one, and how, is a fact of the model
(`catalog/capabilities/prefill.toml`, each with its source) or of the operator's own provider (`quirks.prefill`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from typing import Any, Literal

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.continued_stream import ContinuedStream
from llm_gateway.dialects.dialect import Said, SplitEvents, StreamTranslator
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.schemas.json_splice import elements, set_member, value_of
from llm_gateway.schemas.openai_chat import ModelRequest

_LIMITS = ("max_tokens", "max_completion_tokens")
_THINKS_NOT = ("disabled", "between_tools")


@dataclass(frozen=True, slots=True)
class Prefill:
    """How a model is told what its answer begins with. Opaque to the pipeline: from `prefill_style` to the others."""

    style: Literal["plain", "prefix", "continue_final_message"]
    echoes: bool = False
    """Whether its answer repeats what it was given."""
    with_reasoning: bool = True
    """Whether it is taken from a request that asks for reasoning."""


def prefill_style(provider: Provider, model: str) -> Prefill | None:
    """None where the model takes no prefill, or nobody says that it does."""
    if provider.quirks.prefill is not None:
        return Prefill(provider.quirks.prefill)
    facts = capability("prefill", f"{provider.name}:{model}")
    if "style" not in facts or not fnmatchcase(provider.base_url or "", facts.get("base_url", "*")):
        return None
    return Prefill(facts["style"], facts.get("echoes", False), facts.get("with_reasoning", True))


def continued_request(
    request: ModelRequest, said: Said, style: Prefill | None, written_tokens: int
) -> ModelRequest | None:
    """The request for the rest of an answer of which `said` went out; None where there can be none.

    `written_tokens` come off the caller's limit. With no text said it is the request as it was, whatever the style.
    """
    text = said.content.rstrip()
    if not said.plain or (request.fields.get("n") or 1) != 1:
        return None
    if not text:
        return request
    if style is None or not _can_go_on(request.fields, style):
        return None
    messages = _with_prefill(request, text, style)
    if messages is None:
        return None
    members: dict[str, Any] = {
        name: max(1, request.fields[name] - written_tokens) for name in _LIMITS if request.fields.get(name) is not None
    }
    if style.style == "continue_final_message":
        members |= {"add_generation_prompt": False, "continue_final_message": True}
    body = set_member(request.body, "messages", messages)
    for name, value in members.items():
        body = set_member(body, name, orjson.dumps(value))
    return replace(request, body=body, fields={**request.fields, "messages": orjson.loads(messages), **members})


def _can_go_on(fields: Mapping[str, Any], style: Prefill) -> bool:
    """Not where the form of the whole answer is forced: that would be forced on the rest alone, from its beginning.

    Anthropic refuses a prefill beside a schema: https://platform.claude.com/docs/en/build-with-claude/structured-outputs
    """
    wanted = fields.get("response_format")
    forced = isinstance(wanted, dict) and wanted.get("type") not in (None, "text")
    if forced or fields.get("tool_choice") not in (None, "auto", "none"):
        return False
    return style.with_reasoning or not _asks_for_reasoning(fields)


def _asks_for_reasoning(fields: Mapping[str, Any]) -> bool:
    """In OpenAI's words, OpenRouter's (`reasoning`) or Anthropic's (`thinking`)."""
    if fields.get("reasoning_effort") not in (None, "none"):
        return True
    reasoning, thinking = fields.get("reasoning"), fields.get("thinking")
    if isinstance(reasoning, dict) and reasoning:
        return reasoning.get("enabled") is not False and reasoning.get("effort") != "none"
    return isinstance(thinking, dict) and thinking.get("type") not in _THINKS_NOT


def _with_prefill(request: ModelRequest, text: str, style: Prefill) -> bytes | None:
    """The messages as JSON. A beginning that the caller wrote stays in front; None where that is no plain text."""
    pieces = list(elements(value_of(request.body, "messages") or b"[]"))
    last = request.fields["messages"][-1]
    if last["role"] == "assistant":
        begun = last.get("content")
        if not isinstance(begun, str) or last.get("tool_calls"):
            return None
        prefill = set_member(pieces.pop(), "content", orjson.dumps(begun + text))
    else:
        prefill = orjson.dumps({"role": "assistant", "content": text})
    if style.style == "prefix":
        prefill = set_member(prefill, "prefix", b"true")
    return b"[" + b",".join([*pieces, prefill]) + b"]"


class Continued(ContinuedStream):
    """`ContinuedStream` of a model whose prefill is of this `style`; None where nothing had been said yet."""

    def __init__(
        self, inner: StreamTranslator, said: Said, before: Usage, style: Prefill | None, split_events: SplitEvents
    ) -> None:
        super().__init__(inner, said, before, echoes=style is not None and style.echoes, split_events=split_events)
