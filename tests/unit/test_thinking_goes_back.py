"""Specifies thinking on its way to a client and back: the official SDK's merging, places among text and calls, losses."""

import json
from typing import Any, Literal

import pytest
from openai.lib.streaming.chat import ChatCompletionStreamState
from openai.types.chat import ChatCompletionChunk

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.dialects.thinking_places import AT_THE_END, BEHIND_A_TOOL, is_format
from llm_gateway.domain.catalog import Provider
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.aws_event_stream import split_messages
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.bedrock_upstream import messages

CONVERSE, CLAUDE = BedrockConverse(), AnthropicMessages()
REQUEST = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
MODEL = "anthropic.claude-sonnet-4-6"
Dialect = Literal["bedrock_converse", "anthropic_messages"]
Blocks = list[dict[str, Any]]

TURN: Blocks = [
    {"reasoningContent": {"reasoningText": {"text": "First.", "signature": "c2lnMQ=="}}},
    {"text": "Looking. "},
    {"toolUse": {"toolUseId": "a", "name": "f", "input": {"x": 1}}},
    {"reasoningContent": {"redactedContent": "AAEC"}},
    {"reasoningContent": {"reasoningText": {"text": "Then.", "signature": "c2lnMg=="}}},
    {"text": "Both."},
    {"toolUse": {"toolUseId": "b", "name": "f", "input": {}}},
]


def next_turn(said: dict[str, Any], dialect: Dialect = "bedrock_converse") -> tuple[Blocks, tuple[str, ...]]:
    """What goes up of an assistant's message, and the warnings."""
    provider = Provider("p", dialect, "https://h")
    user = {"role": "user", "content": "x"}
    request = read_chat_request(json.dumps({"messages": [user, said, user]}).encode())
    encoder = CONVERSE if dialect == "bedrock_converse" else CLAUDE
    encoded: EncodedRequest = encoder.encode("chat.completions", request, MODEL, provider)
    turns = [turn["content"] for turn in json.loads(encoded.body)["messages"] if turn["role"] == "assistant"]
    return [block for turn in turns for block in turn], encoded.warnings


def through_the_sdk(sse: bytes) -> dict[str, Any]:
    """The message that OpenAI's Python SDK makes of the chunks."""
    state = ChatCompletionStreamState()
    for event in sse.decode().removesuffix("data: [DONE]\n\n").split("\n\n")[:-1]:
        list(state.handle_chunk(ChatCompletionChunk.model_validate_json(event.removeprefix("data: "))))
    message: dict[str, Any] = state.current_completion_snapshot.choices[0].message.to_dict()
    return message


def test_a_converse_stream_through_the_official_sdk_goes_back_as_it_came() -> None:
    events: list[tuple[str, dict[str, Any]]] = [("messageStart", {"role": "assistant"})]
    for at, block in enumerate(TURN):
        deltas: Blocks = [block]
        if use := block.get("toolUse"):
            named = {"toolUseId": use["toolUseId"], "name": use["name"]}
            events.append(("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": named}}))
            deltas = [{"toolUse": {"input": json.dumps(use["input"])}}]
        elif thought := block.get("reasoningContent", {}).get("reasoningText"):
            halves = ({"text": thought["text"][:2]}, {"text": thought["text"][2:]}, {"signature": thought["signature"]})
            deltas = [{"reasoningContent": half} for half in halves]
        events += [("contentBlockDelta", {"contentBlockIndex": at, "delta": delta}) for delta in deltas]
        events.append(("contentBlockStop", {"contentBlockIndex": at}))
    events += [
        ("messageStop", {"stopReason": "tool_use"}),
        ("metadata", {"usage": {"inputTokens": 1, "outputTokens": 1}}),
    ]
    translator = CONVERSE.translator(REQUEST, MODEL, split_messages)
    sent = translator.feed(b"".join(messages(events))) + translator.finish(b"")
    assert next_turn(through_the_sdk(sent)) == (TURN, ())


def test_a_buffered_converse_answer_goes_back_as_it_came() -> None:
    answer = {"output": {"message": {"role": "assistant", "content": TURN}}, "stopReason": "tool_use"}
    decoded = CONVERSE.decode("chat.completions", REQUEST, MODEL, json.dumps(answer).encode())
    assert next_turn(json.loads(decoded.body)["choices"][0]["message"]) == (TURN, ())


def test_a_claude_stream_through_the_official_sdk_goes_back_as_it_came() -> None:
    blocks: Blocks = [
        {"type": "thinking", "thinking": "First.", "signature": "c2lnMQ=="},
        {"type": "text", "text": "Größe: 🙂. "},
        {"type": "redacted_thinking", "data": "AAEC"},
        {"type": "text", "text": "Both."},
        {"type": "tool_use", "id": "a", "name": "f", "input": {"x": 1}},
        {"type": "thinking", "thinking": "Then.", "signature": "c2lnMg=="},
        {"type": "tool_use", "id": "b", "name": "f", "input": {}},
    ]
    sse = claude_stream(blocks)
    assert next_turn(through_the_sdk(sse), "anthropic_messages") == (blocks, ())


def claude_stream(blocks: Blocks) -> bytes:
    """The chunks for an answer of these blocks, each whole in its start."""
    start = {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {"input_tokens": 1}}}
    events: Blocks = [start]
    for index, block in enumerate(blocks):
        events.append({"type": "content_block_start", "index": index, "content_block": block})
        events.append({"type": "content_block_stop", "index": index})
    events.append({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 1}})
    framed = b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in events)
    translator = CLAUDE.translator(REQUEST, "m", FRAMINGS["sse"].split_events)
    return translator.feed(framed) + translator.finish(b"")


def thought(index: int, **told: Any) -> dict[str, Any]:
    return {"type": "reasoning.text", "text": f"t{index}", "signature": f"s{index}", "index": index, **told}


def block(index: int) -> dict[str, Any]:
    return {"reasoningContent": {"reasoningText": {"text": f"t{index}", "signature": f"s{index}"}}}


CALL = {"id": "a", "type": "function", "function": {"name": "f", "arguments": "{}"}}
USE = {"toolUse": {"toolUseId": "a", "name": "f", "input": {}}}
PLACES: list[tuple[dict[str, Any], Blocks, tuple[str, ...]]] = [
    # a place that no longer fits, since the text was edited
    ({"content": "ab", "reasoning_details": [thought(0, position=1, offset=9)], "tool_calls": [CALL]}, [{"text": "ab"}, block(0), USE], ()),
    # a position alone stands behind all of the text
    ({"content": "ab", "reasoning_details": [thought(0), thought(1, position=2)], "tool_calls": [CALL]}, [block(0), {"text": "ab"}, block(1), USE], ()),
    ({"content": None, "reasoning_details": [thought(0), thought(1, position=2)], "tool_calls": [CALL, {**CALL, "id": "b"}]}, [block(0), USE, block(1), {"toolUse": {**USE["toolUse"], "toolUseId": "b"}}], ()),
    # white space between two thoughts is no text
    ({"content": "\n\nab", "reasoning_details": [thought(0), thought(1, position=2, offset=2)]}, [block(0), block(1), {"text": "ab"}], ()),
    # no turn ends in thinking
    ({"content": "ab", "reasoning_details": [thought(0), thought(1, position=2, offset=2)]}, [block(0), {"text": "ab"}], (AT_THE_END,)),
    ({"content": None, "reasoning_details": [thought(0), thought(1)]}, [], (AT_THE_END,)),
    ({"content": "ab", "reasoning_details": [thought(0), thought(1, position=2, offset=1, after_server_tool=True)]}, [block(0), {"text": "ab"}], (BEHIND_A_TOOL,)),
    # a breakpoint of the cache stays behind its text
    ({"content": [{"type": "text", "text": "abc", "cache_control": {"type": "ephemeral"}}], "reasoning_details": [thought(0), thought(1, position=2, offset=1)]}, [block(0), {"text": "a"}, block(1), {"text": "bc"}, {"cachePoint": {"type": "default"}}], ()),
    ({"content": [{"type": "text", "text": "abc", "cache_control": {"type": "ephemeral"}}], "reasoning_details": [thought(0, position=1, offset=3)], "tool_calls": [CALL]}, [{"text": "abc"}, {"cachePoint": {"type": "default"}}, block(0), USE], ()),
    # deltas that were not merged
    ({"content": "ab", "reasoning_details": [{"type": "reasoning.text", "text": "t0", "index": 0}, {"type": "reasoning.text", "signature": "s0", "index": 0}]}, [block(0), {"text": "ab"}], ()),
    # deltas that an SDK merged, each of which named its format
    ({"content": "ab", "reasoning_details": [thought(0, format="bedrock-converse-v1" * 3)]}, [block(0), {"text": "ab"}], ()),
    ({"content": "ab", "reasoning_details": [thought(0, format="bedrock-converse-v1x")]}, [{"text": "ab"}], ("reasoning_details of another provider were dropped",)),
]  # fmt: skip


@pytest.mark.parametrize(("said", "sent", "warnings"), PLACES)
def test_thinking_finds_its_place(said: dict[str, Any], sent: Blocks, warnings: tuple[str, ...]) -> None:
    assert next_turn({"role": "assistant", **said}) == (sent, warnings)


def test_a_breakpoint_of_the_cache_stays_at_the_end_of_a_text_that_is_split() -> None:
    marker = {"type": "ephemeral"}
    content = [{"type": "text", "text": "abc", "cache_control": marker}]
    details = [thought(0), thought(1, position=2, offset=1)]
    said = {"role": "assistant", "content": content, "reasoning_details": details}
    blocks, _ = next_turn(said, "anthropic_messages")
    texts = [each for each in blocks if each["type"] == "text"]
    assert texts == [{"type": "text", "text": "a"}, {"type": "text", "text": "bc", "cache_control": marker}]


@pytest.mark.parametrize("given", [None, "", 3, [], "bedrock", "bedrock-converse-v1bedrock"])
def test_what_is_no_format(given: Any) -> None:
    assert not is_format(given, "bedrock-converse-v1")
