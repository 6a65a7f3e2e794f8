"""Specifies which deaths of a kept connection are nobody's failure: the request is sent again, once, on a fresh one.

The peer keeps its connection after a first answer, and then does with the second request what a test says.
"""

import asyncio
import socket
import struct
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamCut, UpstreamMalformed, UpstreamTimeout
from llm_gateway.upstream import network
from llm_gateway.upstream.client import UpstreamClient
from tests.integration import upstream_calls
from tests.integration.upstream_calls import read_all

client = upstream_calls.client
ANSWER = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
LARGE = b"x" * 8_000_000
"""More than the sockets of both sides hold."""
Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """Does `script` request by request, and answers those after it. `heard` has the connection's number of each."""

    def __init__(self, *script: Behaviour) -> None:
        self.heard: list[int] = []
        self.port = 0
        self._script = script
        self._connections = 0
        self._serving: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._connections += 1
        number = self._connections
        try:
            while not writer.is_closing():
                head = await reader.readuntil(b"\r\n\r\n")
                self.heard.append(number)
                behaves = answers if len(self.heard) > len(self._script) else self._script[len(self.heard) - 1]
                if behaves is answers:
                    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                await behaves(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def stop(self) -> None:
        for task in self._serving:
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)
        await asyncio.sleep(0.01)  # a closed transport lets go of its socket in the loop's next turns


@asynccontextmanager
async def peer(*script: Behaviour) -> AsyncIterator[Peer]:
    made = Peer(*script)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()
        await made.stop()


async def answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(ANSWER)


async def hangs(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await asyncio.Event().wait()


def request(peer: Peer, body: bytes = b"{}", *, first_byte_s: float = 5.0) -> HttpRequest:
    return HttpRequest("POST", f"http://127.0.0.1:{peer.port}/v1", {}, body, first_byte_s=first_byte_s)


async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.close()


async def resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def shuts_its_sending_side(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write_eof()
    await reader.read()


async def drips_and_resets(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read(1000)
    await resets(reader, writer)


@pytest.mark.parametrize("body", [b"{}", LARGE], ids=["small", "large"])
@pytest.mark.parametrize("death", [closes, resets, shuts_its_sending_side, drips_and_resets])
async def test_dead_when_the_request_came(client: UpstreamClient, death: Behaviour, body: bytes) -> None:
    """Whether all of the request was written or a part, and whether the peer said goodbye or not."""
    async with peer(answers, death) as other:
        assert await read_all(client, request(other)) == b"ok"
        assert await read_all(client, request(other, body)) == b"ok"
        assert other.heard == [1, 1, 2]


@pytest.mark.parametrize("death", [closes, resets])
async def test_a_fresh_connection_that_dies_is_a_failure(client: UpstreamClient, death: Behaviour) -> None:
    async with peer(death) as other:
        with pytest.raises(UpstreamCut, match="before it answered"):
            await read_all(client, request(other))
        assert other.heard == [1]
    async with peer(answers, death, death) as other:
        await read_all(client, request(other))
        with pytest.raises(UpstreamCut, match="before it answered"):
            await read_all(client, request(other))
        assert other.heard == [1, 1, 2]


async def test_one_that_dies_long_after_the_request_has_worked_on_it(
    client: UpstreamClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "STALE_S", 0.05)

    async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.1)
        writer.close()

    async with peer(answers, late) as other:
        await read_all(client, request(other))
        with pytest.raises(UpstreamCut, match="before it answered"):
            await read_all(client, request(other))
        assert other.heard == [1, 1], "sent once: whoever calls decides about a second time"


@pytest.mark.parametrize("began", [b"H", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"])
async def test_an_answer_that_began_is_not_asked_for_again(client: UpstreamClient, began: bytes) -> None:
    async def begins(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(began)
        await writer.drain()
        await asyncio.sleep(0.02)
        writer.close()

    async with peer(answers, begins) as other:
        await read_all(client, request(other))
        with pytest.raises(UpstreamCut):
            await read_all(client, request(other))
        assert other.heard == [1, 1]


async def test_what_the_last_answer_left_over_is_not_the_next_ones(client: UpstreamClient) -> None:
    """The first answer was longer than it said, and its rest comes when the connection carries the next request."""

    async def leftovers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'"usage": {}}\r\n')
        await reader.read()

    async with peer(answers, leftovers) as other:
        await read_all(client, request(other))
        assert await read_all(client, request(other)) == b"ok"
        assert other.heard == [1, 1, 2]


async def test_nonsense_on_a_fresh_connection_is_the_providers(client: UpstreamClient) -> None:
    async def talks(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.6\r\n")
        await reader.read()

    async with peer(talks) as other:
        with pytest.raises(UpstreamMalformed):
            await read_all(client, request(other))
        assert other.heard == [1]


class TestTheHead:
    async def test_a_byte_at_a_time_does_not_restart_its_clock(self, client: UpstreamClient) -> None:
        async def drips(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            for at in range(len(ANSWER)):
                writer.write(ANSWER[at : at + 1])
                await asyncio.sleep(0.05)

        async with peer(drips) as other:
            began = time.monotonic()
            with pytest.raises(UpstreamTimeout, match=r"did not answer within 0\.3 s"):
                await read_all(client, request(other, first_byte_s=0.3))
            assert 0.25 < time.monotonic() - began < 1.3

    async def test_both_tries_share_its_time(self, client: UpstreamClient) -> None:
        async def late(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await asyncio.sleep(0.3)
            writer.close()

        async with peer(answers, late, hangs) as other:
            await read_all(client, request(other))
            began = time.monotonic()
            with pytest.raises(UpstreamTimeout):
                await read_all(client, request(other, first_byte_s=0.5))
            assert 0.45 < time.monotonic() - began < 0.75
            assert other.heard == [1, 1, 2]
