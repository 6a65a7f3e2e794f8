"""Golden transcripts of the `anthropic_messages` dialect: what a caller sent, what went up, what came down, what they got.

Each folder holds `request.json`, `upstream_request.json`, then `upstream_response.json` with `response.json`, or
`upstream_stream.sse` (`.bin` from Bedrock) with `response.sse`, and `expect.json`: the source, what was read, the
envelope and path where it is not Anthropic's own API, and how the warnings begin.
JSON is compared as JSON, numbers as they are written.
"""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.anthropic_messages import AnthropicMessages
from llm_gateway.dialects.anthropic_stream import AnthropicStream
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS

ROOT = Path(__file__).parent / "anthropic_messages"
SCENARIOS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
STREAMED = [name for name in SCENARIOS if (ROOT / name / "response.sse").exists()]
BUFFERED = [name for name in SCENARIOS if name not in STREAMED]
PROVIDERS = {
    envelope: Provider("claude", "anthropic_messages", "https://api.example/v1", quirks=Quirks(envelope=envelope))
    for envelope in ("native", "bedrock", "vertex")
}
DIALECT = AnthropicMessages(now=lambda: 1_700_000_000.5)


def read(scenario: str, name: str) -> bytes:
    return (ROOT / scenario / name).read_bytes()


def exact(text: bytes | str) -> Any:
    """JSON with every number as it is written."""
    return json.loads(text, parse_int=lambda number: ("number", number), parse_float=lambda number: ("number", number))


def expected(scenario: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(read(scenario, "expect.json"))
    return loaded


def upstream_stream(scenario: str) -> bytes:
    return read(scenario, "upstream_stream." + ("bin" if expected(scenario).get("envelope") == "bedrock" else "sse"))


def assert_usage(usage: Usage | None, wanted: dict[str, int]) -> None:
    assert usage is not None
    assert {name: value for name, value in asdict(usage).items() if value} == wanted


def decode(scenario: str, pieces: list[bytes]) -> tuple[bytes, AnthropicStream]:
    request = read_chat_request(read(scenario, "request.json"))
    make_splitter, split = FRAMINGS["aws_event_stream" if expected(scenario).get("envelope") == "bedrock" else "sse"]
    translator, splitter = DIALECT.translator(request, "m", split), make_splitter()
    out = [translator.feed(block) if (block := splitter.feed(piece)) else b"" for piece in pieces]
    return b"".join([*out, translator.finish(splitter.rest())]), translator


def events(stream: bytes) -> list[Any]:
    assert stream.endswith(b"data: [DONE]\n\n")
    blocks = stream.removesuffix(b"data: [DONE]\n\n").decode().split("\n\n")
    assert blocks.pop() == ""
    return [exact(block.removeprefix("data: ")) for block in blocks]


def folded(stream: bytes) -> dict[str, Any]:
    """A stream's chunks put together as a client does it, without the text's borders."""
    message: dict[str, Any] = {"content": "", "reasoning_content": "", "refusal": "", "calls": {}, "details": {}}
    for chunk in (json.loads(block[6:]) for block in stream.decode().split("\n\n") if block.startswith("data: {")):
        message["usage"] = chunk.get("usage")
        for choice in chunk["choices"]:
            message["finish_reason"] = choice["finish_reason"]
            delta = choice["delta"]
            for name in ("content", "reasoning_content", "refusal"):
                message[name] += delta.get(name) or ""
            for call in delta.get("tool_calls", ()):
                whole = message["calls"].setdefault(call["index"], {"id": "", "name": "", "arguments": ""})
                whole["id"] += call.get("id", "")
                for name in ("name", "arguments"):
                    whole[name] += call["function"].get(name, "")
            for detail in delta.get("reasoning_details", ()):
                whole = message["details"].setdefault(detail["index"], {})
                for name, value in detail.items():
                    whole[name] = whole.get(name, "") + value if name in ("text", "signature", "data") else value
    return message


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_request_goes_up_as_a_message(scenario: str) -> None:
    request, wanted = read_chat_request(read(scenario, "request.json")), expected(scenario)
    provider = PROVIDERS[wanted.get("envelope", "native")]
    assert request.model is not None
    encoded = DIALECT.encode("chat.completions", request, request.model, provider)
    assert exact(encoded.body) == exact(read(scenario, "upstream_request.json"))
    assert encoded.path == wanted.get("path", "/messages")
    assert encoded.headers == ({"anthropic-version": "2023-06-01"} if "envelope" not in wanted else {})
    begins = wanted.get("warnings", [])
    assert len(encoded.warnings) == len(begins)
    assert all(warning.startswith(begin) for warning, begin in zip(encoded.warnings, begins, strict=True))
    streamed_by_aws = "envelope" in wanted and wanted["envelope"] == "bedrock" and scenario in STREAMED
    assert encoded.framing == ("aws_event_stream" if streamed_by_aws else "sse")


@pytest.mark.parametrize("scenario", BUFFERED)
def test_answer_comes_down_as_a_completion(scenario: str) -> None:
    request = read_chat_request(read(scenario, "request.json"))
    answer = DIALECT.decode("chat.completions", request, "m", read(scenario, "upstream_response.json"))
    wanted = expected(scenario)
    assert exact(answer.body) == exact(read(scenario, "response.json"))
    assert (answer.model, answer.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(answer.usage, wanted["usage"])
    assert answer.text() == wanted["text"]


@pytest.mark.parametrize("scenario", STREAMED)
def test_stream_comes_down_as_chunks(scenario: str) -> None:
    out, translator = decode(scenario, [upstream_stream(scenario)])
    wanted = expected(scenario)
    assert events(out) == events(read(scenario, "response.sse"))
    assert (translator.model, translator.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(translator.usage, wanted["usage"])
    assert translator.text() == wanted["text"]
    assert translator.complete


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(STREAMED), st.lists(st.integers(0, 6000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same(scenario: str, cuts: list[int]) -> None:
    stream = upstream_stream(scenario)
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    out, translator = decode(scenario, [stream[start:end] for start, end in pairwise(edges)])
    assert events(out) == events(read(scenario, "response.sse"))
    assert_usage(translator.usage, expected(scenario)["usage"])


@pytest.mark.parametrize("scenario", STREAMED)
def test_line_ends_make_no_difference(scenario: str) -> None:
    stream = upstream_stream(scenario)
    if stream.startswith(b"event:"):
        out, _ = decode(scenario, [stream.replace(b"\n", b"\r\n")])
        assert events(out) == events(read(scenario, "response.sse"))


@pytest.mark.parametrize("scenario", STREAMED)
def test_a_stream_that_ends_early_is_cut(scenario: str) -> None:
    stream = upstream_stream(scenario)
    if stream.startswith(b"event:"):
        end = stream.rindex(b"event: message_stop")
        for cut in (stream.rindex(b"event: message_delta"), stream.index(b"event: content_block_start")):
            with pytest.raises(UpstreamCut):
                decode(scenario, [stream[:cut]])
    else:
        end = len(stream) - 10
        with pytest.raises(UpstreamCut):
            decode(scenario, [stream[: end // 2]])
    assert decode(scenario, [stream[:end]])[0] == decode(scenario, [stream])[0]  # the stop reason has come


@pytest.mark.parametrize(
    "scenario", [name for name in BUFFERED if name not in ("pause_turn", "max_tokens", "context_window")]
)
def test_streamed_and_buffered_say_the_same(scenario: str) -> None:
    answer = json.loads(read(scenario, "upstream_response.json"))
    request = read_chat_request(read(scenario, "request.json"))
    translator = DIALECT.translator(request, "m", FRAMINGS["sse"].split_events)
    out = folded(translator.feed(as_stream(read(scenario, "upstream_response.json"))) + translator.finish(b""))
    decoded = DIALECT.decode("chat.completions", request, "m", read(scenario, "upstream_response.json"))
    message = json.loads(decoded.body)["choices"][0]["message"]
    assert out["content"] == (message["content"] or "")
    assert out["refusal"] == (message["refusal"] or "")
    assert out["reasoning_content"] == message.get("reasoning_content", "")
    assert list(out["details"].values()) == message.get("reasoning_details", [])
    calls = [{"id": call["id"], **call["function"]} for call in message.get("tool_calls", [])]
    assert list(out["calls"].values()) == calls
    assert (translator.finish_reason, translator.usage) == (decoded.finish_reason, decoded.usage)
    assert translator.model == answer["model"]


def as_stream(message: bytes) -> bytes:
    """The answer as Anthropic would have streamed it: every string in two deltas, inputs in the bytes they have."""
    from llm_gateway.dialects.anthropic_answer import input_bytes
    from llm_gateway.schemas.json_splice import elements, value_of

    answer = json.loads(message)
    start = {**answer, "content": [], "stop_reason": None, "usage": {**answer["usage"], "output_tokens": 1}}
    out: list[dict[str, Any]] = [{"type": "message_start", "message": start}]
    for index, raw in enumerate(elements(value_of(message, "content") or b"[]")):
        block = json.loads(raw)
        names = {
            "text": [("text", "text_delta", "text")],
            "thinking": [("thinking", "thinking_delta", "thinking"), ("signature", "signature_delta", "signature")],
        }.get(block["type"], [])
        empty = {**block, **{name: "" for name, _, _ in names}}
        deltas = [
            {"type": kind, field: half}
            for name, kind, field in names
            for half in ((block[name],) if name == "signature" else (block[name][:3], block[name][3:]))
        ]
        if block["type"] == "tool_use":
            empty["input"] = {}
            given = input_bytes(raw).decode()
            deltas = [{"type": "input_json_delta", "partial_json": half} for half in (given[:5], given[5:])]
        out.append({"type": "content_block_start", "index": index, "content_block": empty})
        out += [{"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas]
        out.append({"type": "content_block_stop", "index": index})
    delta = {"stop_reason": answer["stop_reason"], "stop_details": answer.get("stop_details")}
    usage = {name: count for name, count in answer["usage"].items() if name.startswith("output")}
    out += [{"type": "message_delta", "delta": delta, "usage": usage}, {"type": "message_stop"}]
    return b"".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode() for event in out)
