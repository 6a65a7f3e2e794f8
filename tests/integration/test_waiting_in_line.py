"""Waiting in line as callers meet it: over HTTP, instead of a 429."""

import asyncio
import json
import socket
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, Self
from urllib.parse import urlsplit

import httpx
import pytest

from tests.fakes.gateway_app import GatewayApp
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, chat

CONFIG = """
[providers.corp]
base_url = "{base_url}"
[keys.prod]
key = "sk-prod-key"
limits = {{ parallel = 1 }}
{more}
"""
AUTH = {"Authorization": "Bearer sk-prod-key"}
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture
def upstream() -> Iterator[OpenAIUpstream]:
    with OpenAIUpstream() as upstream:
        upstream.script("x", chat())
        yield upstream


def app_of(upstream: OpenAIUpstream, more: str = "", **given: Any) -> GatewayApp:
    return GatewayApp(CONFIG.format(base_url=upstream.base_url, more=more), secrets={"corp": "sk-corp"}, **given)


class Held:
    """A call that takes the key's one place until it is released."""

    def __init__(self, upstream: OpenAIUpstream, app: GatewayApp) -> None:
        self._stream = ChatStream(gate_after=2)
        upstream.script("slow", self._stream)
        self._app = app

    async def __aenter__(self) -> Self:
        self._client = httpx.AsyncClient(timeout=30)
        request = self._client.build_request(
            "POST",
            f"{self._app.base_url}/chat/completions",
            json={"model": "corp:slow", "messages": HELLO, "stream": True},
            headers=AUTH,
        )
        self._answer = await self._client.send(request, stream=True)
        assert self._answer.status_code == 200, await self._answer.aread()
        return self

    async def release(self) -> None:
        self._stream.gate.release()
        await self._answer.aread()

    async def __aexit__(self, *_: object) -> None:
        self._stream.gate.release()
        await self._answer.aclose()
        await self._client.aclose()


async def post(app: GatewayApp, headers: Mapping[str, str] | None = None, **fields: Any) -> httpx.Response:
    async with httpx.AsyncClient(timeout=30) as client:
        return await client.post(
            f"{app.base_url}/chat/completions",
            json={"model": "corp:x", "messages": HELLO, **fields},
            headers={**AUTH, **(headers or {})},
        )


@pytest.mark.parametrize("stream", [False, True])
async def test_a_request_waits_for_its_place_and_says_how_long(upstream: OpenAIUpstream, *, stream: bool) -> None:
    upstream.script("x", ChatStream() if stream else chat())
    with app_of(upstream) as app:
        async with Held(upstream, app) as held:
            waiting = asyncio.ensure_future(post(app, {"x-gateway-queue": "20"}, stream=stream))
            await asyncio.sleep(0.4)
            assert not waiting.done()
            await held.release()
            answer = await waiting
    assert answer.status_code == 200, answer.text
    assert 300 <= int(answer.headers["x-gateway-queued-ms"]) < 5000
    assert float(answer.headers["x-gateway-overhead-ms"]) < 300, "waiting is no overhead"


async def test_its_time_over_it_is_a_429_that_says_how_long_it_waited(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        async with Held(upstream, app):
            began = time.monotonic()
            answer = await post(app, {"x-gateway-queue": "0.5"})
            took_s = time.monotonic() - began
        record = app.record(answer.headers["x-request-id"])
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert "1 parallel requests, 1 used" in answer.json()["error"]["message"]
    assert 0.5 <= took_s < 3
    assert int(answer.headers["x-gateway-queued-ms"]) >= 400
    assert (record.status, record.http_status, len(upstream.requests)) == ("failed", 429, 1)


async def test_without_the_wish_it_is_a_429_at_once(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        async with Held(upstream, app):
            answer = await post(app)
    assert answer.status_code == 429
    assert "x-gateway-queued-ms" not in answer.headers


@pytest.mark.parametrize(
    "more", ["queue_s = 20", 'team = "t"\n[teams.t]\nqueue_s = 20', "[organisation]\nqueue_s = 20\n"]
)
async def test_a_key_waits_as_it_is_configured(upstream: OpenAIUpstream, more: str) -> None:
    with app_of(upstream, more) as app:
        async with Held(upstream, app) as held:
            refused = await post(app, {"x-gateway-queue": "0"})
            waiting = asyncio.ensure_future(post(app))
            await asyncio.sleep(0.3)
            await held.release()
            answer = await waiting
    assert (refused.status_code, answer.status_code) == (429, 200)


async def test_an_alias_waits_as_it_is_configured(upstream: OpenAIUpstream) -> None:
    alias = '[models.fast]\nqueue_s = 20\ndeployments = [{ provider = "corp", model = "x" }]'
    with app_of(upstream, alias) as app:
        async with Held(upstream, app) as held:
            waiting = asyncio.ensure_future(post(app, model="fast"))
            await asyncio.sleep(0.3)
            await held.release()
            answer = await waiting
    assert answer.status_code == 200, answer.text


async def test_they_are_let_in_as_they_came(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        async with Held(upstream, app) as held:
            waiting = []
            for number in range(6):
                content = [{"role": "user", "content": f"number {number}"}]
                waiting.append(asyncio.ensure_future(post(app, {"x-gateway-queue": "30"}, messages=content)))
                await asyncio.sleep(0.1)
            await held.release()
            answers = await asyncio.gather(*waiting)
    assert [each.status_code for each in answers] == [200] * 6
    said = [each.json["messages"][0]["content"] for each in upstream.requests[1:]]
    assert said == [f"number {number}" for number in range(6)]


async def test_who_leaves_is_out_of_the_line_and_nobody_is_called_for_them(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        async with Held(upstream, app) as held:
            await asyncio.to_thread(_ask_and_leave, app)
            await asyncio.sleep(0.3)
            gone = next(each for each in app.ledger.records.values() if each.routed_model == "x")
            ended = await asyncio.to_thread(app.record, gone.request_id, seconds=1.0)
            await held.release()
            answer = await post(app, {"x-gateway-queue": "5"})
    assert ended.error_code == "client_disconnected"
    assert ended.cost_usd == Decimal(0)
    assert answer.status_code == 200
    assert len(upstream.requests) == 2


def _ask_and_leave(app: GatewayApp) -> None:
    url = urlsplit(app.root)
    content = json.dumps({"model": "corp:x", "messages": HELLO}).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: gateway\r\nauthorization: Bearer sk-prod-key\r\n"
        f"x-gateway-queue: 60\r\ncontent-length: {len(content)}\r\n\r\n"
    )
    with socket.create_connection((url.hostname or "", url.port or 0), timeout=5) as made:
        made.sendall(head.encode() + content)
        time.sleep(0.4)


@pytest.mark.parametrize("wish", ["61", "-1", "soon", "nan", "inf", ""])
async def test_a_wish_that_is_none_is_a_400(upstream: OpenAIUpstream, wish: str) -> None:
    with app_of(upstream) as app:
        answer = await post(app, {"x-gateway-queue": wish})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "x-gateway-queue"
    assert not upstream.requests


async def test_it_waits_no_longer_than_its_callers_timeout(upstream: OpenAIUpstream) -> None:
    with app_of(upstream) as app:
        async with Held(upstream, app):
            began = time.monotonic()
            answer = await post(app, {"x-gateway-queue": "30", "x-gateway-timeout": "1.5"})
            took_s = time.monotonic() - began
    assert answer.status_code == 429
    assert 0.4 < took_s < 1.5
