"""Telemetry hooks: what handlers are told, and that none of them can break or delay a call."""

import asyncio
import logging
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from llm_gateway import CallFailed, CallStarted, CallStopped, Gateway, GatewayError
from tests.fakes.virtual_time import in_virtual_time

HELLO = [{"role": "user", "content": "Hello there"}]


async def test_a_call_is_told_of_from_start_to_stop() -> None:
    events: list[Any] = []
    async with Gateway(environ={}) as gateway:
        gateway.attach(events.append)
        answer = await gateway.chat_completion("search", HELLO, model="echo:demo", tags={"job": "n"})
    started, stopped = events
    assert isinstance(started, CallStarted)
    assert isinstance(stopped, CallStopped)
    assert [event.kind for event in events] == ["start", "stop"]
    for event in events:
        assert event.request_id == answer.request_id
        assert (event.endpoint, event.team, event.requested_model) == ("chat.completions", "search", "echo:demo")
        assert (event.stream, event.tags) == (False, {"job": "n"})
    assert started.at_ns > 1_700_000_000 * 10**9
    assert 0 < stopped.duration_ns < 60 * 10**9
    assert stopped.first_content_ns is None
    assert (stopped.provider, stopped.model, stopped.finish_reason) == ("echo", "demo", "stop")
    assert (stopped.usage, stopped.cost_usd) == (answer.usage, Decimal("0.000008"))
    assert "Hello there" not in repr(events)


async def test_a_stream_is_told_of_when_it_is_over() -> None:
    events: list[Any] = []
    async with Gateway(environ={}) as gateway:
        gateway.attach(events.append)
        stream = await gateway.chat_completion("t", HELLO, model="echo:demo", stream=True)
        assert [event.kind for event in events] == ["start"]
        async for _ in stream:
            pass
        left = await gateway.chat_completion("t", HELLO, model="echo:demo", stream=True)
        await left.aclose()
    whole, abandoned = (event for event in events if event.kind == "stop")
    assert isinstance(whole.first_content_ns, int)
    assert 0 < whole.first_content_ns <= whole.duration_ns
    assert whole.usage.output_tokens == 3
    assert (whole.abandoned, abandoned.abandoned) == (False, True)


@in_virtual_time
async def test_a_failure_is_told_once() -> None:
    events: list[Any] = []
    async with Gateway(environ={}) as gateway:
        gateway.attach(events.append)
        with pytest.raises(GatewayError) as error:
            await gateway.chat_completion("t", HELLO, model="echo:error-429")
        broken = await gateway.chat_completion("t", HELLO, model="echo:cut", stream=True)
        with pytest.raises(GatewayError):
            _ = [chunk async for chunk in broken]
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await gateway.chat_completion("t", HELLO, model="echo:no-answer")
    assert [event.kind for event in events] == ["start", "exception"] * 3
    refused, cut, cancelled = (event for event in events if isinstance(event, CallFailed))
    assert refused.error is error.value
    assert (refused.http_status, refused.error_code, refused.provider) == (429, "rate_limit_exceeded", "echo")
    assert (cut.http_status, cut.error_code) == (502, "upstream_cut")
    assert isinstance(cancelled.error, asyncio.CancelledError)
    assert cancelled.http_status is None


async def test_handlers_that_fail_break_nothing_and_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[str] = []

    def broken(event: Any) -> None:
        raise RuntimeError(f"sync {event.kind}")

    async def broken_later(event: Any) -> None:
        await asyncio.sleep(0)
        raise RuntimeError(f"async {event.kind}")

    with caplog.at_level(logging.ERROR):
        async with Gateway(environ={}) as gateway:
            gateway.attach(broken)
            gateway.attach(broken_later)
            gateway.attach(lambda event: heard.append(event.kind))
            for _ in range(3):
                assert (await gateway.chat_completion("t", HELLO, model="echo:demo")).content
    assert heard == ["start", "stop"] * 3
    assert len([record for record in caplog.records if record.name == "llm_gateway.telemetry"]) == 2
    assert "sync start" in caplog.text
    assert "async start" in caplog.text


async def test_async_handlers_are_heard_out_and_hold_nothing_up() -> None:
    heard: list[str] = []
    gate = asyncio.Event()

    async def slow(event: Any) -> None:
        await gate.wait()
        heard.append(event.kind)

    async with Gateway(environ={}) as gateway:
        gateway.attach(slow)
        await gateway.chat_completion("t", HELLO, model="echo:demo")
        assert heard == []
        gate.set()
    assert sorted(heard) == ["start", "stop"]


@in_virtual_time
async def test_a_handler_that_never_ends_is_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_gateway.observability.telemetry._CLOSE_S", 0.01)
    cancelled: list[str] = []

    async def stuck(event: Any) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(event.kind)
            raise

    async with Gateway(environ={}) as gateway:
        gateway.attach(stuck)
        await gateway.chat_completion("t", HELLO, model="echo:demo")
    await asyncio.sleep(0)
    assert sorted(cancelled) == ["start", "stop"]


async def test_a_detached_handler_hears_no_more() -> None:
    heard: list[str] = []
    async with Gateway(environ={}) as gateway:
        detach: Callable[[], None] = gateway.attach(lambda event: heard.append(event.kind))
        await gateway.chat_completion("t", HELLO, model="echo:demo")
        detach()
        detach()
        await gateway.chat_completion("t", HELLO, model="echo:demo")
    assert heard == ["start", "stop"]
