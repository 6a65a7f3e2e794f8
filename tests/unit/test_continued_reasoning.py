"""Specifies that thoughts of a stream that was cut, and of the one that goes on, stay apart: signatures are of one."""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import pytest

from llm_gateway.dialects.continuation import Continued, Prefill
from llm_gateway.dialects.dialect import Said
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framing import split_events
from tests.fakes.bedrock_upstream import message
from tests.unit.stream_wires import ANTHROPIC, BEDROCK, DIALECTS, GEMINI, OPENAI, Wire, chunks_of, sse

THOUGHT, SIGNATURE = "Let me see", "SIG"


class Thinking(NamedTuple):
    """A wire, and one thought in it: `begun` as far as its text, `signed` the rest of it."""

    wire: Wire
    begun: Sequence[bytes]
    signed: Sequence[bytes]


def _claude(kind: str, **members: Any) -> bytes:
    return f"event: {kind}\n".encode() + sse({"type": kind, **members})


def _claudes(**delta: str) -> bytes:
    return _claude("content_block_delta", index=4, delta=delta)


def _openrouters(**detail: str) -> bytes:
    details = [{"type": "reasoning.text", "index": 0, **detail}]
    choice = {"index": 0, "delta": {"reasoning_details": details}, "finish_reason": None}
    return sse({"id": "chatcmpl-1", "created": 7, "model": "gpt", "choices": [choice]})


def _geminis(**part: str) -> bytes:
    candidate = {"content": {"role": "model", "parts": [{"thought": True, **part}]}, "index": 0}
    return sse({"candidates": [candidate], "modelVersion": "gemini", "responseId": "r"})


def _converses(**thought: str) -> bytes:
    return message("contentBlockDelta", {"contentBlockIndex": 4, "delta": {"reasoningContent": thought}})


_CLAUDE_BEGINS = _claude("content_block_start", index=4, content_block={"type": "thinking", "thinking": ""})
THINKING = [
    Thinking(OPENAI, [_openrouters(text=THOUGHT)], [_openrouters(signature=SIGNATURE)]),
    Thinking(
        ANTHROPIC,
        [_CLAUDE_BEGINS, _claudes(type="thinking_delta", thinking=THOUGHT)],
        [_claudes(type="signature_delta", signature=SIGNATURE), _claude("content_block_stop", index=4)],
    ),
    Thinking(GEMINI, [_geminis(text=THOUGHT)], [_geminis(thoughtSignature=SIGNATURE)]),
    Thinking(BEDROCK, [_converses(text=THOUGHT)], [_converses(signature=SIGNATURE)]),
]
NAMES = [each.wire.dialect for each in THINKING]
every_first = pytest.mark.parametrize("first", THINKING, ids=NAMES)
every_second = pytest.mark.parametrize("second", THINKING, ids=NAMES)


def continued(thinking: Thinking, said: Said) -> Continued:
    return Continued(thinking.wire.translator(), said, Usage(), Prefill("plain"), split_events)


def merged(stream: bytes) -> dict[int, dict[str, Any]]:
    """`reasoning_details` as a client merges them, by `index`."""
    found: dict[int, dict[str, Any]] = {}
    for chunk in chunks_of(stream):
        for choice in chunk["choices"]:
            for detail in choice["delta"].get("reasoning_details", ()):
                whole = found.setdefault(detail["index"], {})
                for name, value in detail.items():
                    whole[name] = whole[name] + value if name in whole and name in ("text", "signature") else value
    return found


@every_second
@every_first
def test_a_thought_that_was_cut_and_the_next_ones_are_each_their_own(first: Thinking, second: Thinking) -> None:
    cut = first.wire.translator()
    out = b"".join(map(cut.feed, [*first.wire.start[:1], *first.begun]))
    with pytest.raises(UpstreamCut):
        cut.finish(b"")
    assert (cut.said().content, cut.said().plain, cut.said().details) == ("", True, 1)
    again = continued(second, cut.said())
    out += b"".join(map(again.feed, [*second.wire.start[:1], *second.begun]))
    last = continued(second, again.said())
    out += b"".join(map(last.feed, [*second.wire.start, *second.begun, *second.signed, *second.wire.stream("Hm.")[1:]]))
    details = merged(out + last.finish(b""))
    assert list(details) == [0, 1, 2], "without gaps"
    assert [detail["text"] for detail in details.values()] == [THOUGHT] * 3
    assert [detail.get("signature") for detail in details.values()] == [None, None, SIGNATURE]
    assert last.said().details == 3


@pytest.mark.parametrize(
    ("wire", "begins"),
    [(ANTHROPIC, _CLAUDE_BEGINS), (BEDROCK, _converses(redactedContent="AA=="))],
    ids=["anthropic_messages", "bedrock_converse"],
)
def test_a_thought_of_which_nothing_went_out_takes_no_index(wire: Wire, begins: bytes) -> None:
    translator = wire.translator()
    assert merged(translator.feed(wire.start[0]) + translator.feed(begins)) == {}
    assert translator.said().details == 0


def test_claude_gets_back_the_signed_thought_alone_and_first() -> None:
    claude = THINKING[1]
    cut = ANTHROPIC.translator()
    out = b"".join(map(cut.feed, [ANTHROPIC.start[0], *claude.begun]))
    rest = continued(claude, cut.said())
    out += b"".join(map(rest.feed, [ANTHROPIC.start[0], *claude.begun, *claude.signed, ANTHROPIC.call]))
    turn = {
        "role": "assistant",
        "content": None,
        "reasoning_details": list(merged(out).values()),
        "tool_calls": [{"id": "t", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    }
    body = {
        "model": "claude-sonnet-4-5",
        "messages": [{"role": "user", "content": "x"}, turn, {"role": "tool", "tool_call_id": "t", "content": "y"}],
    }
    provider = Provider("anthropic", "anthropic_messages", "https://x")
    request = read_chat_request(json.dumps(body).encode())
    encoded = DIALECTS["anthropic_messages"].encode("chat.completions", request, "claude-sonnet-4-5", provider)
    thought, call = json.loads(encoded.body)["messages"][1]["content"]
    assert thought == {"type": "thinking", "thinking": THOUGHT, "signature": SIGNATURE}
    assert call["type"] == "tool_use"


def test_places_in_the_text_are_those_of_the_whole_text() -> None:
    """As Claude's thoughts have them behind a text; the model begins with the last word that it was given."""
    said = Said("The first half, and", plain=True, opening={}, details=1)
    translator = continued(THINKING[0], said)
    out = translator.feed(OPENAI.start[0] + OPENAI.text(" and the rest"))
    detail = {"type": "reasoning.text", "index": 0, "text": THOUGHT, "position": 1, "offset": 9}
    choice = {"index": 0, "delta": {"reasoning_details": [detail]}, "finish_reason": None}
    out += translator.feed(sse({"choices": [choice]}))
    written = translator.said().content
    (told,) = merged(out).values()
    assert (told["index"], told["position"]) == (1, 2)
    assert told["offset"] == len(written) - len(" and the rest") + 9


def test_geminis_spans_are_of_the_whole_text() -> None:
    part = {"text": "and the rest", "thoughtSignature": SIGNATURE}
    answer = {"candidates": [{"content": {"parts": [part]}, "index": 0}], "responseId": "r"}
    said = Said("The first half, ", plain=True, opening={}, details=2)
    out = continued(THINKING[2], said).feed(sse(answer))
    (detail,) = merged(out).values()
    assert (detail["index"], detail["span"], detail["data"]) == (2, [16, 28], SIGNATURE)
