"""`Idempotency-Key` over real HTTP: one call of the provider and one bill, however often and however rudely it is asked."""

import asyncio
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from random import Random
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from llm_gateway.adapters.memory import MemoryAnswers
from llm_gateway.api.exchange_response import NO_DISCONNECT
from llm_gateway.domain.ports import AnswerClaim
from llm_gateway.errors import Unavailable
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, chat, error, error_event

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"
[prices."corp:x"]
input = "1"
output = "2"
[keys.other]
key = "sk-other-test-key"
"""
HELLO = [{"role": "user", "content": "Tell me a long story, please."}]
BEGUN = b'data: {"id":"1","model":"m","choices":[{"index":0,"delta":{"content":"a"},"finish_reason":null}]}\n\n'
ORIGINAL = "x-gateway-original-request-id"
REPLAY = "x-gateway-idempotent-replay"


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url)) as running:
        yield running


def body_of(**more: Any) -> dict[str, Any]:
    return {"model": "corp:x", "messages": HELLO, **more}


def ask(app: GatewayApp, key: str | None = "one", path: str = "/v1/chat/completions", **more: Any) -> httpx.Response:
    headers = {**app.auth} if key is None else {**app.auth, "idempotency-key": key}
    return httpx.post(f"{app.root}{path}", json=body_of(**more), headers=headers)


def ask_until_done(app: GatewayApp, **more: Any) -> httpx.Response:
    """As a client does: 409 while it runs means to come back."""
    for _ in range(500):
        answer = ask(app, **more)
        if answer.status_code != 409 or answer.json()["error"]["code"] != "idempotency_in_progress":
            return answer
        assert answer.headers["retry-after"] == "1"
        time.sleep(0.01)
    raise AssertionError("the first request never ends")


def assert_replay(answer: httpx.Response, original: httpx.Response) -> None:
    assert answer.status_code == 200
    assert answer.content == original.content
    assert answer.headers["content-type"] == original.headers["content-type"]
    assert answer.headers[REPLAY] == "true"
    assert answer.headers[ORIGINAL] == original.headers["x-request-id"]
    assert answer.headers["x-request-id"] != original.headers["x-request-id"]
    assert answer.headers["x-gateway-provider"] == "corp"
    assert REPLAY not in original.headers


def assert_billed_once(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    assert len(upstream.requests) == 1
    (request_id,) = app.ledger.records
    record = app.record(request_id)
    assert record.status == "settled"
    assert record.cost_usd
    assert not record.usage.estimated


@pytest.mark.parametrize("stream", [False, True])
def test_the_second_gets_the_first_ones_answer(app: GatewayApp, upstream: OpenAIUpstream, stream: bool) -> None:
    upstream.script("x", ChatStream(text="once upon a time", gate_after=None) if stream else chat("once upon a time"))
    first = ask(app, stream=stream)
    second = ask_until_done(app, stream=stream)
    assert_replay(second, first)
    assert "x-gateway-cost-usd" not in second.headers
    assert float(second.headers["x-gateway-overhead-ms"]) > 0
    if stream:
        assert second.headers["cache-control"] == "no-cache"
        assert second.content.endswith(b"data: [DONE]\n\n")
    assert_billed_once(app, upstream)
    assert httpx.get(f"{app.root}/usage/requests/{second.headers['x-request-id']}", headers=app.auth).status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/v1/chat/completions",
        "/chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/corp:x/chat/completions",
    ],
)
def test_every_path(app: GatewayApp, upstream: OpenAIUpstream, path: str) -> None:
    first = ask(app, path=path)
    assert_replay(ask_until_done(app, path=path), first)
    assert len(upstream.requests) == 1


def test_embeddings(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    path, more = "/v1/embeddings", {"input": "alpha"}
    first = ask(app, path=path, **more)
    assert_replay(ask_until_done(app, path=path, **more), first)
    assert len(upstream.requests) == 1


def test_without_the_header_nothing_is_kept(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    for _ in range(2):
        assert ask(app, key=None).status_code == 200
    assert len(upstream.requests) == 2
    assert not app.answers.entries


def test_another_body(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    first = ask(app)
    others = (ask(app, n=1), ask(app, path="/openai/deployments/corp:x/chat/completions"))
    for answer in others:
        assert answer.status_code == 422
        told = answer.json()["error"]
        assert (told["type"], told["code"]) == ("invalid_request_error", "idempotency_key_reused")
        assert first.headers["x-request-id"] in told["message"]
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("key", [b"x" * 256, b"", "schlüssel".encode("latin-1")], ids=["long", "empty", "latin-1"])
def test_a_key_that_is_none(app: GatewayApp, upstream: OpenAIUpstream, key: bytes) -> None:
    answer = httpx.post(
        f"{app.base_url}/chat/completions",
        content=json.dumps(body_of()),
        headers=[(b"authorization", app.auth["Authorization"].encode()), (b"idempotency-key", key)],
    )
    assert answer.status_code == 400
    assert "Idempotency-Key" in answer.json()["error"]["message"]
    assert not upstream.requests


def test_while_it_runs(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    scenario = ChatStream(text="one two three", gate_after=2)
    upstream.script("x", scenario)
    headers = {**app.auth, "idempotency-key": "one"}
    with httpx.stream("POST", f"{app.base_url}/chat/completions", json=body_of(stream=True), headers=headers) as first:
        scenario.gate.wait_held()
        second = ask(app, stream=True)
        assert second.status_code == 409
        assert second.headers["content-type"] == "application/json"
        assert second.headers["retry-after"] == "1"
        assert second.headers[ORIGINAL] == first.headers["x-request-id"]
        assert second.json()["error"]["code"] == "idempotency_in_progress"
        assert first.headers["x-request-id"] in second.json()["error"]["message"]
        scenario.gate.release()
        content = first.read()
    assert ask_until_done(app, stream=True).content == content
    assert_billed_once(app, upstream)


def test_a_key_belongs_to_its_caller(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    ask(app)
    others = {"authorization": "Bearer sk-other-test-key", "idempotency-key": "one"}
    answer = httpx.post(f"{app.base_url}/chat/completions", json=body_of(), headers=others)
    assert answer.status_code == 200
    assert REPLAY not in answer.headers
    assert len(upstream.requests) == 2
    nobody = {**others, "authorization": "Bearer sk-nobody"}
    assert httpx.post(f"{app.base_url}/chat/completions", json=body_of(), headers=nobody).status_code == 401


@pytest.mark.parametrize(
    "failure",
    [error(400, "no"), error(500, "down"), Reply(b"not json"), Stream([BEGUN], end="cut")],
    ids=["400", "500", "malformed", "cut"],
)
def test_a_failed_one_is_not_kept(app: GatewayApp, upstream: OpenAIUpstream, failure: Any) -> None:
    stream = isinstance(failure, Stream)
    tries = 3 if isinstance(failure, Reply) and failure.status != 400 else 1
    upstream.script("x", *[failure] * tries, ChatStream(text="now") if stream else chat("now"))
    first = ask(app, stream=stream)
    if stream:
        assert b"event: error" in first.content
    else:
        assert first.status_code >= 400, first.text
    second = ask_until_done(app, stream=stream) if stream else ask(app, stream=stream)
    assert second.status_code == 200
    assert REPLAY not in second.headers
    assert b"now" in second.content
    assert_replay(ask_until_done(app, stream=stream), second)
    assert len(upstream.requests) == tries + 1


def test_an_error_event_after_the_first_content_is_not_kept(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", Stream([BEGUN, error_event("overloaded")], pause_s=0.05), ChatStream(text="now"))
    assert b'"error"' in ask(app, stream=True).content
    second = ask_until_done(app, stream=True)
    assert b"now" in second.content
    assert REPLAY not in second.headers


def test_what_is_refused_before_the_provider_frees_the_key(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    assert ask(app, model="nobody:serves-this").status_code == 404
    assert ask(app).status_code == 200
    assert len(upstream.requests) == 1


def test_one_that_is_too_large(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    upstream.script("x", chat(Random(1).randbytes(400_000).hex()))  # noqa: S311 - noise does not shrink
    first = ask(app)
    assert first.status_code == 200
    second = ask_until_done(app)
    assert second.status_code == 409
    assert second.headers[ORIGINAL] == first.headers["x-request-id"]
    assert second.headers["x-should-retry"] == "false"
    assert second.json()["error"]["code"] == "idempotency_answer_too_large"
    assert_billed_once(app, upstream)


# --- Callers who leave ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def connection(app: GatewayApp, **more: Any) -> Iterator[socket.socket]:
    """A request on a bare socket, so that leaving is nothing but closing it."""
    url = urlsplit(app.root)
    content = json.dumps(body_of(**more)).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: {app.auth['Authorization']}\r\n"
        f"idempotency-key: one\r\ncontent-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as made:
        made.sendall(head.encode() + content)
        yield made


def ask_the_same(app: GatewayApp, **more: Any) -> httpx.Response:
    """The body byte for byte as `connection` sends it."""
    for _ in range(500):
        answer = httpx.post(
            f"{app.base_url}/chat/completions",
            content=json.dumps(body_of(**more)),
            headers={**app.auth, "idempotency-key": "one"},
        )
        if answer.status_code != 409:
            return answer
        time.sleep(0.01)
    raise AssertionError("the first request never ends")


def test_one_who_leaves_in_mid_stream_and_retries(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    text = "one two three four five six seven eight"
    scenario = ChatStream(text=text, gate_after=3)
    upstream.script("x", scenario)
    with connection(app, stream=True) as caller:
        seen = b""
        while b"two" not in seen:
            seen += caller.recv(4096)
        scenario.gate.wait_held()
    time.sleep(0.1)
    assert upstream.last().left_at is None, "the provider's stream is read on"
    scenario.gate.release()
    answer = ask_the_same(app, stream=True)
    assert answer.headers[REPLAY] == "true"
    assert answer.headers["content-type"].startswith("text/event-stream")
    chunks = [json.loads(line[6:]) for line in answer.text.splitlines() if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks) == text
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert_billed_once(app, upstream)
    record = app.only_record()
    assert (record.error_code, record.usage.output_tokens) == ("client_disconnected", 8)
    assert record.cost_usd == Decimal(record.usage.input_tokens + 16) / 10**6


@pytest.mark.parametrize("stream", [False, True])
def test_one_who_leaves_before_the_first_byte_and_retries(
    app: GatewayApp, upstream: OpenAIUpstream, stream: bool
) -> None:
    scenario = ChatStream(text="patience", hold=True) if stream else chat("patience", hold=True)
    upstream.script("x", scenario)
    with connection(app, stream=stream):
        scenario.gate.wait_held()
    time.sleep(0.1)
    assert upstream.last().left_at is None
    scenario.gate.release()
    answer = ask_the_same(app, stream=stream)
    assert answer.headers[REPLAY] == "true"
    assert b"patience" in answer.content
    assert_billed_once(app, upstream)


def test_one_who_leaves_a_stream_that_then_fails_may_try_again(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    scenario = Stream([BEGUN, BEGUN], gate_after=1, end="cut")
    upstream.script("x", scenario, ChatStream(text="whole"))
    with connection(app, stream=True):
        scenario.gate.wait_held()
    scenario.gate.release()
    answer = ask_the_same(app, stream=True)
    assert REPLAY not in answer.headers
    assert b"whole" in answer.content
    first, second = app.ledger.records
    assert (app.record(first).status, app.record(second).status) == ("failed", "settled")


class Server:
    """An ASGI server that tells of a caller's leaving by a failing `send`, as the Lambda runtime does."""

    def __init__(self, app: GatewayApp, *, sends: int) -> None:
        self._app = app
        self._sends = sends
        self.messages: list[Any] = []
        self.gone = asyncio.Event()

    async def send(self, message: Any) -> None:
        if len(self.messages) == self._sends:
            self.gone.set()
            raise ConnectionResetError
        assert not self.gone.is_set()
        self.messages.append(message)

    async def serve(self, content: bytes) -> None:
        body = iter([{"type": "http.request", "body": content, "more_body": False}])
        headers = [(b"authorization", self._app.auth["Authorization"].encode()), (b"idempotency-key", b"one")]

        async def receive() -> Any:
            return next(body)

        await self._app.app(
            {
                "type": "http",
                "method": "POST",
                "path": "/v1/chat/completions",
                "headers": headers,
                "query_string": b"",
                "extensions": {NO_DISCONNECT: {}},
            },
            receive,
            self.send,
        )


@pytest.fixture
def unserved(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    made = GatewayApp(CONFIG.format(base_url=upstream.base_url))
    yield made
    made._socket.close()


@pytest.mark.parametrize("sends", [0, 1, 2])
async def test_where_sending_fails_the_stream_is_read_on(
    unserved: GatewayApp, upstream: OpenAIUpstream, sends: int
) -> None:
    upstream.script("x", ChatStream(text="one two three", pause_s=0.01))
    content = json.dumps(body_of(stream=True)).encode()
    cut = Server(unserved, sends=sends)
    await cut.serve(content)
    assert cut.gone.is_set()
    whole = Server(unserved, sends=99)
    await whole.serve(content)
    head, *blocks = whole.messages
    assert (b"x-gateway-idempotent-replay", b"true") in head["headers"]
    assert b"".join(block["body"] for block in blocks).endswith(b"data: [DONE]\n\n")
    assert_billed_once(unserved, upstream)


async def test_a_server_that_ends_while_it_reads_on_keeps_nothing(
    unserved: GatewayApp, upstream: OpenAIUpstream
) -> None:
    """Lambda's deadline, or a shutdown: the stream is not whole, so that the next try must run."""
    upstream.script("x", ChatStream(text="one two three", gate_after=3), ChatStream(text="whole"))
    content = json.dumps(body_of(stream=True)).encode()
    cut = Server(unserved, sends=1)
    serving = asyncio.create_task(cut.serve(content))
    await asyncio.wait_for(cut.gone.wait(), 5)
    serving.cancel("deadline_exceeded")
    await serving
    assert await asyncio.to_thread(upstream.last().wait_left)
    (record,) = unserved.ledger.records.values()
    assert (record.status, record.error_code, record.usage.estimated) == ("settled", "client_disconnected", True)
    again = Server(unserved, sends=99)
    await again.serve(content)
    assert b"whole" in b"".join(message.get("body", b"") for message in again.messages)
    assert len(upstream.requests) == 2


# --- The store --------------------------------------------------------------------------------------------------------


class Away(MemoryAnswers):
    async def begin(self, claim: AnswerClaim) -> None:
        raise Unavailable("The gateway's own store does not answer.")


def test_without_the_store_the_promise_is_not_made(upstream: OpenAIUpstream) -> None:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url), answers=Away()) as app:
        answer = ask(app)
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "service_unavailable"
        assert answer.headers["retry-after"] == "1"
        assert not upstream.requests
        assert not app.ledger.records
        assert ask(app, key=None).status_code == 200, "others are not concerned"


def test_a_crash_leaves_a_lease(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    """The process died in the middle: its entry says that it runs, until its time is up."""
    ask(app)
    kept = ask_until_done(app)
    assert kept.headers[REPLAY] == "true"
    ((entry, (found, _)),) = app.answers.entries.items()
    dead = replace(found, owner="req_dead", state="running", answer=None)
    now = int(time.time())
    app.answers.entries[entry] = dead, now + 60
    assert ask(app).headers[ORIGINAL] == "req_dead"
    app.answers.entries[entry] = dead, now - 1
    answer = ask(app)
    assert answer.status_code == 200
    assert REPLAY not in answer.headers
    assert len(upstream.requests) == 2
