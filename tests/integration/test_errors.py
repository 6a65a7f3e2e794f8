"""Every error a caller can meet, by an actual bad request over real HTTP: the status, and the one envelope."""

import socket
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.api.body import LARGEST_BODY
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import KEY, GatewayApp
from tests.fakes.openai_upstream import (
    ChatStream,
    OpenAIUpstream,
    Raw,
    Reply,
    Stream,
    Vanish,
    chat,
    empty_error,
    error,
    error_event,
    fastapi_error,
    html_error,
    openrouter_error,
    redirect,
    string_error,
)
from tests.fakes.openai_wire import Scenario

HELLO = [{"role": "user", "content": "hi"}]
CONFIG = """
default_provider = "corp"
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
[providers.nowhere]
dialect = "openai_chat"
base_url = "http://127.0.0.1:9/v1"
credential = "none"
[models.hasty]
deployments = [{{ provider = "corp", model = "late" }}]
timeouts = {{ first_token_s = 0.3, idle_s = 0.3, total_s = 2 }}
[models.secretive]
deployments = [{{ provider = "corp", model = "x" }}]
[teams.search]
[keys.narrow]
team = "search"
key = "sk-narrow"
models = ["echo:*"]
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture(scope="module")
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), secrets={"corp": "sk-corp"}) as running:
        yield running


def ask(app: GatewayApp, model: str, **fields: bool) -> httpx.Response:
    """A chat; the body says `stream` only if the caller does."""
    body = {"model": model, "messages": HELLO, **fields}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=app.auth)


def assert_envelope(answer: httpx.Response, status: int, code: str | None) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body.keys() == {"error"}
    described: dict[str, Any] = body["error"]
    assert described.keys() == {"message", "type", "param", "code"}
    assert described["message"]
    assert described["code"] == code
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-request-id"].startswith("req_")
    return described


@pytest.mark.parametrize(
    ("content", "status", "param", "code"),
    [
        (b"", 400, None, "invalid_json"),
        (b"{not json", 400, None, "invalid_json"),
        (b"[1, 2]", 400, None, "invalid_json"),
        (b"null", 400, None, "invalid_json"),
        (b"\xff\xfe\x00", 400, None, "invalid_json"),
        (b'{"model":"echo:a","messages":"hi"}', 400, "messages", None),
        (b'{"model":"echo:a","messages":[{"role":"user","content":"x"}],"stream":"yes"}', 400, "stream", None),
        (b'{"model":["echo:a"],"messages":[{"role":"user","content":"x"}]}', 400, "model", None),
        (b'{"model":"nowhere-to-be-found:x","messages":[{"role":"user","content":"x"}]}', 200, None, None),
        (b'{"messages":[{"role":"user","content":"x"}]}', 400, "model", None),
        (b"x" * (LARGEST_BODY + 1), 413, None, "request_too_large"),
        (b'"' * (LARGEST_BODY // 2 + 10), 413, None, "request_too_large"),
    ],
)
def test_bad_bodies(app: GatewayApp, content: bytes, status: int, param: str | None, code: str | None) -> None:
    answer = httpx.post(f"{app.base_url}/chat/completions", content=content, headers=app.auth)
    if status == 200:
        assert answer.status_code == 200  # a prefix that names no provider is part of the default provider's model
    else:
        assert assert_envelope(answer, status, code)["param"] == param


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer sk-wrong"},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": KEY},
        {"Authorization": "Bearer " + "x" * 4000},
        {"api-key": KEY},
        {"x-api-key": KEY},
    ],
)
@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings", "/models", "/models/echo:a"])
def test_no_key_or_a_wrong_one(app: GatewayApp, upstream: OpenAIUpstream, headers: dict[str, str], path: str) -> None:
    before = len(upstream.requests)
    if path.startswith("/models"):
        answer = httpx.get(app.base_url + path, headers=headers)
    else:
        answer = httpx.post(app.base_url + path, headers=headers, json={"model": "x", "messages": HELLO, "input": "x"})
    assert assert_envelope(answer, 401, "invalid_api_key")["type"] == "authentication_error"
    assert len(upstream.requests) == before


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_scheme_in_any_case(app: GatewayApp, scheme: str) -> None:
    answer = httpx.get(f"{app.base_url}/models/echo:a", headers={"AUTHORIZATION": f"{scheme} {KEY}"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/v1/nothing", 404, "unknown_url"),
        ("POST", "/", 405, "method_not_allowed"),
        ("GET", "/v1/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/v1/embeddings", 405, "method_not_allowed"),
        ("POST", "/health", 405, "method_not_allowed"),
        ("POST", "/v1/chat/completions/", 404, "unknown_url"),
        ("GET", "/usage/requests/req_unknown", 404, "not_found"),
        ("GET", "/docs", 404, "unknown_url"),
    ],
)
def test_routes_and_methods(app: GatewayApp, method: str, path: str, status: int, code: str) -> None:
    answer = httpx.request(method, app.root + path, headers=app.auth)
    assert_envelope(answer, status, code)
    if status == 405:
        assert answer.headers["allow"]


@pytest.mark.parametrize("path", ["/chat/completions", "/embeddings"])
def test_models_that_are_not_there(app: GatewayApp, path: str) -> None:
    body = {"model": "echo:a", "messages": HELLO, "input": "x"}
    narrow = {"Authorization": "Bearer sk-narrow"}
    refused = httpx.post(app.base_url + path, json={**body, "model": "corp:x"}, headers=narrow)
    assert assert_envelope(refused, 403, "model_not_allowed")["param"] == "model"
    with GatewayApp() as bare:
        answer = httpx.post(bare.base_url + path, json={**body, "model": "gpt-x"}, headers=bare.auth)
    described = assert_envelope(answer, 404, "model_not_found")
    assert described["param"] == "model"
    assert "The model `gpt-x` does not exist" in described["message"]


REFUSALS: list[tuple[str, Scenario, int, str | None]] = [
    (
        "openai",
        error(400, "too long", code="context_length_exceeded", param="messages"),
        400,
        "context_length_exceeded",
    ),
    ("quota", error(429, "quota", type="insufficient_quota", code="insufficient_quota"), 429, "insufficient_quota"),
    ("html", html_error(502), 502, "upstream_error"),
    ("empty", empty_error(500), 502, "upstream_error"),
    ("overloaded", error(529, "overloaded"), 503, "upstream_unavailable"),
    ("away", error(503, "away", code="maintenance"), 503, "maintenance"),
    ("fastapi", fastapi_error(), 422, None),
    ("string", string_error(), 400, None),
    ("openrouter", openrouter_error(429), 429, "429"),
    ("redirect", redirect("http://127.0.0.1:1/"), 502, "upstream_error"),
    ("html in 200", Reply(b"<html>ok</html>", content_type="text/html"), 502, "upstream_malformed"),
    ("not an answer", Reply({"hello": 1}), 502, "upstream_malformed"),
    ("no choices", Reply({"choices": []}), 502, "upstream_malformed"),
    ("null", Reply(b"null"), 502, "upstream_malformed"),
    ("half json", Reply(b'{"choices":[{"mess'), 502, "upstream_malformed"),
    ("cut body", chat("a long answer that is cut", cut_at=40), 502, "upstream_cut"),
    ("vanishes", Vanish(), 502, "upstream_cut"),
    ("not http", Raw(b"SSH-2.0-OpenSSH\r\n"), 502, "upstream_malformed"),
]


@pytest.mark.parametrize(("scenario", "status", "code"), [r[1:] for r in REFUSALS], ids=[r[0] for r in REFUSALS])
@pytest.mark.parametrize("stream", [False, True])
def test_the_providers_refusals(
    app: GatewayApp, upstream: OpenAIUpstream, scenario: Scenario, status: int, code: str | None, stream: bool
) -> None:
    upstream.script("x", scenario)
    answer = ask(app, "corp:x", stream=stream)
    assert_envelope(answer, status, code)
    assert answer.headers["x-gateway-provider"] == "corp"
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.http_status, record.error_code) == ("failed", status, code or record.error_code)
    begun = [attempt for attempt in record.attempts if attempt.status == 200 and code == "upstream_cut"]
    assert bool(begun) == record.usage.estimated, "what had begun will be billed"
    assert bool(begun) == bool(record.usage.input_tokens)
    assert (record.cost_usd == 0) == (not begun), "of a model without a price nobody knows"
    assert 1 <= len(record.attempts) <= 3
    for attempt in record.attempts:
        assert attempt.provider == "corp"
        assert attempt.error
        assert attempt.status is None or attempt.status in (200, status) or status in (502, 503)


STREAM_FAILURES: list[tuple[str, Stream, int, str]] = [
    ("error first", Stream([error_event("boom", 429)], end="eof"), 429, "429"),
    ("done alone", Stream([], end="done"), 502, "upstream_malformed"),
    ("nothing", Stream([], end="eof"), 502, "upstream_cut"),
    (
        "role alone",
        Stream([{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}], end="eof"),
        502,
        "upstream_cut",
    ),
    (
        "cut before content",
        Stream([{"choices": [{"index": 0, "delta": {"role": "assistant"}}]}], end="cut"),
        502,
        "upstream_cut",
    ),
    ("not json", Stream(["<html>"], end="eof"), 502, "upstream_malformed"),
]


@pytest.mark.parametrize(
    ("scenario", "status", "code"), [f[1:] for f in STREAM_FAILURES], ids=[f[0] for f in STREAM_FAILURES]
)
def test_a_stream_that_fails_before_its_content_has_a_status(
    app: GatewayApp, upstream: OpenAIUpstream, scenario: Stream, status: int, code: str
) -> None:
    upstream.script("x", scenario)
    answer = ask(app, "corp:x", stream=True)
    assert_envelope(answer, status, code)


MIDWAY: list[tuple[str, Stream, str]] = [
    ("cut", Stream([{"choices": [{"index": 0, "delta": {"content": "a"}}]}], end="cut"), "upstream_cut"),
    (
        "cut mid-event",
        Stream(
            [
                {"choices": [{"index": 0, "delta": {"content": "a"}}]},
                {"choices": [{"index": 0, "delta": {"content": "b"}}]},
            ],
            end="cut_mid_event",
        ),
        "upstream_cut",
    ),
    (
        "error event",
        Stream(
            [{"choices": [{"index": 0, "delta": {"content": "a"}}]}, error_event("boom", 500)], end="eof", pause_s=0.05
        ),
        "500",
    ),
    (
        "end without a reason",
        Stream([{"choices": [{"index": 0, "delta": {"content": "a"}}]}], end="eof"),
        "upstream_cut",
    ),
]


@pytest.mark.parametrize(("scenario", "code"), [m[1:] for m in MIDWAY], ids=[m[0] for m in MIDWAY])
def test_a_failure_in_mid_stream_is_an_error_event_and_no_done(
    app: GatewayApp, upstream: OpenAIUpstream, scenario: Stream, code: str
) -> None:
    upstream.script("x", scenario)
    answer = ask(app, "corp:x", stream=True)
    assert answer.status_code == 200
    events = answer.text.split("\n\n")
    assert events[-2].startswith("event: error\ndata: {")
    assert f'"code":"{code}"' in events[-2]
    assert "[DONE]" not in answer.text
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.error_code, record.usage.estimated) == ("failed", code, True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("scenario", [chat("late", delay_s=3), ChatStream(delay_s=3), Stream([], end="stall")])
def test_a_provider_that_takes_too_long(
    app: GatewayApp, upstream: OpenAIUpstream, scenario: Scenario, stream: bool
) -> None:
    upstream.script("late", scenario)
    answer = ask(app, "hasty", stream=stream)
    assert_envelope(answer, 504, "upstream_timeout")


def test_a_provider_that_cannot_be_reached(app: GatewayApp) -> None:
    answer = ask(app, "nowhere:x")
    assert_envelope(answer, 502, "upstream_unreachable")


@pytest.mark.parametrize(("value", "sent"), [("7", "7"), ("0.2", "1"), ("nonsense", None)])
def test_retry_after_is_kept(app: GatewayApp, upstream: OpenAIUpstream, value: str, sent: str | None) -> None:
    upstream.script("x", error(429, "slow down", code="rate_limit_exceeded", headers={"retry-after": value}))
    answer = ask(app, "corp:x")
    assert answer.headers.get("retry-after") == sent


def test_a_key_in_the_providers_words_is_masked(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", error(403, "key sk-corp may not do that"))
    answer = ask(app, "corp:x")
    assert answer.json()["error"]["message"] == "key *** may not do that"


def test_http_1_0_gets_a_whole_answer(app: GatewayApp) -> None:
    """Proxies in front may speak HTTP/1.0, which knows no chunks."""
    url = urlsplit(app.root)
    body = b'{"model":"echo:a","messages":[{"role":"user","content":"hi"}],"stream":true}'
    head = f"POST /v1/chat/completions HTTP/1.0\r\nauthorization: bearer {KEY}\r\ncontent-length: {len(body)}\r\n\r\n"
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head_of, _, stream = answer.partition(b"\r\n\r\n")
    assert b" 200 " in head_of
    assert b"transfer-encoding" not in head_of.lower()
    assert stream.startswith(b"data: {")
    assert stream.endswith(b"data: [DONE]\n\n")


class BrokenLedger(MemoryLedger):
    """A defect of ours, where there should be none."""

    async def get(self, request_id: str) -> RequestRecord | None:
        raise RuntimeError(f"broken on {request_id}, with sk-secret in the message")

    async def open(self, record: RequestRecord) -> None:
        raise RuntimeError("broken")


@pytest.mark.parametrize("stream", [False, True])
def test_a_defect_of_ours_is_a_500_that_tells_nothing(stream: bool) -> None:
    with GatewayApp(ledger=BrokenLedger()) as broken:
        read = httpx.get(f"{broken.root}/usage/requests/req_1", headers=broken.auth)
        asked = ask(broken, "echo:a", stream=stream)
    for answer in (read, asked):
        described = assert_envelope(answer, 500, "internal_error")
        assert described["type"] == "server_error"
        assert "broken" not in answer.text


class LedgerThatIsAway(MemoryLedger):
    async def open(self, record: RequestRecord) -> None:
        raise Unavailable("The ledger is away.")

    async def settle(self, record: RequestRecord) -> bool:
        raise Unavailable("The ledger is away.")


def test_a_ledger_that_is_away_refuses_nobody() -> None:
    """No key has a limit yet, so there is nothing to protect; the record goes to the log instead."""
    with GatewayApp(ledger=LedgerThatIsAway()) as app:
        answer = ask(app, "echo:a")
        assert answer.status_code == 200
        read = httpx.get(f"{app.root}/usage/requests/{answer.headers['x-request-id']}", headers=app.auth)
        assert_envelope(read, 404, "not_found")


def test_content_and_an_error_in_one_read_are_an_error_with_a_status(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    """Nothing had gone out yet, so the caller gets the better answer; what was written is counted all the same."""
    events = [{"choices": [{"index": 0, "delta": {"content": "some words"}}]}, error_event("boom", 503)]
    upstream.script("x", Stream(events, end="eof", per_write=2))
    answer = ask(app, "corp:x", stream=True)
    assert_envelope(answer, 503, "503")
    record = app.record(answer.headers["x-request-id"])
    assert (record.status, record.http_status, record.usage.estimated) == ("failed", 503, True)
    assert record.usage.output_tokens > 0


@pytest.mark.parametrize("content", [(), ({"choices": [{"index": 0, "delta": {"content": "a"}}]},)])
def test_comments_are_no_tokens(app: GatewayApp, upstream: OpenAIUpstream, content: tuple[dict[str, Any], ...]) -> None:
    upstream.script("late", Stream([*content, *[b": keep-alive\n\n"] * 100], end="stall", pause_s=0.05))
    answer = ask(app, "hasty", stream=True)
    record = app.record(answer.headers["x-request-id"])
    assert record.error_code == "upstream_timeout"
    assert record.latency_ms is not None
    assert record.latency_ms < 1500
    if content:
        assert "event: error" in answer.text
    else:
        assert_envelope(answer, 504, "upstream_timeout")


@pytest.mark.parametrize("name", ["x" * 513, "a\r\nb", "a\u0000b", "a\tb"])
def test_names_that_no_model_can_have(app: GatewayApp, name: str) -> None:
    answer = ask(app, name)
    assert assert_envelope(answer, 400, None)["param"] == "model"


def test_a_compressed_body_is_415(app: GatewayApp) -> None:
    headers = {**app.auth, "content-encoding": "gzip"}
    answer = httpx.post(f"{app.base_url}/chat/completions", content=b"\x1f\x8b", headers=headers)
    assert "Content-Encoding" in assert_envelope(answer, 415, None)["message"]


def test_what_a_provider_lacks_is_told_to_an_admin_and_of_no_other_provider() -> None:
    lacks = {
        "azure_openai:x": "The provider `azure_openai` has no address here. (Provider `azure_openai` has no address: "
        "set AZURE_OPENAI_ENDPOINT, or `base_url` in `[providers]`.)",
        "anthropic:x": "The provider `anthropic` has no key here. (Provider `anthropic` could serve it with a key: ",
        "off:x": "The provider `off` is switched off here.",
        "echo:": "Name a model of the provider: `echo:…`.",
    }
    off = '[providers.off]\nbase_url = "http://127.0.0.1:9/v1"\nenabled = false\n[keys.one]\nkey = "sk-one-caller"'
    with GatewayApp(off, secrets={"azure_openai": "x"}) as running:
        for model, told in lacks.items():
            answer = refusal(running, model, KEY)
            assert told in answer
            assert "openai` could serve" not in answer
            assert "(" not in refusal(running, model, "sk-one-caller"), "where secrets are is the operator's business"
        assert "(Provider `openai` could serve it with a key: " in refusal(running, "gpt-4.1", KEY)


def refusal(app: GatewayApp, model: str, key: str) -> str:
    body = {"model": model, "messages": HELLO}
    answer = httpx.post(f"{app.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {key}"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    return str(answer.json()["error"]["message"])
