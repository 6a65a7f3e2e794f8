"""Calls that end before their answer does: billed as far as their provider had them, and not at all where it had not."""

import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from decimal import Decimal
from typing import Any

import httpx
import orjson
import pytest

from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import UpstreamTimeout
from llm_gateway.upstream.authorize import Unauthorized
from tests.fakes.faulty_upstream import Close, FaultyUpstream, Hang, Pause, Send, Steps
from tests.fakes.gateway_app import GatewayApp

HELLO = [{"role": "user", "content": "Tell me a long story, please."}]
KEY = "sk-one-for-a-test"
PROMPT_TOKENS = 14
"""Of `HELLO`, as the gateway estimates it."""
EVENT_STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n"
WHOLE = orjson.dumps(
    {
        "id": "c",
        "model": "m",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "hi"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7},
    }
)


def answer(status: int, body: bytes) -> bytes:
    head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def event(text: str | None, reason: str | None = None) -> bytes:
    choice = {"index": 0, "delta": {} if text is None else {"content": text}, "finish_reason": reason}
    return b"data: " + orjson.dumps({"id": "c", "model": "m", "choices": [choice]}) + b"\n\n"


def provider(name: str, url: str, credential: str = "none", more: str = "") -> str:
    return f"""
[providers.{name}]
base_url = "{url}/v1"
credential = "{credential}"
{more}
[prices."{name}:m"]
input = "1000"
output = "2000"
"""


def alias(name: str, first: str, more: str = "") -> str:
    return f'[models.{name}]\ndeployments = [{{ provider = "{first}", model = "m" }}]\nretries = 0\n{more}\n'


def ask(
    app: GatewayApp, model: str, *, stream: bool = False, timeout: float = 20, key: str | None = None, **more: Any
) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "stream": stream, **more}
    headers = app.auth if key is None else {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{app.base_url}/chat/completions", json=body, headers=headers, timeout=timeout)


def billed(record: RequestRecord) -> tuple[int, Decimal | None]:
    return record.usage.input_tokens, record.cost_usd


@pytest.fixture
def up() -> Iterator[FaultyUpstream]:
    with FaultyUpstream() as running:
        yield running


@contextmanager
def never_accepting() -> Iterator[str]:
    """The URL of a host that a connection is begun to and never made: its backlog is full."""
    with ExitStack() as open_:
        listener = open_.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = open_.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize("budget", ["", 'team = "held"\n[teams.held]\nbudget = { usd = "500", period = "total" }'])
def test_one_that_another_overtakes_while_it_connects_costs_nothing(up: FaultyUpstream, budget: str) -> None:
    up.serve("good", lambda _: [Send(answer(200, WHOLE))])
    with never_accepting() as dead:
        config = provider("dead", dead) + provider("good", up.url("good")) + alias("good", "good")
        config += alias("pair", "dead", 'fallbacks = ["good"]\nhedge = { after = 0.1, percent = 100 }')
        with GatewayApp(f'{config}[keys.one]\nkey = "{KEY}"\n{budget}\n') as app:
            reply = ask(app, "pair", key=KEY, max_tokens=10)
            record = app.record(reply.headers["x-request-id"])
    assert reply.headers["x-gateway-route"] == "weighted; dead:m=given_up; good:m"
    assert bool(record.reserved_usd) == bool(budget)
    lost, won = record.attempts
    assert (lost.input_tokens, lost.cost_usd) == (0, Decimal(0))
    assert (billed(record), record.usage.estimated, won.input_tokens) == ((3, Decimal("0.011")), False, 3)


def test_who_leaves_while_it_connects_pays_nothing() -> None:
    with never_accepting() as dead, GatewayApp(provider("dead", dead)) as app:
        with pytest.raises(httpx.TimeoutException):
            ask(app, "dead:m", timeout=0.4)
        record = app.only_record()
    assert (record.status, record.error_code, billed(record)) == ("settled", "client_disconnected", (0, Decimal(0)))


class TokenNeverCame:
    """An `Authorizer` whose credential would have to be fetched first, from whoever is silent."""

    needs_key = True

    async def authorize(self, provider: Provider, key: str | None, request: Unauthorized) -> dict[str, str]:
        del provider, key, request
        raise UpstreamTimeout("The token endpoint did not answer.")

    def renew(self, key: str | None, sent: Any) -> bool:
        del key, sent
        return False


def test_a_credential_that_never_came_costs_nothing(up: FaultyUpstream) -> None:
    up.serve("good", lambda _: [Send(answer(200, WHOLE))])
    config = provider("corp", up.url("good"), "bearer") + alias("alone", "corp")
    with GatewayApp(config, secrets={"corp": "sk-corp"}, authorizers={"bearer": TokenNeverCame()}) as app:
        reply = ask(app, "alone")
        record = app.record(reply.headers["x-request-id"])
    assert (reply.status_code, billed(record), up.seen("good")) == (504, (0, Decimal(0)), [])


def test_a_shutdown_bills_what_the_providers_had(up: FaultyUpstream) -> None:
    half = b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id"'
    up.serve("silent", lambda _: [Hang()])
    up.serve("half", lambda _: [Send(half), Hang()])
    with never_accepting() as dead:
        config = provider("silent", up.url("silent")) + provider("half", up.url("half")) + provider("dead", dead)
        with GatewayApp(config) as app, ThreadPoolExecutor() as pool:
            asked = [pool.submit(ask, app, f"{name}:m") for name in ("silent", "half", "dead")]
            while not (up.seen("silent") and up.seen("half") and len(app.ledger.records) == 3):
                time.sleep(0.01)
            time.sleep(0.1)  # half of an answer is with the gateway
            app.shut_down(grace_s=0.1)
            replies = [each.result() for each in asked]
            records = [app.record(reply.headers["x-request-id"]) for reply in replies]
    assert [(reply.status_code, reply.json()["error"]["code"]) for reply in replies] == [(503, "shutting_down")] * 3
    had = (PROMPT_TOKENS, Decimal(PROMPT_TOKENS) / 1000)
    assert [billed(record) for record in records] == [had, had, (0, Decimal(0))]
    assert {record.status for record in records} == {"failed"}


def answering_at_once(answers: dict[str, bytes]) -> tuple[str, threading.Thread]:
    """The URL of a host that waits for a request at each path, and then answers all of them in one go."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        held: dict[str, socket.socket] = {}
        with listener:
            while len(held) < len(answers):
                made, _ = listener.accept()
                got = b""
                while b"\r\n\r\n" not in got or not got.endswith(b"}"):
                    got += made.recv(65536)
                held[got.split(b" ")[1].decode().split("/")[1]] = made
        time.sleep(0.05)
        for path, made in held.items():
            made.sendall(answers[path])
        for made in held.values():
            made.close()

    serving = threading.Thread(target=run, daemon=True)
    serving.start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}", serving


def test_one_that_is_refused_in_the_moment_the_other_answers_is_told_so_and_costs_nothing() -> None:
    refusal = answer(500, b'{"error": {"message": "no"}}')
    url, serving = answering_at_once({"a": refusal, "b": answer(200, WHOLE)})
    config = provider("a", f"{url}/a") + provider("b", f"{url}/b") + alias("good", "b")
    config += alias("pair", "a", 'fallbacks = ["good"]\nhedge = { after = 0.1, percent = 100 }')
    with GatewayApp(config) as app:
        reply = ask(app, "pair")
        record = app.record(reply.headers["x-request-id"])
    serving.join(5)
    assert reply.headers["x-gateway-route"] == "weighted; a:m=500; b:m"
    assert (billed(record), [attempt.status for attempt in record.attempts]) == ((3, Decimal("0.011")), [500, 200])


def test_a_caller_who_reads_nothing_is_hung_up_on_when_the_time_is_up(up: FaultyUpstream) -> None:
    up.serve("long", lambda _: [Send(EVENT_STREAM + event("x" * 60_000) * 400), Hang()])
    config = provider("long", up.url("long")) + alias("brief", "long", "timeouts = { idle_s = 0.5, total_s = 1.5 }")
    config += f'[keys.one]\nkey = "{KEY}"\nlimits = {{ parallel = 1 }}\n'
    body = orjson.dumps({"model": "brief", "messages": HELLO, "stream": True})
    with GatewayApp(config) as app, socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = app.root.removeprefix("http://").split(":")
        caller.connect((host, int(port)))
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: g\r\nauthorization: Bearer {KEY}\r\n"
        caller.sendall(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        record = app.only_record(seconds=5)
        left = up.seen("long")[0].over.wait(5)
        again = ask(app, "echo:echo", key=KEY)
    assert (record.status, record.error_code, again.status_code) == ("settled", "client_disconnected", 200)
    assert record.usage.output_tokens > 0
    assert left, "the provider's connection is free"


@pytest.mark.parametrize("lacking", ["no key", "key unreadable"])
def test_a_fallback_without_a_key_is_passed_over_in_mid_stream_too(up: FaultyUpstream, lacking: str) -> None:
    def rest(_: object) -> Steps:
        return [Send(EVENT_STREAM + event("a king.") + event(None, "stop") + b"data: [DONE]\n\n"), Close()]

    up.serve("cut", lambda _: [Send(EVENT_STREAM + event("once upon a time there was ")), Pause(0.05), Close()])
    up.serve("good", rest)
    takes = 'quirks = { prefill = "plain" }'
    config = provider("cut", up.url("cut"), more=takes) + provider("good", up.url("good"), more=takes)
    config += provider("keyless", up.url("good"), "bearer", takes) + alias("good", "good")
    config += alias("keyless", "keyless") + alias("told", "cut", 'fallbacks = ["keyless", "good"]')
    secrets = {} if lacking == "no key" else {"keyless": "{"}
    with GatewayApp(config, secrets=secrets) as app:
        reply = ask(app, "told", stream=True)
        record = app.record(reply.headers["x-request-id"])
    assert reply.text.endswith("data: [DONE]\n\n")
    assert "a king." in reply.text
    assert len(up.seen("good")) == 1
    assert [attempt.provider for attempt in record.attempts] == ["cut", "keyless", "good"]
