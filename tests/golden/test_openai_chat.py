"""Golden transcripts of the `openai_chat` dialect: what a caller sent, what went up, what came down, what the caller got.

Each folder holds `request.json`, `upstream_request.json`, then `upstream_response.json` (which goes to the caller as it
is) or `upstream_stream.sse` with `response.sse`, and `expect.json` with what was read of it and the source. A vendor's
has its row as `provider` (under `environment`), its `path` and `warnings`; `refused` are members that are a 400 there.
"""

import json
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.providers import provider_rows
from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.dialects.openai_chat_stream import OpenAIStream
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framing import BlockSplitter, split_events

ROOT = Path(__file__).parent / "openai_chat"
SCENARIOS = sorted(path.name for path in ROOT.iterdir() if path.is_dir())
STREAMED = [name for name in SCENARIOS if (ROOT / name / "upstream_stream.sse").exists()]
BUFFERED = [name for name in SCENARIOS if name not in STREAMED]
PROVIDER = Provider("openai", "openai_chat", "https://api.example/v1", quirks=Quirks(stream_usage="ask"))
DIALECT = OpenAIChat()


def read(scenario: str, name: str) -> bytes:
    return (ROOT / scenario / name).read_bytes()


def expected(scenario: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(read(scenario, "expect.json"))
    return loaded


def provider_of(scenario: str) -> Provider:
    wanted = expected(scenario)
    if "provider" not in wanted:
        return PROVIDER
    return build_catalog([], wanted.get("environment", {})).providers[wanted["provider"]]


def assert_told_cost(usage: Usage | None, wanted: dict[str, Any]) -> None:
    told = usage.told_cost_usd if usage else None
    assert (None if told is None else str(told)) == wanted.get("told_cost_usd")


def assert_usage(usage: Usage | None, wanted: dict[str, int] | None) -> None:
    if wanted is None:
        assert usage is None
    else:
        assert usage is not None
        assert {
            name: value for name, value in asdict(usage).items() if value and not name.startswith("told_")
        } == wanted


def decode(scenario: str, pieces: list[bytes]) -> tuple[bytes, OpenAIStream]:
    request = read_chat_request(read(scenario, "request.json"))
    translator, splitter = DIALECT.translator(request, "gpt-4o-mini", split_events), BlockSplitter()
    out = [translator.feed(splitter.feed(piece)) for piece in pieces]
    return b"".join([*out, translator.finish(splitter.rest())]), translator


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_request_goes_up_with_only_the_declared_edits(scenario: str) -> None:
    request = read_chat_request(read(scenario, "request.json"))
    wanted = expected(scenario)
    encoded = DIALECT.encode("chat.completions", request, "gpt-4o-mini", provider_of(scenario))
    assert encoded.body == read(scenario, "upstream_request.json")
    assert encoded.path == wanted.get("path", "/chat/completions")
    assert list(encoded.warnings) == wanted.get("warnings", [])


REFUSED = [(scenario, name) for scenario in SCENARIOS for name in expected(scenario).get("refused", {})]


@pytest.mark.parametrize(("scenario", "name"), REFUSED)
def test_what_the_vendor_does_not_have_is_refused(scenario: str, name: str) -> None:
    fields = json.loads(read(scenario, "request.json")) | {name: expected(scenario)["refused"][name]}
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.encode(
            "chat.completions", read_chat_request(json.dumps(fields).encode()), "gpt-4o-mini", provider_of(scenario)
        )
    assert (caught.value.http_status, caught.value.param, caught.value.error_code) == (
        400,
        name,
        "unsupported_parameter",
    )
    assert expected(scenario)["provider"] in caught.value.message


def test_every_vendor_with_quirks_has_a_golden() -> None:
    shown = {expected(scenario).get("provider") for scenario in SCENARIOS}
    rows = provider_rows().values()
    # Moderations have goldens of their own.
    plain = [replace(row.quirks, moderations=None, free=()) == Quirks() for row in rows]
    quirky = {row.name for row, is_plain in zip(rows, plain, strict=True) if not is_plain}
    assert {name for name in quirky if provider_rows()[name].dialect == "openai_chat"} <= shown


@pytest.mark.parametrize("scenario", BUFFERED)
def test_answer_comes_down_unchanged_and_is_read(scenario: str) -> None:
    body = read(scenario, "upstream_response.json")
    answer = DIALECT.decode("chat.completions", read_chat_request(read(scenario, "request.json")), "gpt-4o-mini", body)
    wanted = expected(scenario)
    assert answer.body == body
    assert (answer.model, answer.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(answer.usage, wanted["usage"])
    assert_told_cost(answer.usage, wanted)


@pytest.mark.parametrize("scenario", STREAMED)
def test_stream_comes_down_byte_for_byte_but_for_the_hidden_usage(scenario: str) -> None:
    out, translator = decode(scenario, [read(scenario, "upstream_stream.sse")])
    wanted = expected(scenario)
    assert out == read(scenario, "response.sse")
    assert (translator.model, translator.finish_reason) == (wanted["model"], wanted["finish_reason"])
    assert_usage(translator.usage, wanted["usage"])
    assert_told_cost(translator.usage, wanted)
    if wanted["usage"] is None:
        assert translator.text() == wanted["text"]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(STREAMED), st.lists(st.integers(0, 4000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same(scenario: str, cuts: list[int]) -> None:
    stream = read(scenario, "upstream_stream.sse")
    edges = [0, *sorted(cut for cut in cuts if cut < len(stream)), len(stream)]
    pieces = [stream[start:end] for start, end in pairwise(edges)]
    out, translator = decode(scenario, pieces)
    assert out == read(scenario, "response.sse")
    assert_usage(translator.usage, expected(scenario)["usage"])


@pytest.mark.parametrize("stream_usage", ["always", "never"])
def test_a_vendor_that_refuses_stream_options_does_not_get_them(stream_usage: Literal["always", "never"]) -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"stream_options":{"include_usage":true}, "model":"m","stream":true}'
    provider = Provider("mistral", "openai_chat", "https://api.example/v1", quirks=Quirks(stream_usage=stream_usage))
    encoded = DIALECT.encode("chat.completions", read_chat_request(body), "m", provider)
    assert encoded.body == b'{"messages":[{"role":"user","content":"x"}],"model":"m","stream":true}'


MISTRAL = Provider(
    "mistral",
    "openai_chat",
    "https://api.example/v1",
    quirks=Quirks(rename={"seed": "random_seed"}, drop=("user", "logit_bias"), refuse=("logprobs",)),
)


def test_what_a_vendor_calls_differently_is_renamed_and_what_it_lacks_is_left_out_with_a_warning() -> None:
    body = b'{"messages":[{"role":"user","content":"x"}],"seed" : 12345678901234567890,"user":"u","logit_bias":null,"model":"m"}'
    encoded = DIALECT.encode("chat.completions", read_chat_request(body), "m", MISTRAL)
    assert (
        encoded.body == b'{"messages":[{"role":"user","content":"x"}],"random_seed": 12345678901234567890,"model":"m"}'
    )
    assert encoded.warnings == ("user is not supported by mistral and was left out",)


def test_what_would_change_the_answer_is_refused() -> None:
    asked = b'{"messages":[{"role":"user","content":"x"}],"logprobs":%b,"model":"m"}'
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.encode("chat.completions", read_chat_request(asked % b"true"), "m", MISTRAL)
    assert caught.value.param == "logprobs"
    encoded = DIALECT.encode("chat.completions", read_chat_request(asked % b"false"), "m", MISTRAL)
    assert b"logprobs" not in encoded.body
