"""Specifies what a request's several legs come to: what a fresh user found wrong once, and what holds of all of them."""

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
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, chat, error

CONFIG = """
[providers.one]
dialect = "openai_chat"
base_url = "{up.base_url}"
credential = "none"
[providers.two]
dialect = "openai_chat"
base_url = "{up.base_url}"
credential = "none"
[prices."one:a"]
input = "1"
output = "2"
[prices."two:b"]
input = "1"
output = "2"
[models.pair]
deployments = [{{ provider = "one", model = "a" }}]
fallbacks = ["two:b"]
timeouts = {{ first_token_s = 0.6, idle_s = 0.6, total_s = 20 }}
[models.alone]
deployments = [{{ provider = "one", model = "a" }}]
[teams.held]
budget = {{ usd = "5", period = "day" }}
[keys.held]
key = "sk-held-for-a-test"
team = "held"
"""
HELLO = [{"role": "user", "content": "Tell me a long story, please."}]
HELD = "sk-held-for-a-test"


def chunk(text: str | None, reason: str | None = None, index: int = 0) -> dict[str, Any]:
    delta = {} if text is None else {"content": text}
    return {"id": "c", "model": "m", "choices": [{"index": index, "delta": delta, "finish_reason": reason}]}


@pytest.fixture
def up() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as running:
        yield running


@pytest.fixture
def app(up: OpenAIUpstream) -> Iterator[GatewayApp]:
    with GatewayApp(CONFIG.format(up=up)) as running:
        yield running


def ask(app: GatewayApp, model: str, headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
    body = {"model": model, "messages": HELLO, "max_tokens": 100, **more}
    return httpx.post(
        f"{app.base_url}/chat/completions", json=body, headers={**app.auth, **(headers or {})}, timeout=20
    )


@contextlib.contextmanager
def caller(app: GatewayApp, model: str, **more: Any) -> Iterator[socket.socket]:
    """One on a bare socket, so that leaving is nothing but closing it."""
    url = urlsplit(app.root)
    content = json.dumps({"model": model, "messages": HELLO, "max_tokens": 100, **more}).encode()
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer {HELD}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as made:
        made.sendall(head.encode() + content)
        yield made


@pytest.mark.parametrize("restart", [False, True])
def test_done_without_a_reason_is_no_whole_answer(app: GatewayApp, up: OpenAIUpstream, restart: bool) -> None:
    up.script("a", Stream([chunk("half "), chunk("an")], end="done"))
    up.script("b", ChatStream(text="whole"))
    headers = {"x-gateway-stream-recovery": "restart"} if restart else {}
    answer = ask(app, "pair", headers, stream=True)
    if restart:
        assert "whole" in answer.text
        assert "half" not in answer.text
        assert "[DONE]" in answer.text
    else:
        assert "event: error" in answer.text
        assert "[DONE]" not in answer.text


def test_a_choice_without_an_end_is_missed(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("a", Stream([chunk("one"), chunk("two", index=1), chunk(None, "stop")], end="done", pause_s=0.02))
    answer = ask(app, "alone", stream=True, n=2)
    assert "event: error" in answer.text
    assert "[DONE]" not in answer.text


def test_a_vendor_without_reasons_ends_with_done(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("a", Stream([{"choices": [{"index": 0, "delta": {"content": "all"}}]}], end="done"))
    answer = ask(app, "alone", stream=True)
    assert "all" in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")


def test_a_body_that_says_it_is_not_finished_is_no_answer(app: GatewayApp, up: OpenAIUpstream) -> None:
    message = {"role": "assistant", "content": "half an"}
    usage = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}
    torso = Reply({"choices": [{"index": 0, "message": message, "finish_reason": None}], "usage": usage})
    up.script("a", torso)
    up.script("b", chat("whole"))
    answer = ask(app, "pair")
    assert answer.json()["choices"][0]["message"]["content"] == "whole"
    first = app.record(answer.headers["x-request-id"]).attempts[0]
    assert (first.error, first.input_tokens, first.output_tokens) == ("upstream_cut", 10, 5), (
        "it was billed all the same"
    )


@pytest.mark.parametrize("name", ["retry-after", "retry-after-ms"])
@pytest.mark.parametrize("value", ["inf", "1e400", "nan", "-inf", "99999999999999999999", "never"])
def test_no_header_of_a_provider_breaks_an_answer(app: GatewayApp, up: OpenAIUpstream, name: str, value: str) -> None:
    up.script("a", error(429, "slow down", headers={name: value}))
    answer = ask(app, "alone")
    assert (answer.status_code, answer.json()["error"]["message"]) == (429, "slow down")
    assert int(answer.headers.get("retry-after", "0")) <= 7 * 86_400


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_pays_what_was_counted(app: GatewayApp, up: OpenAIUpstream, stream: bool) -> None:
    up.script("a", Stream([], end="stall") if stream else chat(hold=True))
    up.script("b", ChatStream(text="one two three", delay_s=0.4) if stream else chat("one two three", delay_s=0.4))
    with caller(app, "pair", stream=stream):
        deadline = time.monotonic() + 5
        while len(up.requests) < 2 and time.monotonic() < deadline:
            time.sleep(0.01)
    record = app.only_record()
    first, second = record.attempts
    assert (first.provider, second.provider, record.error_code) == ("one", "two", "client_disconnected")
    assert record.cost_usd == (first.cost_usd or 0) + (second.cost_usd or 0)
    assert record.reserved_usd is not None
    assert second.cost_usd is not None
    assert second.cost_usd < Decimal("0.0001"), "what was counted"
    assert first.cost_usd == record.reserved_usd / 2, "what nobody could read to its end costs the most it can"


def test_nobody_is_called_for_who_has_gone(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("a", chat(hold=True))
    with caller(app, "pair"):
        deadline = time.monotonic() + 5
        while not up.requests and time.monotonic() < deadline:
            time.sleep(0.01)
    assert app.only_record().error_code
    assert [request.json["model"] for request in up.requests] == ["a"]


def test_blanks_are_no_answer(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("a", Stream([b" \n"] * 60, end="stall", pause_s=0.1, content_type="application/json"))
    up.script("b", chat("here"))
    began = time.monotonic()
    answer = ask(app, "pair")
    assert answer.json()["choices"][0]["message"]["content"] == "here"
    assert time.monotonic() - began < 4


def test_a_caller_in_haste_opens_no_circuit(app: GatewayApp, up: OpenAIUpstream) -> None:
    up.script("a", chat("slow", delay_s=0.3))
    for _ in range(8):
        assert ask(app, "pair", {"x-gateway-timeout": "0.05"}).status_code == 504
    answer = ask(app, "pair")
    assert answer.headers["x-gateway-provider"] == "one"
    assert ask(app, "pair", {"x-gateway-timeout": "0"}).status_code == 400
