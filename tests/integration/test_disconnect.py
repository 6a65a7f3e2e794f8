"""A caller who leaves: the provider's call is cancelled at once, and what was streamed is settled."""

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Raw, chat

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"
[prices."corp:x"]
input = "1"
output = "2"
"""
HELLO = [{"role": "user", "content": "Tell me a long story, please."}]
AT_ONCE_S = 1.0


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(upstream: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(base_url=upstream.base_url)) as running:
        yield running


@contextlib.contextmanager
def connection(app: GatewayApp, **body: Any) -> Iterator[socket.socket]:
    """A request on a bare socket, so that leaving is nothing but closing it."""
    url = urlsplit(app.root)
    content = json.dumps({"model": "corp:x", "messages": HELLO, **body}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: {app.auth['Authorization']}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as made:
        made.sendall(head.encode() + content)
        yield made


def assert_cancelled_at_once(upstream: OpenAIUpstream) -> None:
    began = time.monotonic()
    assert upstream.last().wait_left(), "the provider still has its caller"
    assert time.monotonic() - began < AT_ONCE_S


@pytest.mark.parametrize("stream", [False, True])
def test_before_the_first_byte(app: GatewayApp, upstream: OpenAIUpstream, stream: bool) -> None:
    scenario = ChatStream(hold=True) if stream else chat(hold=True)
    upstream.script("x", scenario)
    with connection(app, stream=stream):
        scenario.gate.wait_held()
    assert_cancelled_at_once(upstream)
    record = app.only_record()
    assert (record.status, record.error_code, record.http_status) == ("settled", "client_disconnected", None)
    assert record.usage.estimated
    assert record.usage.input_tokens > 0
    assert record.usage.output_tokens == 0
    assert record.cost_usd


def test_in_the_middle_of_a_buffered_answer(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n"
    upstream.script("x", Raw(head + b'{"choices": [{"message": {"content": "Once', close=False))
    with connection(app):
        deadline = time.monotonic() + 5
        while not upstream.requests and time.monotonic() < deadline:
            time.sleep(0.01)
        time.sleep(0.1)  # half of the answer is with the gateway
    assert_cancelled_at_once(upstream)
    record = app.only_record()
    assert (record.status, record.error_code, record.http_status) == ("settled", "client_disconnected", None)
    assert record.usage.estimated
    assert record.cost_usd == Decimal(record.usage.input_tokens) / 10**6


def test_in_mid_stream(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    scenario = ChatStream(text="one two three four five six seven eight", gate_after=4)
    upstream.script("x", scenario)
    with connection(app, stream=True) as caller:
        seen = b""
        while b"three" not in seen:
            seen += caller.recv(4096)
        scenario.gate.wait_held()
    assert_cancelled_at_once(upstream)
    record = app.only_record()
    assert (record.status, record.error_code, record.http_status) == ("settled", "client_disconnected", 200)
    assert record.usage.estimated
    assert 2 <= record.usage.output_tokens <= 6
    assert record.ttft_ms is not None
    billed = record.usage.input_tokens + 2 * record.usage.output_tokens
    assert record.cost_usd == Decimal(billed) / 10**6


def test_after_the_last_byte_is_no_disconnect(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    for stream in (False, True) * 10:
        answer = httpx.post(
            f"{app.base_url}/chat/completions",
            json={"model": "corp:x", "messages": HELLO, "stream": stream},
            headers={**app.auth, "connection": "close"},
        )
        record = app.record(answer.headers["x-request-id"])
        assert (record.status, record.error_code) == ("settled", None)
    assert all(request.left_at is None for request in upstream.requests)


def test_one_who_leaves_does_not_disturb_another(app: GatewayApp, upstream: OpenAIUpstream) -> None:
    scenario = ChatStream(text="a b c", gate_after=1)
    upstream.script("x", scenario)
    with connection(app, stream=True), connection(app, stream=True) as second:
        scenario.gate.wait_held()
        with connection(app, stream=True):
            pass
        scenario.gate.release()
        seen = b""
        while b"[DONE]" not in seen:
            seen += second.recv(4096)
