"""Specifies how Gemini's answers, streams and errors fail, that a stream says what a whole answer says, and embeddings."""

import base64
import json
import struct
from itertools import pairwise
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import (
    GatewayError,
    InvalidRequest,
    UpstreamCut,
    UpstreamError,
    UpstreamFailed,
    UpstreamMalformed,
    UpstreamRejected,
    UpstreamTimeout,
    UpstreamUnauthenticated,
    UpstreamUnavailable,
)
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request, read_embeddings_request
from llm_gateway.upstream.framing import split_events

DIALECT = GeminiGenerateContent(now=lambda: 1_700_000_000.0, new_id=lambda: "made-up")
GEMINI = Provider("gemini", "gemini_generate_content", "https://g.example/v1beta")
VERTEX = Provider("google_vertex", "gemini_generate_content", "https://v.example", quirks=Quirks(envelope="vertex"))
USAGE = {"promptTokenCount": 3, "candidatesTokenCount": 2, "totalTokenCount": 5}


def ask(**fields: Any) -> ModelRequest:
    return read_chat_request(orjson.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}))


def response(parts: list[dict[str, Any]], finish: str | None = "STOP", **more: Any) -> dict[str, Any]:
    candidate: dict[str, Any] = {"content": {"parts": parts, "role": "model"}, "index": 0}
    if finish:
        candidate["finishReason"] = finish
    return {"candidates": [candidate], "usageMetadata": USAGE, "modelVersion": "m-1", "responseId": "r", **more}


def event(answer: Any) -> bytes:
    return b"data: " + orjson.dumps(answer) + b"\n\n"


def message_of(stream: bytes) -> dict[str, Any]:
    """What OpenAI's SDK makes of the chunks: lists merged by index, and every string joined but `type`."""
    message: dict[str, Any] = {}
    finish = None
    for raw in stream.split(b"\n\n"):
        if not raw or raw == b"data: [DONE]":
            continue
        for choice in orjson.loads(raw.removeprefix(b"data: "))["choices"]:
            finish = finish or choice["finish_reason"]
            for name, value in choice["delta"].items():
                if isinstance(value, str):
                    message[name] = message.get(name, "") + value if name != "role" else value
                    continue
                merged = message.setdefault(name, {})
                for item in value:
                    slot = merged.setdefault(item["index"], {})
                    for key, inner in item.items():
                        joined = isinstance(inner, str) and key in slot and key != "type"
                        slot[key] = slot[key] + inner if joined else inner
    return {**message, "finish_reason": finish}


@pytest.mark.parametrize(
    "reason",
    [
        "MALFORMED_FUNCTION_CALL",
        "UNEXPECTED_TOOL_CALL",
        "TOO_MANY_TOOL_CALLS",
        "MALFORMED_RESPONSE",
        "NO_IMAGE",
        "IMAGE_OTHER",
    ],
)
def test_an_answer_that_the_model_failed_at_is_an_error(reason: str) -> None:
    body = orjson.dumps(response([{"text": "half"}], reason))
    with pytest.raises(UpstreamFailed) as caught:
        DIALECT.decode("chat.completions", ask(), "m", body)
    assert caught.value.error_code == reason.lower()


def test_a_missing_signature_is_the_callers_error() -> None:
    with pytest.raises(UpstreamRejected) as caught:
        DIALECT.decode("chat.completions", ask(), "m", orjson.dumps(response([], "MISSING_THOUGHT_SIGNATURE")))
    assert (caught.value.http_status, caught.value.param) == (400, "messages")


@pytest.mark.parametrize(
    ("reason", "finish"),
    [
        ("STOP", "stop"), ("MAX_TOKENS", "length"), ("CONTINUATION", "length"), ("SAFETY", "content_filter"),
        ("RECITATION", "content_filter"), ("BLOCKLIST", "content_filter"), ("PROHIBITED_CONTENT", "content_filter"),
        ("SPII", "content_filter"), ("LANGUAGE", "content_filter"), ("OTHER", "content_filter"),
        ("IMAGE_SAFETY", "content_filter"), ("MODEL_ARMOR", "content_filter"), ("SOMETHING_NEW", "stop"), (None, "stop"),
    ],
)  # fmt: skip
def test_finish_reasons(reason: str | None, finish: str) -> None:
    answer = DIALECT.decode("chat.completions", ask(), "m", orjson.dumps(response([{"text": "x"}], reason)))
    assert answer.finish_reason == finish


@pytest.mark.parametrize(
    "body",
    [b"<html>", b"[]", b"3", b"{}", b'{"candidates":[]}', b'{"candidates":[3]}', b'{"candidates":3}',
     b'{"candidates":[{"content":{"parts":[3]}}]}',
     b'{"candidates":[{"content":{"parts":3}}]}'],
)  # fmt: skip
def test_what_is_no_answer_is_malformed(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode("chat.completions", ask(), "m", body)


def test_an_answer_without_a_name_gets_one() -> None:
    plain = response([{"functionCall": {"name": "f"}}])
    del plain["responseId"]
    body = orjson.loads(DIALECT.decode("chat.completions", ask(), "m", orjson.dumps(plain)).body)
    assert body["id"] == "made-up"
    assert body["choices"][0]["message"]["tool_calls"][0] == {
        "id": "gwcall_made-up_0_0",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }


# -- streams ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "stream",
    [
        b"",
        event(response([{"text": "Hel"}], None)),
        event(response([{"text": "Hel"}], None)) + b'data: {"candidates":[{"cont',
        event({"usageMetadata": USAGE}),
    ],
)
def test_a_stream_without_a_finish_reason_is_cut(stream: bytes) -> None:
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    cut = stream.rfind(b"\n\n") + 2 if b"\n\n" in stream else 0
    translator.feed(stream[:cut])
    assert not translator.complete
    with pytest.raises(UpstreamCut):
        translator.finish(stream[cut:])


FAILURES = [
    ({"error": {"code": 503, "message": "overloaded", "status": "UNAVAILABLE"}}, UpstreamUnavailable),
    (response([], "MALFORMED_FUNCTION_CALL"), UpstreamFailed),
    ({"candidates": [3]}, UpstreamMalformed),
    ({"candidates": 3}, UpstreamMalformed),
]


@pytest.mark.parametrize(("failing", "kind"), FAILURES)
def test_a_failure_before_content_has_a_status_of_its_own(failing: Any, kind: type[UpstreamError]) -> None:
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    with pytest.raises(kind):
        translator.feed(event(failing))
    assert not translator.started


@pytest.mark.parametrize(("failing", "kind"), FAILURES)
def test_a_failure_behind_content_waits_until_that_is_out(failing: Any, kind: type[UpstreamError]) -> None:
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    translator.feed(event(response([{"text": "a"}], None)))
    out = translator.feed(event(response([{"text": "b"}], None)) + event(failing) + event(response([{"text": "c"}])))
    assert message_of(out)["content"] == "b"
    assert translator.complete
    with pytest.raises(kind):
        translator.finish(b"")
    assert translator.text() == "ab"


def test_early_counts_of_the_prompt_alone_are_no_usage() -> None:
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    translator.feed(event(response([{"text": "a"}], None, usageMetadata={"promptTokenCount": 3})))
    assert translator.usage is None


def test_a_count_that_comes_behind_the_end_is_waited_for() -> None:
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    end = response([{"text": "a"}])
    del end["usageMetadata"]
    translator.feed(event(end))
    assert not translator.complete
    assert translator.feed(event({"usageMetadata": USAGE})) == b""
    assert translator.complete
    assert translator.usage is not None
    assert translator.usage.output_tokens == 2


text = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
signed = st.sampled_from([{}, {}, {"thoughtSignature": "c2ln"}])
argument = st.dictionaries(text, st.one_of(st.integers(), text, st.none()), max_size=2)
part = st.one_of(
    st.builds(lambda value, more: {"text": value, **more}, text, signed),
    st.builds(
        lambda args, call_id, more: {"functionCall": {"name": "f", "args": args, **call_id}, **more},
        argument,
        st.sampled_from([{}, {"id": "given"}]),
        signed,
    ),
)
thought = st.builds(lambda value: {"text": value, "thought": True}, text)
signed_thought = st.builds(lambda value, more: {"text": value, "thought": True, **more}, st.just("") | text, signed)
answers = st.tuples(st.lists(thought, max_size=3), st.lists(part, min_size=1, max_size=5)).map(
    lambda two: two[0] + two[1]
)
interleaved = st.lists(st.one_of(signed_thought, part), min_size=1, max_size=7)


def dumps(answer: Any) -> bytes:
    """The stand-in for Google's printer: orjson refuses integers past 64 bits."""
    return json.dumps(answer, ensure_ascii=False).encode()


@settings(max_examples=150, deadline=None)
@given(st.one_of(answers, interleaved), st.lists(st.integers(1, 8), max_size=4))
def test_a_stream_says_what_a_whole_answer_says(parts: list[dict[str, Any]], cuts: list[int]) -> None:
    whole = DIALECT.decode("chat.completions", ask(), "m", dumps(response(parts)))
    message = orjson.loads(whole.body)["choices"][0]["message"]
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    edges = sorted({0, *(cut for cut in cuts if cut < len(parts)), len(parts)})
    pieces = [parts[start:end] for start, end in pairwise(edges)]
    sent = [response(piece, "STOP" if piece is pieces[-1] else None) for piece in pieces]
    out = b"".join(translator.feed(b"data: " + dumps(answer) + b"\n\n") for answer in sent) + translator.finish(b"")
    streamed = message_of(out)
    assert streamed["finish_reason"] == translator.finish_reason == whole.finish_reason
    for name in ("content", "reasoning_content"):
        assert streamed.get(name) == message.get(name)
    assert list(streamed.get("reasoning_details", {}).values()) == message.get("reasoning_details", [])
    calls = [
        {key: value for key, value in call.items() if key != "index"}
        for call in streamed.get("tool_calls", {}).values()
    ]
    assert calls == message.get("tool_calls", [])
    assert translator.usage == whole.usage
    assert translator.text() == whole.text()


@settings(max_examples=150, deadline=None)
@given(answers)
def test_what_gemini_said_goes_back_to_it_as_it_was(parts: list[dict[str, Any]]) -> None:
    """Texts and calls of one turn keep order among their kind; each signature stays on its own part."""
    parts = [each for each in parts if "functionCall" not in each] + [each for each in parts if "functionCall" in each]
    answer = orjson.loads(DIALECT.decode("chat.completions", ask(), "m", dumps(response(parts))).body)
    message = answer["choices"][0]["message"]
    follow_up = {
        "model": "m",
        "messages": [{"role": "user", "content": "hi"}, message, {"role": "user", "content": "x"}],
    }
    request = read_chat_request(orjson.dumps(follow_up))
    sent = DIALECT.encode("chat.completions", request, "gemini-2.5-pro", GEMINI).body
    back = json.loads(sent)["contents"][1]["parts"]
    assert _joined(back) == _joined(parts)


@settings(max_examples=150, deadline=None)
@given(interleaved)
def test_what_an_sdk_merged_of_a_stream_goes_back_as_the_whole_answer_does(parts: list[dict[str, Any]]) -> None:
    """Some SDKs also join what earlier versions of the gateway repeated: a format several times over is the format."""
    whole = orjson.loads(DIALECT.decode("chat.completions", ask(), "m", dumps(response(parts))).body)
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    sent = [response([each], "STOP" if at == len(parts) - 1 else None) for at, each in enumerate(parts)]
    merged = message_of(
        b"".join(translator.feed(b"data: " + dumps(answer) + b"\n\n") for answer in sent) + translator.finish(b"")
    )
    details = list(merged.get("reasoning_details", {}).values())
    lists = {"tool_calls": list(merged.get("tool_calls", {}).values()), "reasoning_details": details}
    assert [detail["index"] for detail in details] == list(range(len(details)))
    wanted = sent_back(whole["choices"][0]["message"])
    assert sent_back({**merged, **lists}) == wanted
    repeated = [{**detail, "format": detail["format"] * 3} for detail in details]
    assert sent_back({**merged, **lists, "reasoning_details": repeated}) == wanted


def sent_back(message: dict[str, Any]) -> list[dict[str, Any]]:
    """The contents of a next turn, as they reach Gemini."""
    messages = [{"role": "user", "content": "hi"}, message, {"role": "user", "content": "x"}]
    body = DIALECT.encode("chat.completions", ask(messages=messages), "gemini-2.5-pro", GEMINI).body
    contents: list[dict[str, Any]] = json.loads(body)["contents"]
    return contents


def test_a_signature_goes_back_also_on_a_thought_without_text() -> None:
    parts: list[dict[str, Any]] = [{"text": "", "thought": True, "thoughtSignature": "c2ln"}, {"text": "hello"}]
    whole = orjson.loads(DIALECT.decode("chat.completions", ask(), "m", dumps(response(parts))).body)
    assert sent_back(whole["choices"][0]["message"])[1]["parts"] == parts


def test_images_of_a_stream_have_places_to_merge_at_and_those_of_a_message_none() -> None:
    blobs = [{"inlineData": {"mimeType": "image/png", "data": data}} for data in ("AAAA", "BBBB")]
    translator = DIALECT.translator(ask(stream=True), "m", split_events)
    events = [event(response([blobs[0]], None)), event(response([blobs[1]]))]
    streamed = message_of(b"".join(map(translator.feed, events)) + translator.finish(b""))["images"]
    assert {at: image["image_url"]["url"] for at, image in streamed.items()} == {
        0: "data:image/png;base64,AAAA",
        1: "data:image/png;base64,BBBB",
    }
    whole = orjson.loads(DIALECT.decode("chat.completions", ask(), "m", dumps(response(blobs))).body)
    images = whole["choices"][0]["message"]["images"]
    assert [image.keys() for image in images] == [{"type", "image_url"}] * 2


@pytest.mark.parametrize("told", ["", "anthropic-claude-v1", "google-gemini-v1x", None, 1])
def test_thoughts_of_another_provider_do_not_go_to_gemini(told: Any) -> None:
    detail = {"type": "reasoning.text", "format": told, "index": 0, "text": "mine", "signature": "c2ln"}
    message = {"role": "assistant", "content": "hello", "reasoning_details": [detail]}
    assert sent_back(message)[1]["parts"] == [{"text": "hello"}]


def _joined(parts: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Neighbouring texts without a signature as one: the hub has one text for them."""
    joined: list[dict[str, Any]] = []
    for each in parts:
        plain = "text" in each and "thoughtSignature" not in each
        last = joined[-1] if joined else {}
        if plain and "text" in last and "thoughtSignature" not in last and each.get("thought") == last.get("thought"):
            joined[-1] = {**last, "text": last["text"] + each["text"]}
        else:
            joined.append(each)
    return joined


# -- errors ----------------------------------------------------------------------------------------------------------


def google_error(code: int, status: str, message: str = "No.", *details: dict[str, Any]) -> bytes:
    return orjson.dumps({"error": {"code": code, "status": status, "message": message, "details": list(details)}})


RETRY = {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "34.5s"}
BAD_KEY = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}
BAD_FIELD = {
    "@type": "type.googleapis.com/google.rpc.BadRequest",
    "fieldViolations": [{"field": "generation_config.top_k"}],
}
A_DAY = {"violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel-FreeTier"}]}


@pytest.mark.parametrize(
    ("status", "body", "kind", "http", "type_", "code", "retry"),
    [
        (400, google_error(400, "INVALID_ARGUMENT", "No.", BAD_FIELD), UpstreamRejected, 400, "invalid_request_error", "INVALID_ARGUMENT", None),
        (400, google_error(400, "INVALID_ARGUMENT", "API key not valid.", BAD_KEY), UpstreamUnauthenticated, 401, "authentication_error", "invalid_api_key", None),
        (400, google_error(400, "INVALID_ARGUMENT", "The input token count (2000000) exceeds the maximum number of tokens allowed (1048576)."),
         UpstreamRejected, 400, "invalid_request_error", "context_length_exceeded", None),
        (401, google_error(401, "UNAUTHENTICATED"), UpstreamUnauthenticated, 401, "authentication_error", "invalid_api_key", None),
        (403, google_error(403, "PERMISSION_DENIED"), UpstreamRejected, 403, "permission_error", "permission_denied", None),
        (404, google_error(404, "NOT_FOUND", "models/x is not found"), UpstreamRejected, 404, "invalid_request_error", "model_not_found", None),
        (429, google_error(429, "RESOURCE_EXHAUSTED", "Slow down.", RETRY), UpstreamRejected, 429, "rate_limit_error", "rate_limit_exceeded", 34.5),
        (429, google_error(429, "RESOURCE_EXHAUSTED", "Quota.", RETRY, A_DAY), UpstreamRejected, 429, "insufficient_quota", "insufficient_quota", 34.5),
        (429, b"[" + google_error(429, "RESOURCE_EXHAUSTED") + b"]", UpstreamRejected, 429, "rate_limit_error", "rate_limit_exceeded", 7.0),
        (500, google_error(500, "INTERNAL"), UpstreamFailed, 502, "server_error", "INTERNAL", 7.0),
        (503, google_error(503, "UNAVAILABLE", "The model is overloaded."), UpstreamUnavailable, 503, "server_error", "UNAVAILABLE", 7.0),
        (504, google_error(504, "DEADLINE_EXCEEDED"), UpstreamTimeout, 504, "server_error", "DEADLINE_EXCEEDED", 7.0),
        (502, b"<html><title>Bad gateway</title></html>", UpstreamFailed, 502, "server_error", "upstream_error", 7.0),
    ],
)  # fmt: skip
def test_errors(
    status: int, body: bytes, kind: type[GatewayError], http: int, type_: str, code: str | None, retry: float | None
) -> None:
    headers = {"retry-after": "7"} if retry == 7.0 else {}
    error = DIALECT.decode_error(status, headers, body)
    assert type(error) is kind
    assert (error.http_status, error.error_type, error.error_code, error.retry_after) == (http, type_, code, retry)
    assert error.param == ("generation_config.top_k" if b"top_k" in body else None)


def test_an_error_inside_an_answer_is_the_providers() -> None:
    with pytest.raises(UpstreamRejected) as caught:
        DIALECT.decode("chat.completions", ask(stream=True), "m", b"[" + google_error(429, "RESOURCE_EXHAUSTED") + b"]")
    assert caught.value.http_status == 429


# -- embeddings ------------------------------------------------------------------------------------------------------


def embed(**fields: Any) -> ModelRequest:
    return read_embeddings_request(orjson.dumps({"model": "gemini-embedding-001", **fields}))


def test_embeddings_of_the_gemini_api() -> None:
    request = embed(input=["What is life?", "Who?"], dimensions=3, task_type="RETRIEVAL_QUERY", user="u")
    encoded = DIALECT.encode("embeddings", request, "gemini-embedding-001", GEMINI)
    shared = {"model": "models/gemini-embedding-001", "taskType": "RETRIEVAL_QUERY", "outputDimensionality": 3}
    assert encoded.path == "/models/gemini-embedding-001:batchEmbedContents"
    assert orjson.loads(encoded.body) == {
        "requests": [{**shared, "content": {"parts": [{"text": each}]}} for each in ("What is life?", "Who?")]
    }
    body = orjson.dumps({"embeddings": [{"values": [0.5, -0.25, 1]}, {"values": [1e-3, 2, 3]}]})
    answer = DIALECT.decode("embeddings", request, "gemini-embedding-001", body)
    assert orjson.loads(answer.body) == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.5, -0.25, 1]},
            {"object": "embedding", "index": 1, "embedding": [1e-3, 2, 3]},
        ],
        "model": "gemini-embedding-001",
        "usage": {"prompt_tokens": 5, "total_tokens": 5},
    }
    assert answer.usage is not None
    assert answer.usage.estimated


def test_embeddings_of_vertex_as_base64() -> None:
    request = embed(input="hi", dimensions=2, encoding_format="base64")
    encoded = DIALECT.encode("embeddings", request, "gemini-embedding-001", VERTEX)
    assert encoded.path == "/models/gemini-embedding-001:predict"
    assert orjson.loads(encoded.body) == {"instances": [{"content": "hi"}], "parameters": {"outputDimensionality": 2}}
    prediction = {"embeddings": {"values": [0.5, -0.1], "statistics": {"token_count": 4.0, "truncated": False}}}
    answer = DIALECT.decode("embeddings", request, "m", orjson.dumps({"predictions": [prediction]}))
    told = orjson.loads(answer.body)
    assert struct.unpack("<2f", base64.b64decode(told["data"][0]["embedding"])) == pytest.approx((0.5, -0.1))
    assert told["usage"] == {"prompt_tokens": 4, "total_tokens": 4}
    assert answer.usage is not None
    assert not answer.usage.estimated


def test_embeddings_that_are_counted() -> None:
    body = orjson.dumps({"embeddings": [{"values": [1]}], "usageMetadata": {"promptTokenCount": 9}})
    answer = DIALECT.decode("embeddings", embed(input="hi"), "m", body)
    assert answer.usage is not None
    assert (answer.usage.input_tokens, answer.usage.estimated) == (9, False)


@pytest.mark.parametrize("given", [[1, 2, 3], [[1, 2]]])
def test_token_numbers_cannot_be_embedded(given: Any) -> None:
    with pytest.raises(InvalidRequest) as caught:
        DIALECT.encode("embeddings", embed(input=given), "m", GEMINI)
    assert caught.value.param == "input"


@pytest.mark.parametrize(
    "body", [b"{}", b'{"embeddings":[]}', b'{"embeddings":[{}]}', b'{"embeddings":[{"values":[1]},{"values":[2]}]}']
)
def test_embeddings_that_are_none_or_too_many_are_malformed(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        DIALECT.decode("embeddings", embed(input="hi"), "m", body)
