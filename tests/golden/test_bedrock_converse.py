"""Golden transcripts of the `bedrock_converse` dialect: what a caller sent, what went up, what came down, what the caller got.

Each folder holds `request.json`, `upstream_request.json`, then `upstream_response.json` with `response.json`, or
`upstream_stream.bin` (AWS event stream) with `response.sse`, and `expect.json` with the source. botocore's model of the
service is the second witness: it accepts every request, and reads every stream as it was meant.
"""

import json
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer
from botocore.session import Session
from botocore.validate import ParamValidator
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.bedrock_stream import BedrockStream
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.aws_event_stream import MessageSplitter, split_messages

ROOT = Path(__file__).parent / "bedrock_converse"
SCENARIOS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
STREAMED = [name for name in SCENARIOS if (ROOT / name / "upstream_stream.bin").exists()]
BUFFERED = [name for name in SCENARIOS if name not in STREAMED]
PROVIDER = Provider("bedrock", "bedrock_converse", "https://bedrock-runtime.us-east-1.amazonaws.com", "sigv4")
DIALECT = BedrockConverse(new_id=lambda: "chatcmpl-golden", now=lambda: 1_700_000_000.5)
SERVICE = Session().get_service_model("bedrock-runtime")


def read(scenario: str, name: str) -> bytes:
    return (ROOT / scenario / name).read_bytes()


def load(scenario: str, name: str) -> Any:
    return json.loads(read(scenario, name))


def model_of(scenario: str) -> str:
    model: str = load(scenario, "request.json")["model"]
    return model


def assert_usage(usage: Usage | None, wanted: dict[str, int] | None) -> None:
    found = None if usage is None else {name: value for name, value in asdict(usage).items() if value}
    assert found == wanted


def chunks(sse: bytes) -> list[Any]:
    events = sse.decode().removesuffix("\n\n").split("\n\n")
    assert all(event.startswith("data: ") for event in events)
    assert events[-1] == "data: [DONE]"
    return [json.loads(event[6:]) for event in events[:-1]]


def decode(scenario: str, pieces: list[bytes]) -> tuple[bytes, BedrockStream]:
    request = read_chat_request(read(scenario, "request.json"))
    translator, splitter = DIALECT.translator(request, model_of(scenario), split_messages), MessageSplitter()
    out = [translator.feed(splitter.feed(piece)) for piece in pieces]
    return b"".join([*out, translator.finish(splitter.rest())]), translator


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_request_goes_up(scenario: str) -> None:
    request = read_chat_request(read(scenario, "request.json"))
    encoded = DIALECT.encode("chat.completions", request, model_of(scenario), PROVIDER)
    assert json.loads(encoded.body) == load(scenario, "upstream_request.json")
    assert list(encoded.warnings) == load(scenario, "expect.json").get("warnings", [])
    assert encoded.path.endswith("/converse-stream" if scenario in STREAMED else "/converse")
    assert encoded.framing == ("aws_event_stream" if scenario in STREAMED else "sse")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_botocore_accepts_the_request(scenario: str) -> None:
    operation = SERVICE.operation_model("ConverseStream" if scenario in STREAMED else "Converse")
    assert operation.input_shape is not None
    body = {"modelId": model_of(scenario), **load(scenario, "upstream_request.json")}
    assert not ParamValidator().validate(body, operation.input_shape).generate_report()


@pytest.mark.parametrize("scenario", BUFFERED)
def test_answer_comes_down(scenario: str) -> None:
    request = read_chat_request(read(scenario, "request.json"))
    body = read(scenario, "upstream_response.json")
    answer = DIALECT.decode("chat.completions", request, model_of(scenario), body)
    wanted = load(scenario, "expect.json")
    assert json.loads(answer.body) == load(scenario, "response.json")
    assert (answer.model, answer.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(answer.usage, wanted["usage"])


@pytest.mark.parametrize("scenario", STREAMED)
def test_stream_comes_down(scenario: str) -> None:
    out, translator = decode(scenario, [read(scenario, "upstream_stream.bin")])
    wanted = load(scenario, "expect.json")
    assert chunks(out) == chunks(read(scenario, "response.sse"))
    assert (translator.model, translator.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(translator.usage, wanted["usage"])
    assert translator.text() == wanted["text"]
    assert translator.complete == (wanted["usage"] is not None)


@pytest.mark.parametrize("scenario", STREAMED)
def test_botocore_reads_the_same_events(scenario: str) -> None:
    stream = read(scenario, "upstream_stream.bin")
    buffer = EventStreamBuffer()
    buffer.add_data(stream)
    theirs = []
    for event in buffer:
        headers: Any = event.headers  # botocore-stubs call it a dict of integers
        theirs.append((headers[":event-type"], event.payload))
    assert [(event.event, event.data) for event in split_messages(stream)] == theirs


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STREAMED), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same(scenario: str, cuts: list[int]) -> None:
    stream = read(scenario, "upstream_stream.bin")
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    out, translator = decode(scenario, [stream[start:end] for start, end in pairwise(edges)])
    assert out == decode(scenario, [stream])[0]
    assert_usage(translator.usage, load(scenario, "expect.json")["usage"])
