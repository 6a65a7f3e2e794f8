"""Chat Completions messages as Converse's `system` and `messages`.

Roles alternate: neighbours of one role become one message, and so do all tool results of a turn with what the user says
next. Blank text is left out, since Converse refuses it. A `cache_control` marker on a part or a message becomes a
`cachePoint` block behind it. Reasoning goes back only with its opaque state (`reasoning_details` with a signature or
encrypted data), byte for byte and in its place among text and calls.
Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Message.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/tool-use-inference-call.html,
https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson

from llm_gateway.dialects.bedrock_media import audio_block, document_block, image_block, video_block
from llm_gateway.dialects.parameters import unknown_part
from llm_gateway.dialects.thinking_places import is_format, with_thinking
from llm_gateway.dialects.tool_ids import converse_tool_id
from llm_gateway.errors import InvalidRequest

REASONING_FORMAT = "bedrock-converse-v1"
# Claude signs alike wherever it is served: https://docs.claude.com/en/docs/build-with-claude/extended-thinking
_READABLE_FORMATS = (REASONING_FORMAT, "anthropic-claude-v1")

Block = dict[str, Any]


@dataclass(slots=True)
class Conversation:
    """`tool_names` are of all tools that the history calls, in order."""

    system: list[Block] = field(default_factory=list)
    messages: list[dict[str, Any]] = field(default_factory=list)
    tool_names: list[str] = field(default_factory=list)
    tool_blocks: bool = False
    foreign_reasoning: bool = False
    """Whether reasoning of another provider was left out."""
    uncached: bool = False
    """Whether a `cache_control` marker was left out, the model taking none."""
    caches: bool = True
    claude: bool = False
    document_names: set[str] = field(default_factory=set)
    """In small letters: Converse wants each once."""
    warnings: list[str] = field(default_factory=list)

    def add(self, role: str, blocks: list[Block]) -> None:
        if not blocks:
            return
        if self.messages and self.messages[-1]["role"] == role:
            self.messages[-1]["content"].extend(blocks)
        else:
            self.messages.append({"role": role, "content": blocks})

    def cache_points(self, marked: Mapping[str, Any]) -> list[Block]:
        """The `cachePoint` that a `cache_control` asks for, in a list; an empty one without."""
        control = marked.get("cache_control")
        if not isinstance(control, dict):
            return []
        if not self.caches:
            self.uncached = True
            return []
        ttl = control.get("ttl")
        return [{"cachePoint": {"type": "default", **({"ttl": ttl} if isinstance(ttl, str) else {})}}]


def read_conversation(messages: list[Mapping[str, Any]], *, caches: bool, claude: bool = False) -> Conversation:
    """Raises `InvalidRequest` with the `param` at fault. `caches`: whether the model takes cache points."""
    conversation = Conversation(caches=caches, claude=claude)
    for index, message in enumerate(messages):
        param = f"messages[{index}]"
        role = message.get("role")
        if role in ("system", "developer"):
            _add_system(conversation, message, param)
        elif role == "user":
            blocks = list(_content(conversation, message.get("content"), f"{param}.content"))
            conversation.add("user", _marked(conversation, blocks, message))
        elif role == "assistant":
            _add_assistant(conversation, message, param)
        elif role == "tool":
            _add_tool_result(conversation, message, param)
        else:
            raise InvalidRequest(f"Bedrock knows no message of the role `{role}`.", param=f"{param}.role")
    if not conversation.messages:
        raise InvalidRequest("`messages` must hold something that a user or an assistant said.", param="messages")
    _trim_prefill(conversation.messages[-1])
    return conversation


def _trim_prefill(last: dict[str, Any]) -> None:
    """Claude refuses an answer's beginning that ends in white space, here too."""
    block = last["content"][-1]
    if last["role"] == "assistant" and "text" in block:
        last["content"][-1] = {"text": block["text"].rstrip()}


def _marked(conversation: Conversation, blocks: list[Block], marked: Mapping[str, Any]) -> list[Block]:
    """The blocks with the cache point that a marker on their message asks for; nothing can be cached of nothing."""
    return [*blocks, *conversation.cache_points(marked)] if blocks else blocks


def _add_system(conversation: Conversation, message: Mapping[str, Any], param: str) -> None:
    blocks = list(_content(conversation, message.get("content"), f"{param}.content"))
    if unfit := next((block for block in blocks if not {"text", "cachePoint", "guardContent"} & block.keys()), None):
        raise InvalidRequest(f"Bedrock takes no {next(iter(unfit))} in a system message.", param=f"{param}.content")
    conversation.system.extend(_marked(conversation, blocks, message))


def _add_assistant(conversation: Conversation, message: Mapping[str, Any], param: str) -> None:
    content = [*_content(conversation, message.get("content"), f"{param}.content"), *_text(message.get("refusal"))]
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidRequest(f"`{param}.tool_calls` must be an array.", param=f"{param}.tool_calls")
    uses = [_tool_use(conversation, call, f"{param}.tool_calls[{at}]") for at, call in enumerate(calls)]
    if message.get("function_call") is not None:
        raise InvalidRequest("`function_call` is not supported: use `tool_calls`.", param=f"{param}.function_call")
    blocks, lost = with_thinking(
        message.get("reasoning_details"), partial(_reasoning_block, conversation), content, uses
    )
    conversation.warnings += [each for each in dict.fromkeys(lost) if each not in conversation.warnings]
    conversation.add("assistant", _marked(conversation, blocks, message))


def _tool_use(conversation: Conversation, call: Any, param: str) -> Block:
    function = call.get("function") if isinstance(call, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(name, str):
        raise InvalidRequest(f"`{param}` must be a call of a function.", param=param)
    arguments = _arguments(function.get("arguments"), f"{param}.function.arguments")
    conversation.tool_blocks = True
    if name not in conversation.tool_names:
        conversation.tool_names.append(name)
    # The caller's own bytes: an integer past 64 bits would not survive being parsed.
    use_id = converse_tool_id(call.get("id"), f"{param}.id", claude=conversation.claude)
    return {"toolUse": {"toolUseId": use_id, "name": name, "input": orjson.Fragment(arguments.encode())}}


def _arguments(given: Any, param: str) -> str:
    arguments = "{}" if given in (None, "") else given
    try:
        is_object = isinstance(arguments, str) and isinstance(orjson.loads(arguments), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        raise InvalidRequest(f"`{param}` must be the text of a JSON object.", param=param)
    return str(arguments)


def _add_tool_result(conversation: Conversation, message: Mapping[str, Any], param: str) -> None:
    """`is_error: true`, which OpenAI's wire does not have, marks a tool's failure."""
    content = list(_content(conversation, message.get("content"), f"{param}.content"))
    points = [block for block in content if "cachePoint" in block] + conversation.cache_points(message)
    content = [block for block in content if "cachePoint" not in block]
    result: Block = {
        "toolUseId": converse_tool_id(message.get("tool_call_id"), f"{param}.tool_call_id", claude=conversation.claude),
        "content": content or [{"json": {}}],  # blank text is refused, and so is an error with nothing in it
    }
    if message.get("is_error") is True:
        result["status"] = "error"
    conversation.tool_blocks = True
    conversation.add("user", [{"toolResult": result}, *points[-1:]])


def _reasoning_block(conversation: Conversation, detail: Mapping[str, Any]) -> Block | None:
    known = detail.get("format")
    if known is not None and not any(is_format(known, name) for name in _READABLE_FORMATS):
        conversation.foreign_reasoning = True
    elif detail.get("type") == "reasoning.text" and isinstance(detail.get("signature"), str):
        signed = {"text": detail.get("text") or "", "signature": detail["signature"]}
        return {"reasoningContent": {"reasoningText": signed}}
    elif detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str):
        return {"reasoningContent": {"redactedContent": detail["data"]}}
    return None


def _content(conversation: Conversation, content: Any, param: str) -> Iterator[Block]:
    if content is None or isinstance(content, str):
        yield from _text(content)
        return
    if not isinstance(content, list):
        raise InvalidRequest(f"`{param}` must be a string or an array.", param=param)
    for at, part in enumerate(content):
        if not isinstance(part, dict):
            raise InvalidRequest(f"`{param}[{at}]` must be an object.", param=f"{param}[{at}]")
        blocks = _part(conversation, part, f"{param}[{at}]")
        yield from blocks
        if blocks:
            yield from conversation.cache_points(part)


def _part(conversation: Conversation, part: Mapping[str, Any], param: str) -> list[Block]:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        return _text(part.get(kind))
    if kind == "guarded_text":  # what a guardrail is to look at: no part of OpenAI's wire
        return [{"guardContent": {"text": {"text": text["text"]}}} for text in _text(part.get("text"))]
    if kind == "image_url":
        return [image_block(part, param)]
    if kind == "video_url":
        return [video_block(part, param)]
    if kind == "input_audio":
        return [audio_block(part, param)]
    if kind == "file":
        return [document_block(part, param, conversation.document_names)]
    raise unknown_part("Bedrock", part, param)


def _text(text: Any) -> list[Block]:
    return [{"text": text}] if isinstance(text, str) and text.strip() else []
