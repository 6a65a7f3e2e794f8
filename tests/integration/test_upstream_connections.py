"""Specifies the upstream client's pool over real sockets: what it keeps open, sends again and never loses."""

import asyncio
import gc
import threading
from typing import Any

import orjson
import pytest

from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream.client import UpstreamClient, open_client
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Raw, Reply, Vanish
from tests.integration import upstream_calls
from tests.integration.upstream_calls import read_all, request_for

client, up, provider = upstream_calls.client, upstream_calls.up, upstream_calls.provider


class TestConnections:
    async def test_one_after_the_other_they_share_one(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        for stream in (False, True, False):
            await read_all(client, request_for(up, stream=stream))
        assert len({request.connection for request in up.requests}) == 1

    async def test_a_connection_is_free_before_its_answer_is_read(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        first = await client.send(request_for(up))
        second = await client.send(request_for(up))
        assert await first.read(1 << 20) == await second.read(1 << 20) != b""

    @pytest.mark.parametrize(
        "spoiler",
        [
            Reply(b"{}", close=True),
            Reply(b"{}", framing="close"),
            Raw(b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\n{}", close=False),
            Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}garbage", close=False),
            Raw(2 * b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", close=False),
            Reply(b"{}", headers={"keep-alive": "timeout=1"}),
        ],
        ids=["close", "until close", "HTTP/1.0", "garbage", "an answer nobody asked for", "a short keep-alive"],
    )  # fmt: skip
    async def test_after_some_answers_a_connection_is_not_used_again(
        self, up: OpenAIUpstream, client: UpstreamClient, spoiler: Any
    ) -> None:
        up.queue(spoiler)
        assert await read_all(client, request_for(up)) == b"{}"
        assert orjson.loads(await read_all(client, request_for(up)))["object"] == "chat.completion"
        assert up.requests[0].connection != up.requests[1].connection

    async def test_interim_answers_are_skipped(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        early = b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}"
        up.queue(Raw(early))
        response = await client.send(request_for(up))
        assert (response.status, response.headers, await response.read(9)) == (200, {"content-length": "2"}, b"{}")

    async def test_an_idle_connection_that_the_peer_closed_is_noticed(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        await read_all(client, request_for(up))
        await asyncio.to_thread(up.drop_connections)
        await asyncio.sleep(0.05)
        assert await read_all(client, request_for(up))
        assert len(up.requests) == 2

    async def test_a_request_that_a_stale_connection_swallowed_is_sent_again_once(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        await read_all(client, request_for(up))
        up.queue(Vanish())
        assert await read_all(client, request_for(up))
        assert [request.connection for request in up.requests[:2]] == [up.requests[0].connection] * 2
        assert up.requests[2].connection != up.requests[0].connection
        assert up.requests[2].body == up.requests[1].body
        up.queue(Vanish(), Vanish())
        with pytest.raises(UpstreamCut, match="before it answered"):
            await read_all(client, request_for(up))
        assert len(up.requests) == 5

    async def test_a_fresh_connection_that_closes_is_not_tried_again(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(Vanish())
        with pytest.raises(UpstreamCut, match="before it answered"):
            await read_all(client, request_for(up))
        assert len(up.requests) == 1

    async def test_an_answer_that_began_is_never_asked_for_again(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        await read_all(client, request_for(up))
        up.queue(Raw(b"HTTP/1.1 200"))
        with pytest.raises(UpstreamCut):
            await read_all(client, request_for(up))
        assert len(up.requests) == 2

    async def test_the_number_of_connections_is_bounded(self, up: OpenAIUpstream) -> None:
        client = open_client(max_connections=2)
        held = [Reply(b"1", hold=True), Reply(b"2", hold=True)]
        up.queue(*held)
        tasks = [asyncio.create_task(read_all(client, request_for(up))) for _ in held]
        for each in held:
            await asyncio.to_thread(each.gate.wait_held)
        with pytest.raises(UpstreamTimeout, match=r"all 2 connections to 127\.0\.0\.1 stayed busy for 0\.1 s"):
            await client.send(request_for(up, connect_s=0.1))
        waiting = asyncio.create_task(read_all(client, request_for(up)))
        held[0].gate.release()
        held[1].gate.release()
        assert {await task for task in tasks} == {b"1", b"2"}
        assert await waiting
        await client.close()

    async def test_no_slot_is_lost_whatever_happens(self, up: OpenAIUpstream) -> None:
        client = open_client(max_connections=1)
        for scenario in (
            Vanish(),
            Reply(cut_at=0, body=b"x"),
            Raw(b"junk"),
            ChatStream(gate_after=0),
            Reply(hold=True),
        ):
            up.queue(scenario)
            try:
                response = await client.send(request_for(up, first_byte_s=0.1))
                await response.close()
            except UpstreamError:
                pass  # Which one is told elsewhere; here the next request must get through.
        with pytest.raises(UpstreamUnreachable):
            await client.send(request_for("http://127.0.0.1:1/"))
        assert await read_all(client, request_for(up, connect_s=0.5))
        await client.close()

    async def test_many_at_once(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        bodies = await asyncio.gather(*[read_all(client, request_for(up, f"m{at}")) for at in range(100)])
        assert sorted(orjson.loads(body)["model"] for body in bodies) == sorted(f"m{at}" for at in range(100))

    async def test_close_ends_what_is_under_way_and_the_client_can_be_used_again(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(ChatStream(gate_after=0))
        response = await client.send(request_for(up, stream=True))
        before = up.last().connection
        await client.close()
        with pytest.raises(UpstreamCut):
            await response.read(100)
        assert await asyncio.to_thread(up.last().wait_left)
        assert await read_all(client, request_for(up))
        assert up.last().connection != before

    def test_a_client_may_meet_several_event_loops(self, up: OpenAIUpstream) -> None:
        """The buffered handler runs one loop after another over one app."""
        client = open_client()

        async def once() -> bytes:
            body = await read_all(client, request_for(up))
            await client.close()
            return body

        assert asyncio.run(once()) == asyncio.run(once()) != b""

    async def test_nothing_is_left_behind(self, up: OpenAIUpstream) -> None:
        client = open_client()
        threads = threading.active_count()
        await asyncio.gather(*[read_all(client, request_for(up, stream=bool(at % 2))) for at in range(20)])
        await client.close()
        gc.collect()  # An unclosed transport would warn now, and a warning is an error.
        assert threading.active_count() == threads, "an address needs no look-up, so no thread"
