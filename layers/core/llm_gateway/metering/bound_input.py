"""The most tokens that a prompt can count, without a tokenizer.

A tokenizer that works on bytes, or falls back to them, never makes more tokens of a text than its UTF-8 has bytes: each
token stands for at least one. One that knows no bytes makes at most one of a character. Some bring a text into a normal
form first, which can make it longer (https://unicode.org/reports/tr15/, NFC and NFKC), so the longest form counts.
Around that stands what a chat template or a provider adds: `catalog/capabilities/limits.toml`.
"""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_gateway.errors import InvalidRequest
from llm_gateway.metering.bound_media import audio_tokens, image_tokens

_HIDDEN_TOKENS, _MESSAGE_TOKENS, _TOOLS_TOKENS = 64, 8, 256
"""Where the model's facts say nothing: before the prompt, around a message, before the tools or a schema. A template's
own words, such as a date, or how a tool is to be called: Hermes' and Llama's are under 200 tokens."""
_TOOL_TOKENS = 16
"""Around a tool or the call of one."""

_TEXT_FIELDS = frozenset(
    {"role", "content", "name", "refusal", "tool_call_id", "reasoning_content", "prefix", "partial"}
)
_JSON_FIELDS = frozenset(
    {"tool_calls", "function_call", "reasoning", "reasoning_details", "thinking_blocks", "annotations", "cache_control"}
)
"""A message's members that are read as the text they are. Opaque reasoning holds what was thought, in base64: its
characters are more than the tokens it stands for."""
_TEXT_PARTS = frozenset({"text", "refusal", "input_text", "output_text"})
_JSON_PARTS = frozenset({"thinking", "redacted_thinking", "reasoning", "tool_use", "cachePoint", "cache_point"})


@dataclass(slots=True)
class Prompt:
    """What has been read of a request: the tokens it counts at most, and what they can be billed as."""

    tokens: int = 0
    beyond: str | None = None
    """The first field whose tokens nothing but the model's context window bounds."""
    kinds: set[str] = field(default_factory=set)
    """Of `audio`, `image`, `video`: what the prompt holds beside text."""
    cache_writes: bool = False
    """Whether it asks for a part to be kept in a prompt cache,"""
    hour_writes: bool = False
    """and for longer than five minutes."""
    tools: bool = False
    """Whether it offers tools, or its history has calls: some wires then demand that tools be described."""

    def add_beyond(self, param: str, *kinds: str) -> None:
        self.beyond = self.beyond or param
        self.kinds.update(kinds)

    def add_json(self, value: Any, param: str, *, rendered_again: bool = False) -> None:
        """Counts a JSON value as its text. `rendered_again`: a template may indent it, a run of blanks at each mark.

        Raises `InvalidRequest` for one that is nested too deeply.
        """
        try:
            data = orjson.dumps(value)
        except orjson.JSONEncodeError:
            raise InvalidRequest(f"`{param}` is nested too deeply, or holds no valid text.", param=param) from None
        # Written in ASCII, as some templates do it, a character of two bytes becomes the six of `\u00e9`.
        self.tokens += len(data) * (3 if not data.isascii() else 2 if rendered_again else 1)
        if b"cache_control" in data or b"cachePoint" in data or b"cache_point" in data:
            self.cache_writes = True
            self.hour_writes = self.hour_writes or b'"ttl"' in data

    def add_marker(self, marker: Any) -> None:
        """A `cache_control`: https://platform.claude.com/docs/en/build-with-claude/prompt-caching"""
        if marker is not None:
            self.cache_writes = True
            lives = marker.get("ttl") if isinstance(marker, dict) else None
            self.hour_writes = self.hour_writes or lives not in (None, "5m")


def text_tokens(text: str) -> int:
    """Tokens of a text at most, whatever the tokenizer."""
    if text.isascii():
        return len(text)
    size = len(text.encode("utf-8", "surrogatepass"))
    if unicodedata.is_normalized("NFKC", text):
        return size
    forms = (unicodedata.normalize(form, text) for form in ("NFC", "NFKC"))
    return max(size, *(len(each.encode("utf-8", "surrogatepass")) for each in forms))


def read_chat(fields: Mapping[str, Any], facts: Mapping[str, Any], *, reads_urls_of_any_type: bool) -> Prompt:
    """The prompt of a chat completion. `facts` are the model's, of `limits.toml`. Raises `InvalidRequest`."""
    prompt = Prompt(tokens=facts.get("hidden_tokens", _HIDDEN_TOKENS))
    reader = _Messages(prompt, facts, reads_urls_of_any_type)
    for index, message in enumerate(fields["messages"]):
        reader.read(message, index)
    prompt.add_marker(fields.get("cache_control"))
    _read_tools(fields, facts, prompt)
    _read_formats(fields, facts, prompt)
    return prompt


def read_embeddings(fields: Mapping[str, Any], facts: Mapping[str, Any]) -> Prompt:
    """The input of an embeddings call: a text, token numbers, or a list of either. Raises `InvalidRequest`."""
    prompt = Prompt()
    around = facts.get("message_tokens", _MESSAGE_TOKENS)
    given = fields["input"]
    if isinstance(given, str) or _is_numbers(given):
        given = [given]
    for index, each in enumerate(given):
        prompt.tokens += around
        if isinstance(each, str):
            prompt.tokens += text_tokens(each)
        elif _is_numbers(each):
            prompt.tokens += len(each)
        else:
            prompt.add_beyond(f"input[{index}]", "audio", "image", "video")
    return prompt


def _is_numbers(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(each, int) for each in value)


def _read_tools(fields: Mapping[str, Any], facts: Mapping[str, Any], prompt: Prompt) -> None:
    for name in ("tools", "functions"):
        given = fields.get(name)
        if given:
            prompt.tools = True
            prompt.add_json(given, name, rendered_again=True)
            prompt.tokens += _TOOL_TOKENS * len(given)
    if prompt.tools:
        prompt.tokens += facts.get("tool_tokens", _TOOLS_TOKENS)


def _read_formats(fields: Mapping[str, Any], facts: Mapping[str, Any], prompt: Prompt) -> None:
    """A schema, and the words by which a provider, or a dialect where the provider has no such mode, asks for it.

    https://platform.claude.com/docs/en/build-with-claude/structured-outputs: an additional system prompt
    """
    for name in ("response_format", "output_config"):
        given = fields.get(name)
        if given is not None:
            prompt.add_json(given, name, rendered_again=True)
            prompt.tokens += facts.get("tool_tokens", _TOOLS_TOKENS)


class _Messages:
    """Reads messages into a prompt."""

    def __init__(self, prompt: Prompt, facts: Mapping[str, Any], reads_urls_of_any_type: bool) -> None:
        self._prompt = prompt
        self._facts = facts
        self._reads_urls_of_any_type = reads_urls_of_any_type
        self._around = facts.get("message_tokens", _MESSAGE_TOKENS)

    def read(self, message: Mapping[str, Any], index: int) -> None:
        prompt = self._prompt
        prompt.tokens += self._around
        for name, value in message.items():
            if value is None:
                continue
            if isinstance(value, str) and name in _TEXT_FIELDS:
                prompt.tokens += text_tokens(value)
            elif name == "content" and isinstance(value, list):
                for at, part in enumerate(value):
                    self._read_part(part, f"messages[{index}].content[{at}]")
            elif name in _JSON_FIELDS or name in _TEXT_FIELDS:
                prompt.add_json(value, f"messages[{index}].{name}")
                prompt.tools = prompt.tools or name in ("tool_calls", "function_call")
                if name == "cache_control":
                    prompt.add_marker(value)
                elif isinstance(value, list):
                    prompt.tokens += _TOOL_TOKENS * len(value)
            elif value:
                # Such as `audio`: an answer that is kept at the provider, of unknown length.
                prompt.add_beyond(f"messages[{index}].{ascii(name)[1:-1][:64]}", "audio", "image", "video")

    def _read_part(self, part: Any, param: str) -> None:
        prompt = self._prompt
        prompt.tokens += self._around
        kind = part.get("type") if isinstance(part, dict) else None
        if not isinstance(kind, str):
            prompt.add_beyond(param, "audio", "image", "video")
            return
        prompt.add_marker(part.get("cache_control"))
        text = part.get(kind, part.get("text"))
        if kind in _TEXT_PARTS and isinstance(text, str):
            prompt.tokens += text_tokens(text)
        elif kind in ("image_url", "image"):
            self._add_media(image_tokens(part, self._facts, reads_urls_of_any_type=self._reads_urls_of_any_type),
                            param, "image")  # fmt: skip
        elif kind == "input_audio":
            self._add_media(audio_tokens(part.get(kind), self._facts), param, "audio")
        elif kind in _JSON_PARTS:
            prompt.add_json(part, param)
        else:
            # Files are read as text and as images, films by the second: neither can be told from the bytes.
            prompt.add_beyond(param, "audio", "image", "video")

    def _add_media(self, tokens: int | None, param: str, kind: str) -> None:
        if tokens is None:
            self._prompt.add_beyond(param, "audio", "image", "video")
        else:
            self._prompt.tokens += tokens
            self._prompt.kinds.add(kind)
