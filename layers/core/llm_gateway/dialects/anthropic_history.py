"""A chat's messages as Claude's `system` and `messages`.

System and developer messages, wherever they stand, become `system` in their order, as Anthropic's own OpenAI endpoint
does it. What follows one another in one role becomes one turn; the tool results of a turn stand first in it. An
assistant's thinking goes back as it came, from `reasoning_details`, in its place among text and tool calls; other
vendors' reasoning and plain `reasoning_content` cannot be sent, nor what would end the turn or stood behind a tool that
Anthropic ran.
A tool message may say `is_error: true`.
Sources: https://platform.claude.com/docs/en/api/messages/create, https://platform.claude.com/docs/en/api/openai-sdk,
https://platform.claude.com/docs/en/agents-and-tools/tool-use/handle-tool-calls (results first),
https://platform.claude.com/docs/en/build-with-claude/extended-thinking (blocks go back unmodified, in order)
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_gateway.dialects.anthropic_answer import FORMAT
from llm_gateway.dialects.anthropic_parts import Block, blocks_of, text_block, with_cache_control
from llm_gateway.dialects.thinking_places import with_thinking
from llm_gateway.dialects.tool_ids import claude_tool_id
from llm_gateway.errors import InvalidRequest

_THINKING = ("thinking", "redacted_thinking")


@dataclass(slots=True)
class Conversation:
    """`system` and `messages` as they go up. A turn is `{role, content}` with a list of blocks."""

    system: list[Block] = field(default_factory=list)
    turns: list[dict[str, Any]] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def add(self, role: str, blocks: Sequence[Block]) -> None:
        """Appends to the last turn where it has the same role; adds none without blocks."""
        if not blocks:
            return
        if self.turns and self.turns[-1]["role"] == role:
            self.turns[-1]["content"].extend(blocks)
        else:
            self.turns.append({"role": role, "content": list(blocks)})

    @property
    def ends_in_unsigned_tool_use(self) -> bool:
        """Whether tool results are being given to an assistant's turn that came without its thinking."""
        results = self.turns and any(block["type"] == "tool_result" for block in self.turns[-1]["content"])
        if not results or len(self.turns) < 2:
            return False
        first: Block = self.turns[-2]["content"][0]
        return first["type"] not in _THINKING


def read_conversation(messages: Sequence[Mapping[str, Any]]) -> Conversation:
    """Raises `InvalidRequest` with the `param` at fault."""
    conversation = Conversation()
    for index, message in enumerate(messages):
        place = f"messages[{index}]"
        role = message["role"]
        if role in ("system", "developer"):
            conversation.system += _marked(blocks_of(message.get("content"), f"{place}.content"), message)
        elif role == "user":
            conversation.add("user", _marked(blocks_of(message.get("content"), f"{place}.content"), message))
        elif role == "assistant":
            blocks, lost = _assistant_blocks(message, place)
            conversation.add("assistant", _marked(blocks, message))
            conversation.warnings += [each for each in dict.fromkeys(lost) if each not in conversation.warnings]
        elif role == "tool":
            conversation.add("user", [_tool_result(message, place)])
        else:
            raise InvalidRequest(f"Claude knows no messages of the role `{role}`.", param=f"{place}.role")
    if not conversation.turns:
        raise InvalidRequest("`messages` must hold something that a user or an assistant said.", param="messages")
    for turn in conversation.turns:
        if turn["role"] == "user":
            turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    _trim_prefill(conversation.turns[-1])
    return conversation


def _marked(blocks: list[Block], message: Mapping[str, Any]) -> list[Block]:
    """With the message's own `cache_control`, if it has one, on its last block that can carry it."""
    for at in reversed(range(len(blocks))):
        if blocks[at]["type"] not in _THINKING:
            blocks[at] = with_cache_control(blocks[at], message)
            break
    return blocks


def _assistant_blocks(message: Mapping[str, Any], place: str) -> tuple[list[Block], list[str]]:
    """The blocks, and warnings."""
    said = blocks_of(message.get("content"), f"{place}.content")
    refusal = message.get("refusal")
    if not said and isinstance(refusal, str) and refusal:
        said = [text_block(refusal)]
    if message.get("function_call") is not None:
        raise InvalidRequest("`function_call` is not supported: use `tool_calls`.", param=f"{place}.function_call")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        raise InvalidRequest(f"`{place}.tool_calls` must be an array.", param=f"{place}.tool_calls")
    uses = [_tool_use(call, f"{place}.tool_calls[{at}]") for at, call in enumerate(calls)]
    return with_thinking(message.get("reasoning_details"), _thinking_block, said, uses)


def _tool_use(call: Any, place: str) -> Block:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"`{place}` must be a call of a function.", param=place)
    arguments = function.get("arguments")
    written = arguments.strip() if isinstance(arguments, str) else ""
    try:
        is_object = not written or isinstance(orjson.loads(written), dict)
    except orjson.JSONDecodeError:
        is_object = False
    if not is_object:
        param = f"{place}.function.arguments"
        raise InvalidRequest(f"`{param}` must be the text of a JSON object.", param=param)
    block = {
        "type": "tool_use",
        "id": claude_tool_id(call.get("id"), f"{place}.id"),
        "name": function["name"],
        "input": orjson.Fragment(written or "{}"),
    }
    return with_cache_control(block, call)


def _tool_result(message: Mapping[str, Any], place: str) -> Block:
    result: Block = {
        "type": "tool_result",
        "tool_use_id": claude_tool_id(message.get("tool_call_id"), f"{place}.tool_call_id"),
    }
    content = message.get("content")
    if isinstance(content, str) and content:
        result["content"] = content
    elif blocks := blocks_of(content, f"{place}.content"):
        result["content"] = blocks
    if message.get("is_error") is True:
        result["is_error"] = True
    return with_cache_control(result, message)


def _thinking_block(detail: Mapping[str, Any]) -> Block | None:
    if detail.get("format", FORMAT) != FORMAT:
        return None
    if detail.get("type") == "reasoning.text" and detail.get("signature"):
        return {"type": "thinking", "thinking": detail.get("text", ""), "signature": detail["signature"]}
    if detail.get("type") == "reasoning.encrypted" and detail.get("data"):
        return {"type": "redacted_thinking", "data": detail["data"]}
    return None


def _trim_prefill(turn: dict[str, Any]) -> None:
    """The text that an assistant's answer is to begin with must not end in white space: the API refuses it."""
    last: Block = turn["content"][-1]
    if turn["role"] == "assistant" and last["type"] == "text" and last["text"].strip():
        turn["content"][-1] = {**last, "text": last["text"].rstrip()}
