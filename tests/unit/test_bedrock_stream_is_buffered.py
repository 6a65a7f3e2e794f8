"""Specifies that a streamed Converse answer is the buffered one: text, reasoning, tool calls, finish reason, usage."""

import base64
import json
from itertools import groupby, pairwise
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.thinking_places import AT_THE_END
from llm_gateway.domain.catalog import Provider
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.aws_event_stream import MessageSplitter, split_messages
from tests.fakes.bedrock_upstream import messages

DIALECT = BedrockConverse(new_id=lambda: "chatcmpl-1", now=lambda: 1.0)
REQUEST = read_chat_request(
    b'{"messages":[{"role":"user","content":"x"}],"stream":true,"stream_options":{"include_usage":true}}'
)
Events = list[tuple[str, dict[str, Any]]]

_texts = st.text(st.characters(codec="utf-8"), min_size=1, max_size=20)
_values = st.recursive(
    st.integers(-(10**30), 10**30) | st.booleans() | st.text(max_size=5), lambda kids: st.lists(kids, max_size=2)
)
_blocks = st.one_of(
    st.builds(lambda text: {"text": text}, _texts),
    st.builds(
        lambda text, signature: {"reasoningContent": {"reasoningText": {"text": text, "signature": signature}}},
        _texts,
        st.text("abcABC+/=", min_size=1, max_size=12),
    ),
    st.builds(
        lambda data: {"reasoningContent": {"redactedContent": base64.b64encode(data).decode()}},
        st.binary(min_size=1, max_size=9),
    ),
    st.builds(
        lambda number, name, given: {"toolUse": {"toolUseId": f"t{number}", "name": name, "input": given}},
        st.integers(0, 99),
        st.sampled_from(["now", "get_weather"]),
        st.dictionaries(st.text(max_size=4), _values, max_size=3),
    ),
)
_usage = st.fixed_dictionaries(
    {"inputTokens": st.integers(0, 9), "outputTokens": st.integers(0, 9), "totalTokens": st.integers(0, 99)},
    optional={"cacheReadInputTokens": st.integers(0, 9), "cacheWriteInputTokens": st.integers(0, 9)},
)
_stops = st.sampled_from(["end_turn", "tool_use", "max_tokens", "stop_sequence", "guardrail_intervened", "unheard_of"])


def delta(at: int, content: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    return "contentBlockDelta", {"contentBlockIndex": at, "delta": content}


def as_stream(content: list[dict[str, Any]], stop: str, usage: dict[str, int]) -> Events:
    """What Bedrock would stream for the same answer, in halves."""
    events: Events = [("messageStart", {"role": "assistant"})]
    for at, block in enumerate(content):
        if "text" in block:
            half = len(block["text"]) // 2
            events += [delta(at, {"text": piece}) for piece in (block["text"][:half], block["text"][half:])]
        elif "toolUse" in block:
            use = block["toolUse"]
            start = {"toolUseId": use["toolUseId"], "name": use["name"]}
            events.append(("contentBlockStart", {"contentBlockIndex": at, "start": {"toolUse": start}}))
            text = json.dumps(use["input"]) if use["input"] else ""
            events += [delta(at, {"toolUse": {"input": piece}}) for piece in (text[:3], text[3:])]
        elif "redactedContent" in block["reasoningContent"]:
            whole = base64.b64decode(block["reasoningContent"]["redactedContent"])
            pieces = [base64.b64encode(piece).decode() for piece in (whole[:1], whole[1:]) if piece]
            events += [delta(at, {"reasoningContent": {"redactedContent": piece}}) for piece in pieces]
        else:
            thought = block["reasoningContent"]["reasoningText"]
            events.append(delta(at, {"reasoningContent": {"text": thought["text"]}}))
            events.append(delta(at, {"reasoningContent": {"signature": thought["signature"]}}))
        events.append(("contentBlockStop", {"contentBlockIndex": at}))
    return [*events, ("messageStop", {"stopReason": stop}), ("metadata", {"usage": usage, "metrics": {"latencyMs": 1}})]


def assembled(sse: bytes) -> dict[str, Any]:
    """The message that a client makes of the chunks."""
    message: dict[str, Any] = {}
    finish, usage = None, None
    for event in sse.decode().split("\n\n")[:-2]:
        chunk = json.loads(event.removeprefix("data: "))
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            finish = choice["finish_reason"] or finish
            merge(message, choice["delta"])
    return {"message": message, "finish_reason": finish, "usage": usage}


def merge(message: dict[str, Any], piece: dict[str, Any]) -> None:
    for name, value in piece.items():
        if name in ("tool_calls", "reasoning_details"):
            for item in value:
                listed = message.setdefault(name, [])
                if item["index"] == len(listed):
                    listed.append({"index": item["index"]})
                merge(listed[item["index"]], {key: held for key, held in item.items() if key != "index"})
        elif name == "function":
            merge(message.setdefault(name, {}), value)
        elif name in ("content", "reasoning_content", "text", "arguments", "signature", "data"):
            message[name] = message.get(name, "") + value
        else:
            message[name] = value


@settings(max_examples=120, deadline=None)
@given(st.lists(_blocks, max_size=5), _stops, _usage, st.lists(st.integers(0, 3000), max_size=8))
def test_stream_equals_buffered(
    content: list[dict[str, Any]], stop: str, usage: dict[str, int], cuts: list[int]
) -> None:
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": stop, "usage": usage}
    buffered = DIALECT.decode("chat.completions", REQUEST, "m", json.dumps(answer).encode())

    stream = b"".join(messages(as_stream(content, stop, usage)))
    translator, splitter = DIALECT.translator(REQUEST, "m", split_messages), MessageSplitter()
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    out = [translator.feed(splitter.feed(stream[start:end])) for start, end in pairwise(edges)]
    streamed = assembled(b"".join([*out, translator.finish(splitter.rest())]))

    (choice,) = json.loads(buffered.body)["choices"]
    wanted = {name: value for name, value in choice["message"].items() if name != "refusal"}
    wanted["content"] = wanted["content"] or ""
    for index, call in enumerate(wanted.get("tool_calls", ())):
        call["index"] = index
    assert streamed["message"] == wanted
    assert streamed["finish_reason"] == choice["finish_reason"] == buffered.finish_reason == translator.finish_reason
    assert streamed["usage"] == json.loads(buffered.body)["usage"]
    assert translator.usage == buffered.usage


@settings(max_examples=60, deadline=None)
@given(st.lists(_blocks, min_size=1, max_size=5))
def test_an_answer_goes_back_as_it_came(content: list[dict[str, Any]]) -> None:
    """Round trip: what a model said is what it is told on the next turn, big integers and signatures included."""
    answer = {"output": {"message": {"role": "assistant", "content": content}}, "stopReason": "end_turn"}
    decoded = DIALECT.decode("chat.completions", REQUEST, "m", json.dumps(answer).encode())
    said = json.loads(decoded.body)["choices"][0]["message"]
    body = json.dumps({"messages": [{"role": "user", "content": "x"}, said, {"role": "user", "content": "y"}]}).encode()
    provider = Provider("bedrock", "bedrock_converse", "https://h", "sigv4")
    encoded = DIALECT.encode("chat.completions", read_chat_request(body), "anthropic.claude-sonnet-4-6", provider)
    back = [
        block
        for message in json.loads(encoded.body)["messages"]
        if message["role"] == "assistant"
        for block in message["content"]
    ]
    assert back == given_back(content)
    thoughts, left = ([block for block in each if "reasoningContent" in block] for each in (content, back))
    assert [*encoded.warnings] == ([AT_THE_END] if left != thoughts else [])


def given_back(content: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Between two thoughts one text and then the calls; no blank text, and no thought at the end."""
    turn: list[dict[str, Any]] = []
    for thinks, group in groupby(content, key=lambda block: "reasoningContent" in block):
        said = list(group)
        text = "".join(block.get("text", "") for block in said)
        turn += [{"text": text}] if text.strip() else []
        turn += said if thinks else [block for block in said if "toolUse" in block]
    while turn and "reasoningContent" in turn[-1]:
        turn.pop()
    return turn
