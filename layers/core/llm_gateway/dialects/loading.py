"""The dialects by name, each imported when a request first needs it: most gateways speak one or two."""

from collections.abc import Callable, Iterator, Mapping

from llm_gateway.dialects.dialect import Dialect
from llm_gateway.dialects.openai_chat import OpenAIChat


def _anthropic_messages() -> Dialect:
    from llm_gateway.dialects.anthropic_messages import AnthropicMessages  # noqa: PLC0415 - see above

    return AnthropicMessages()


def _gemini_generate_content() -> Dialect:
    from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent  # noqa: PLC0415 - see above

    return GeminiGenerateContent()


def _bedrock_converse() -> Dialect:
    from llm_gateway.dialects.bedrock_converse import BedrockConverse  # noqa: PLC0415 - see above

    return BedrockConverse()


class Dialects(Mapping[str, Dialect]):
    """Every dialect there is. One object of each serves all requests."""

    def __init__(self) -> None:
        self._makers: dict[str, Callable[[], Dialect]] = {
            "openai_chat": OpenAIChat,
            "anthropic_messages": _anthropic_messages,
            "gemini_generate_content": _gemini_generate_content,
            "bedrock_converse": _bedrock_converse,
        }
        self._made: dict[str, Dialect] = {}

    def __getitem__(self, name: str) -> Dialect:
        made = self._made.get(name)
        if made is None:
            made = self._made[name] = self._makers[name]()
        return made

    def __contains__(self, name: object) -> bool:
        return name in self._makers

    def __iter__(self) -> Iterator[str]:
        return iter(self._makers)

    def __len__(self) -> int:
        return len(self._makers)
