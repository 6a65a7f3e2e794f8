"""Golden transcripts of the `gemini_generate_content` dialect: every scenario is a folder, written by hand from Google's pages.

Each holds `request.json` and `upstream_request.json`, then `upstream_response.json` with `response.json` or
`upstream_stream.sse` with `response.sse`, and `expect.json` with what was read of it, the warnings, and the source.
"""

import contextlib
import copy
import json
from collections.abc import Sequence
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.gemini_stream import GeminiStream
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamError
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framing import BlockSplitter, split_events

ROOT = Path(__file__).parent / "gemini_generate_content"
SCENARIOS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
STREAMED = [name for name in SCENARIOS if (ROOT / name / "upstream_stream.sse").exists()]
BUFFERED = [name for name in SCENARIOS if name not in STREAMED]
PROVIDER = Provider("gemini", "gemini_generate_content", "https://generativelanguage.googleapis.com/v1beta")
DIALECT = GeminiGenerateContent(now=lambda: 1_700_000_000.5, new_id=lambda: "made-up")


def read(scenario: str, name: str) -> bytes:
    return (ROOT / scenario / name).read_bytes()


def load(scenario: str, name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(read(scenario, name))
    return loaded


def assert_usage(usage: Usage | None, wanted: dict[str, int]) -> None:
    assert usage is not None
    assert {name: value for name, value in asdict(usage).items() if value} == {k: v for k, v in wanted.items() if v}


def decode(scenario: str, pieces: Sequence[bytes]) -> tuple[bytes, GeminiStream]:
    request = read_chat_request(read(scenario, "request.json"))
    assert request.model is not None
    translator, splitter = DIALECT.translator(request, request.model, split_events), BlockSplitter()
    out = [translator.feed(splitter.feed(piece)) for piece in pieces]
    return b"".join([*out, translator.finish(splitter.rest())]), translator


def chunks(stream: bytes) -> list[Any]:
    """The chunks of a stream as JSON; `[DONE]` as it is."""
    events = [event.removeprefix(b"data: ") for event in stream.split(b"\n\n") if event]
    return [event if event == b"[DONE]" else json.loads(event) for event in events]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_the_request_goes_up(scenario: str) -> None:
    request = read_chat_request(read(scenario, "request.json"))
    assert request.model is not None
    encoded = DIALECT.encode("chat.completions", request, request.model, PROVIDER)
    # Arguments keep the caller's bytes: json reads integers of any size, and here floats as they are spelled.
    assert json.loads(encoded.body, parse_float=str) == json.loads(
        read(scenario, "upstream_request.json"), parse_float=str
    )
    method = "streamGenerateContent?alt=sse" if request.stream else "generateContent"
    assert encoded.path == f"/models/{request.model}:{method}"
    assert list(encoded.warnings) == load(scenario, "expect.json").get("warnings", [])


@pytest.mark.parametrize("scenario", BUFFERED)
def test_the_answer_comes_down(scenario: str) -> None:
    request, wanted = read_chat_request(read(scenario, "request.json")), load(scenario, "expect.json")
    assert request.model is not None
    answer = DIALECT.decode("chat.completions", request, request.model, read(scenario, "upstream_response.json"))
    assert json.loads(answer.body) == load(scenario, "response.json")
    assert (answer.model, answer.finish_reason, answer.text()) == (
        wanted["model"],
        wanted["finish_reason"],
        wanted["text"],
    )
    assert_usage(answer.usage, wanted["usage"])


@pytest.mark.parametrize("scenario", STREAMED)
def test_the_stream_comes_down(scenario: str) -> None:
    out, translator = decode(scenario, [read(scenario, "upstream_stream.sse")])
    wanted = load(scenario, "expect.json")
    assert chunks(out) == chunks(read(scenario, "response.sse"))
    assert (translator.model, translator.finish_reason, translator.text()) == (
        wanted["model"],
        wanted["finish_reason"],
        wanted["text"],
    )
    assert_usage(translator.usage, wanted["usage"])
    assert translator.complete


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(STREAMED), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same(scenario: str, cuts: list[int]) -> None:
    stream = read(scenario, "upstream_stream.sse")
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    out, translator = decode(scenario, [stream[start:end] for start, end in pairwise(edges)])
    assert out == decode(scenario, [stream])[0]
    assert_usage(translator.usage, load(scenario, "expect.json")["usage"])


@pytest.mark.parametrize("scenario", STREAMED)
def test_a_stream_without_its_last_blank_line_is_whole(scenario: str) -> None:
    stream = read(scenario, "upstream_stream.sse").rstrip(b"\r\n")
    assert decode(scenario, [stream])[0] == decode(scenario, [stream + b"\n\n"])[0]


JUNK: list[Any] = [None, 3, -1.5, True, "x", "", [], {}, [3], [None], {"a": 1}]


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside a JSON value."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = [path] if path else []
    for key, inner in inside:
        found += places(inner, (*path, key))
    return found


def with_junk(document: Any, path: tuple[Any, ...], junk: Any) -> bytes:
    spoiled = copy.deepcopy(document)
    holder = spoiled
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = junk
    return json.dumps(spoiled).encode()


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_junk_anywhere_in_a_request_is_taken_or_refused(data: st.DataObject) -> None:
    """Never a defect: a request is encoded, or it is the caller's error."""
    document = load(data.draw(st.sampled_from(SCENARIOS)), "request.json")
    body = with_junk(document, data.draw(st.sampled_from(places(document))), data.draw(st.sampled_from(JUNK)))
    model = data.draw(st.sampled_from(["gemini-3.5-flash", "gemini-2.5-pro", "gemini-2.0-flash"]))
    with contextlib.suppress(InvalidRequest):
        json.loads(DIALECT.encode("chat.completions", read_chat_request(body), model, PROVIDER).body)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_junk_anywhere_in_an_answer_is_taken_or_the_providers_error(data: st.DataObject) -> None:
    scenario = data.draw(st.sampled_from(BUFFERED))
    document, request = load(scenario, "upstream_response.json"), read_chat_request(read(scenario, "request.json"))
    body = with_junk(document, data.draw(st.sampled_from(places(document))), data.draw(st.sampled_from(JUNK)))
    with contextlib.suppress(UpstreamError):
        assert isinstance(DIALECT.decode("chat.completions", request, "m", body).text(), str)
    translator = DIALECT.translator(request, "m", split_events)
    with contextlib.suppress(UpstreamError):
        translator.feed(b"data: " + body + b"\n\n")
        translator.finish(b"")
    assert isinstance(translator.text(), str)
