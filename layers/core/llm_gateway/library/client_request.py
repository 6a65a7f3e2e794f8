"""What a call of `client.LLMGatewayClient` says. Checked where it is used: by the gateway and by the provider."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from llm_gateway.errors import InvalidRequest

_OF_OPENAI = {
    "temperature": "temperature",
    "max_tokens": "max_tokens",
    "top_p": "top_p",
    "stop_sequences": "stop",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
}
"""Fields of `LLMConfig`, and OpenAI's names for them."""

_OURS = frozenset({"messages", "model", "stream", "tools", "user"})

Content = str | Sequence[Mapping[str, Any]]
"""Text, or OpenAI's parts of a message: text, images, audio, files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LLMConfig:
    """Which model, and how it is to answer.

    `model_identifier` is what a caller over HTTP says as `model`: an alias of the file, `provider:model`, or a bare
    name; None is the file's `default_model`. What is None is not sent. Within `timeout_seconds` the answer is whole, or
    it is an error. `parameters` are any others of OpenAI's (`seed`, `response_format`, `max_completion_tokens`, …).
    """

    model_identifier: str | None = None
    temperature: float | None = None
    max_tokens: int | None = None
    top_p: float | None = None
    stop_sequences: Sequence[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    timeout_seconds: float | None = None
    system_prompt: str | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)

    def fields(self) -> dict[str, Any]:
        """As OpenAI's parameters. Raises `InvalidRequest` for one that the request says in another place, or twice."""
        own = {theirs: getattr(self, name) for name, theirs in _OF_OPENAI.items() if getattr(self, name) is not None}
        for name in self.parameters:
            if name in own or name in _OURS:
                raise InvalidRequest(f"The request says `{name}` elsewhere: `parameters` may not.", param=name)
        return {**own, **self.parameters}


@dataclass(frozen=True, slots=True, kw_only=True)
class InterventionContext:
    """Whom a call is for, and what was said before.

    `session_id` is the tag `session_id` of the ledger's entry. `team_id` comes before the client's own, `user_id` is
    whose limits count. `conversation_history` are messages in OpenAI's shape; an answer's `final_context` has the turn
    that it ended, and is the next request's `initial_context`. Nothing is kept between calls.
    """

    session_id: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    conversation_history: Sequence[Mapping[str, Any]] = ()
    tags: Mapping[str, str] = field(default_factory=dict)

    def after(self, said: Sequence[Mapping[str, Any]]) -> "InterventionContext":
        """The same, when `said` was said."""
        return replace(self, conversation_history=(*self.conversation_history, *said))

    def all_tags(self) -> Mapping[str, str]:
        return self.tags if self.session_id is None else {**self.tags, "session_id": self.session_id}


@dataclass(frozen=True, slots=True)
class LLMRequest:
    """One turn: `prompt_content` is what the user says now; None goes on from the history, as after a tool's result.

    `tools` are OpenAI's.
    """

    prompt_content: Content | None
    config: LLMConfig = field(default_factory=LLMConfig)
    initial_context: InterventionContext = field(default_factory=InterventionContext)
    tools: Sequence[Mapping[str, Any]] | None = None

    def prompt(self) -> list[Mapping[str, Any]]:
        """The message that is new, if there is one."""
        return [] if self.prompt_content is None else [{"role": "user", "content": self.prompt_content}]

    def messages(self) -> list[Mapping[str, Any]]:
        system = self.config.system_prompt
        first = [] if system is None else [{"role": "system", "content": system}]
        return [*first, *self.initial_context.conversation_history, *self.prompt()]
