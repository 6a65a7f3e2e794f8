"""Specifies how the upstream client hands on a provider's body: as it comes, in any framing, compressed or not."""

import asyncio
from typing import Any

import orjson
import pytest

from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed
from llm_gateway.upstream.client import UpstreamClient
from llm_gateway.upstream.framing import SseFramer
from llm_gateway.upstream.response import HIGH_WATER
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream, Reply, Stream, chat
from tests.integration import upstream_calls
from tests.integration.upstream_calls import read_all, request_for

client, up, provider = upstream_calls.client, upstream_calls.up, upstream_calls.provider


class TestStreams:
    async def test_the_first_piece_comes_while_the_provider_still_produces(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        stream = ChatStream(text="a b c", gate_after=2)
        up.queue(stream)
        response = await client.send(request_for(up, stream=True))
        pieces = response.chunks()
        got = await anext(pieces)
        while got.count(b"\n\n") < 2:
            got += await anext(pieces)
        assert up.last().done_at is None
        stream.gate.release()
        rest = b"".join([piece async for piece in pieces])
        assert got + rest == b"".join(stream.blocks(up.last().json))
        assert up.last().wait_over()

    async def test_the_head_comes_before_any_body(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        stream = ChatStream(gate_after=0)
        up.queue(stream)
        response = await client.send(request_for(up, stream=True))
        assert response.headers["content-type"].startswith("text/event-stream")
        stream.gate.release()
        assert (await response.read(1 << 20)).endswith(b"data: [DONE]\n\n")

    async def test_what_the_socket_had_comes_in_one_piece(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        stream = Stream([{"n": at} for at in range(50)], per_write=51, gate_after=0, tear=10)
        up.queue(stream)
        response = await client.send(request_for(up, stream=True))
        stream.gate.release()
        await asyncio.to_thread(up.last().wait_over)
        # All is in the socket; the loop reads it when it next looks.
        pieces = [piece async for piece in response.chunks()]
        assert b"".join(pieces) == b"".join(stream.blocks({}))
        assert len(pieces) < 10

    @pytest.mark.parametrize("tear", [1, 2, 7, None])
    @pytest.mark.parametrize("framing", ["chunked", "length", "close"])
    async def test_however_it_is_framed_and_torn(
        self, up: OpenAIUpstream, client: UpstreamClient, tear: int | None, framing: Any
    ) -> None:
        stream = ChatStream(text="äöü 漢字 done", tear=tear, framing=framing, newline="\r\n")
        up.queue(stream)
        framer = SseFramer()
        response = await client.send(request_for(up, stream=True))
        events = [event.data async for piece in response.chunks() for event in framer.feed(piece)]
        assert events[-1] == b"[DONE]"
        words = [orjson.loads(data)["choices"][0]["delta"].get("content") for data in events[:-1]]
        assert "".join(word or "" for word in words) == "äöü 漢字 done"

    async def test_a_slow_consumer_slows_the_provider_down(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        size = 40 * HIGH_WATER
        up.queue(Reply(b"x" * size))
        response = await client.send(request_for(up, idle_s=0.2))
        await asyncio.sleep(0.5)  # Longer than idle_s: waiting for a slow consumer is not the provider's silence.
        pieces = [len(piece) async for piece in response.chunks()]
        assert sum(pieces) == size
        assert max(pieces) < 3 * HIGH_WATER


class TestCompression:
    async def test_a_provider_that_compresses_unasked_is_understood(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(chat("Hi", gzip=True), ChatStream(text="a b", gzip=True), Reply(b"x" * 5_000_000, gzip=True))
        response = await client.send(request_for(up))
        assert not {"content-encoding", "content-length"} & set(response.headers)
        assert orjson.loads(await response.read(1000))["object"] == "chat.completion"
        assert (await read_all(client, request_for(up, stream=True))).endswith(b"[DONE]\n\n")
        assert await read_all(client, request_for(up)) == b"x" * 5_000_000

    async def test_a_compressed_stream_comes_event_by_event(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        stream = ChatStream(gzip=True, gate_after=1)
        up.queue(stream)
        response = await client.send(request_for(up, stream=True))
        assert (await anext(response.chunks())).endswith(b"\n\n")
        stream.gate.release()
        await response.close()

    async def test_a_small_body_that_unfolds_past_the_limit(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Reply(b"x" * 50_000_000, gzip=True))
        response = await client.send(request_for(up))
        with pytest.raises(UpstreamMalformed, match="more than 1000 bytes"):
            await response.read(1000)

    @pytest.mark.parametrize(
        ("reply", "error"),
        [
            (Reply(b"{}", headers={"content-encoding": "br"}), UpstreamMalformed),
            (Reply(b"no gzip at all", headers={"content-encoding": "gzip"}), UpstreamMalformed),
            (ChatStream(gzip=True, end="cut"), UpstreamCut),
            (ChatStream(gzip=True, framing="close", end="cut"), UpstreamCut),
        ],
    )
    async def test_broken_compression(
        self, up: OpenAIUpstream, client: UpstreamClient, reply: Reply | Stream, error: type[UpstreamError]
    ) -> None:
        up.queue(reply)
        with pytest.raises(error):
            await read_all(client, request_for(up))
