"""Specifies what the upstream client raises and when: a cut or senseless answer, silence, nobody there.

A caller who cancels or closes ends the exchange too: the provider notices at once.
"""

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream.client import UpstreamClient
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Raw, Reply, Vanish
from tests.integration import upstream_calls
from tests.integration.upstream_calls import KEY, read_all, request_for

client, up, provider = upstream_calls.client, upstream_calls.up, upstream_calls.provider


async def collect(response: HttpResponse, keep: Callable[[bytes], object]) -> None:
    async for piece in response.chunks():
        keep(piece)


BROKEN: list[tuple[str, Any, type[UpstreamError]]] = [
    ("length short", Reply(b"x" * 100, cut_at=50), UpstreamCut),
    ("no byte of the body", Reply(b"x" * 100, cut_at=0), UpstreamCut),
    ("chunks without an end", ChatStream(end="cut"), UpstreamCut),
    ("in an event", ChatStream(end="cut_mid_event"), UpstreamCut),
    ("length of a stream short", ChatStream(end="cut", framing="length"), UpstreamCut),
    ("in the head", Raw(b"HTTP/1.1 200 OK\r\ncontent-ty"), UpstreamCut),
    ("in the status line", Raw(b"HTT"), UpstreamCut),
    ("after an interim answer", Raw(b"HTTP/1.1 100 Continue\r\n\r\n"), UpstreamCut),
    ("in a chunk", Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"), UpstreamCut),
    ("no HTTP", Raw(b"SSH-2.0-OpenSSH_9.6\r\n"), UpstreamMalformed),
    ("a broken chunk", Raw(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n"), UpstreamMalformed),
    ("two lengths", Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab"), UpstreamMalformed),
    ("another protocol", Raw(b"HTTP/1.1 101 X\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\nx"), UpstreamMalformed),
    ("endless headers", Raw(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 2000), UpstreamMalformed),
    ("a huge header", Raw(b"HTTP/1.1 200 OK\r\na: " + b"b" * 300_000 + b"\r\n\r\n", close=False), UpstreamMalformed),
    ("nothing at all, twice", Vanish(), UpstreamCut),
]  # fmt: skip


class TestFailures:
    @pytest.mark.parametrize(("scenario", "error"), [row[1:] for row in BROKEN], ids=[row[0] for row in BROKEN])
    async def test_a_body_that_ends_too_soon_or_makes_no_sense(
        self, up: OpenAIUpstream, client: UpstreamClient, scenario: Any, error: type[UpstreamError]
    ) -> None:
        up.queue(scenario)
        with pytest.raises(error) as caught:
            await read_all(client, request_for(up))
        assert "127.0.0.1" in caught.value.message
        assert KEY not in caught.value.message
        assert await read_all(client, request_for(up)), "the next request is not harmed"

    async def test_what_came_before_the_cut_is_delivered(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Reply(b"x" * 100, cut_at=50))
        response = await client.send(request_for(up))
        pieces: list[bytes] = []
        with pytest.raises(UpstreamCut, match=r"127\.0\.0\.1 closed the connection in the middle of its answer"):
            await collect(response, pieces.append)
        assert b"".join(pieces) == b"x" * 50

    async def test_read_refuses_more_than_its_limit(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Reply(b"x" * 1001), Reply(b"x" * 1000))
        with pytest.raises(UpstreamMalformed, match="more than 1000 bytes"):
            await (await client.send(request_for(up))).read(1000)
        assert len(await (await client.send(request_for(up))).read(1000)) == 1000

    @pytest.mark.parametrize(
        ("url", "reason"),
        [("http://name.invalid/v1", "the name does not resolve"), ("http://127.0.0.1:1/v1", "connection refused")],
    )
    async def test_no_connection(self, client: UpstreamClient, url: str, reason: str) -> None:
        with pytest.raises(UpstreamUnreachable, match=reason):
            await client.send(request_for(url))

    async def test_other_schemes_are_refused(self, client: UpstreamClient) -> None:
        with pytest.raises(UpstreamUnreachable, match="http:// or https://"):
            await client.send(request_for("file:///etc/passwd"))


class TestLengths:
    """A provider that cannot count."""

    async def test_more_than_was_announced_is_no_part_of_the_answer_nor_of_the_next(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfirst and more", close=False))
        assert await read_all(client, request_for(up)) == b"first"
        assert b"chat.completion" in await read_all(client, request_for(up))
        assert up.requests[0].connection != up.requests[1].connection
        assert up.requests[0].wait_left()

    async def test_less_than_was_announced_is_silence(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\nfirst", close=False))
        with pytest.raises(UpstreamTimeout, match="sent nothing for"):
            await read_all(client, request_for(up, idle_s=0.2))

    @pytest.mark.parametrize("content_type", ["text/html", "application/json", "image/png", "", "text/event-stream"])
    async def test_the_content_type_is_the_dialects_business(
        self, up: OpenAIUpstream, client: UpstreamClient, content_type: str
    ) -> None:
        up.queue(ChatStream(text="a b", content_type=content_type), Reply({"a": 1}, content_type=content_type))
        assert (await read_all(client, request_for(up, stream=True))).endswith(b"[DONE]\n\n")
        assert await read_all(client, request_for(up)) == b'{"a": 1}'


class TestEnding:
    """`end`: what comes too late for somebody who keeps another clock than the client's own."""

    async def test_what_has_come_is_read_and_then_the_error(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(ChatStream(gate_after=1))
        response = await client.send(request_for(up, stream=True))
        pieces = response.chunks()
        await anext(pieces)
        waiting = asyncio.ensure_future(pieces.__anext__())
        await asyncio.sleep(0.02)
        late = UpstreamTimeout("too late")
        response.end(late)
        for reader in (waiting, pieces.__anext__()):
            with pytest.raises(UpstreamTimeout, match="too late"):
                await reader
        assert await asyncio.to_thread(up.last().wait_left)
        response.end(UpstreamTimeout("once more"))
        await response.close()

    async def test_an_answer_that_is_there_stays_whole(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        response = await client.send(request_for(up))
        await asyncio.to_thread(up.last().wait_over)
        await asyncio.sleep(0.02)
        response.end(UpstreamTimeout("too late"))
        assert b"chat.completion" in await response.read(1 << 20)
        response.end(UpstreamTimeout("too late"))
        await response.close()
        assert await read_all(client, request_for(up))
        assert up.requests[0].connection == up.requests[1].connection, "nor does it end the next exchange"


class TestTime:
    async def test_no_connection_in_time(self, client: UpstreamClient) -> None:
        """A listener with a full backlog neither accepts nor refuses."""
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen(0)
            port = listener.getsockname()[1]
            fillers = [socket.socket() for _ in range(4)]
            for filler in fillers:
                filler.setblocking(False)
                filler.connect_ex(("127.0.0.1", port))
            try:
                start = time.monotonic()
                with pytest.raises(UpstreamTimeout, match=r"no connection to 127\.0\.0\.1 within 0\.2 s"):
                    await client.send(request_for(f"http://127.0.0.1:{port}/", connect_s=0.2))
                assert 0.15 < time.monotonic() - start < 2
            finally:
                for filler in fillers:
                    filler.close()

    async def test_no_head_in_time(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Reply(hold=True))
        start = time.monotonic()
        with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.2 s"):
            await client.send(request_for(up, first_byte_s=0.2, idle_s=5))
        assert 0.15 < time.monotonic() - start < 2
        assert await asyncio.to_thread(up.last().wait_left)

    async def test_a_head_that_drips_is_late_too(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Raw(b"HTTP/1.1 200 OK\r\ncontent-", close=False))
        with pytest.raises(UpstreamTimeout, match="did not answer"):
            await client.send(request_for(up, first_byte_s=0.2))

    @pytest.mark.parametrize(("first_byte_s", "idle_s"), [(5.0, 0.2), (0.3, 0.2), (0.2, 0.5)])
    async def test_silence_in_a_body(
        self, up: OpenAIUpstream, client: UpstreamClient, first_byte_s: float, idle_s: float
    ) -> None:
        up.queue(ChatStream(text="a", end="stall", pause_s=0.05))
        response = await client.send(request_for(up, stream=True, first_byte_s=first_byte_s, idle_s=idle_s))
        came: list[tuple[float, bytes]] = []
        with pytest.raises(UpstreamTimeout, match=f"sent nothing for {idle_s:g} s"):
            await collect(response, lambda piece: came.append((time.monotonic(), piece)))
        assert b"".join(piece for _, piece in came).count(b"\n\n") == 3
        assert idle_s * 0.8 < time.monotonic() - came[-1][0] < idle_s + 1
        assert await asyncio.to_thread(up.last().wait_left)

    async def test_a_stream_may_last_longer_than_any_single_limit(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(ChatStream(text="a b c d e f", pause_s=0.1))
        body = await read_all(client, request_for(up, stream=True, first_byte_s=0.3, idle_s=0.3))
        assert body.endswith(b"[DONE]\n\n")


class TestCancellation:
    async def test_before_the_head(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        held = Reply(hold=True)
        up.queue(held)
        task = asyncio.create_task(client.send(request_for(up)))
        await asyncio.to_thread(held.gate.wait_held)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        cancelled = time.monotonic()
        assert await asyncio.to_thread(up.last().wait_left)
        assert (up.last().left_at or 0) - cancelled < 0.5

    async def test_while_it_waits_for_the_body(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(ChatStream(gate_after=1))
        response = await client.send(request_for(up, stream=True))
        pieces = response.chunks()
        await anext(pieces)
        task = asyncio.ensure_future(pieces.__anext__())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await response.close()
        assert await asyncio.to_thread(up.last().wait_left)

    async def test_closing_a_half_read_answer(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(ChatStream(gate_after=1))
        response = await client.send(request_for(up, stream=True))
        await anext(response.chunks())
        closed = time.monotonic()
        await response.close()
        assert await asyncio.to_thread(up.last().wait_left)
        assert (up.last().left_at or 0) - closed < 0.5
        assert [piece async for piece in response.chunks()] == []

    async def test_closing_from_elsewhere_ends_a_wait(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(ChatStream(gate_after=0))
        response = await client.send(request_for(up, stream=True))
        waiting = asyncio.create_task(response.read(100))
        await asyncio.sleep(0.05)
        await response.close()
        assert await asyncio.wait_for(waiting, 2) == b""
