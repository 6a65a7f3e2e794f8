"""Specifies the runtime's HTTP/1.1: a reply parses the same in any pieces, and what is malformed is refused."""

import asyncio
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.runtime.http1 import (
    LAST_CHUNK,
    MAX_HEAD,
    Connection,
    ConnectionLost,
    ProtocolError,
    Reply,
    ReplyParser,
    chunk,
    last_chunk,
)
from llm_gateway.runtime.rapid import Invocation, StreamedResponse

INVOCATION = Invocation("request-1", 0, "arn", "", "", b"{}")
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


def parse(pieces: list[bytes]) -> Reply | None:
    parser = ReplyParser()
    for piece in pieces[:-1]:
        assert parser.feed(piece) is None, "whole before its last byte"
    return parser.feed(pieces[-1])


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted({cut % len(data) for cut in cuts} - {0}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges)]


@given(
    chunks=st.lists(st.binary(min_size=1, max_size=50), max_size=5),
    trailers=st.dictionaries(st.sampled_from(["A", "Other"]), st.just("value")),
    cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=8),
)
def test_a_chunked_reply_in_any_pieces(chunks: list[bytes], trailers: dict[str, str], cuts: list[int]) -> None:
    data = HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(map(chunk, chunks)) + last_chunk(trailers)
    reply = parse(split(data, cuts))
    assert reply is not None
    assert (reply.status, reply.body) == (200, b"".join(chunks))
    assert reply.headers["content-type"] == "application/json"


@given(body=st.binary(max_size=200), cuts=st.lists(st.integers(min_value=0, max_value=10_000), max_size=8))
def test_a_sized_reply_in_any_pieces(body: bytes, cuts: list[int]) -> None:
    data = HEAD + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)
    reply = parse(split(data, cuts))
    assert reply == Reply(200, {"content-type": "application/json", "content-length": str(len(body))}, body)


def test_interim_replies_are_passed_over() -> None:
    reply = parse([b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 202 Accepted\r\nContent-Length: 2\r\n\r\nok"])
    assert reply == Reply(202, {"content-length": "2"}, b"ok")


def test_a_reply_that_has_no_body_needs_no_length() -> None:
    assert parse([b"HTTP/1.1 204 No Content\r\n\r\n"]) == Reply(204, {}, b"")


@pytest.mark.parametrize(
    "data",
    [
        b"SMTP ready\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nName : value\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n0x1\r\na\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n+1\r\na\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nab\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD,
    ],
)
def test_what_is_malformed_is_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        ReplyParser().feed(data)


async def served(answer: bytes, *, wait: bool = True) -> tuple[Connection, asyncio.Server]:
    """A connection to a server that gives `answer` (after a request, if `wait`) and closes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if wait:
            await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    return await Connection.open("127.0.0.1", server.sockets[0].getsockname()[1]), server


async def test_a_request_and_its_reply() -> None:
    connection, server = await served(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
    connection.write(b"GET / HTTP/1.1\r\n\r\n")
    assert (await connection.reply()).body == b"ok"
    connection.close()
    server.close()


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"])
async def test_a_connection_that_ends_too_early(answer: bytes) -> None:
    connection, server = await served(answer)
    connection.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ConnectionLost):
        await connection.reply()
    with pytest.raises(ConnectionLost):
        connection.write(b"more")
    with pytest.raises(ConnectionLost):
        await connection.drain()
    server.close()


async def test_a_malformed_reply_closes_the_connection() -> None:
    connection, server = await served(b"nonsense\r\n\r\n")
    connection.write(b"GET / HTTP/1.1\r\n\r\n")
    with pytest.raises(ProtocolError):
        await connection.reply()
    assert connection.lost
    server.close()


async def test_an_early_reply_says_that_nothing_more_is_read_and_is_still_there_to_be_read() -> None:
    connection, server = await served(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n", wait=False)
    told = asyncio.Event()
    connection.on_lost = told.set
    await asyncio.wait_for(told.wait(), 5)
    with pytest.raises(ConnectionLost):
        connection.write(b"more")
    assert (await connection.reply()).status == 413
    connection.close()
    server.close()


async def test_a_wait_for_a_reply_can_be_interrupted() -> None:
    connection, server = await served(b"", wait=True)
    waiting = asyncio.ensure_future(connection.reply())
    await asyncio.sleep(0)
    connection.interrupt(ConnectionLost("stop"))
    with pytest.raises(ConnectionLost, match="stop"):
        await waiting
    server.close()


async def test_a_stream_waits_for_a_peer_that_does_not_read() -> None:
    resume = asyncio.Event()
    taken = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal taken
        await resume.wait()
        data = b""
        while not data.endswith(LAST_CHUNK):
            data = await reader.read(2**16)
            taken += len(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    response = StreamedResponse("127.0.0.1", server.sockets[0].getsockname()[1], INVOCATION)
    await response.begin(b"{}", b"", last=False)
    written = 0

    async def flood() -> None:
        nonlocal written
        for _ in range(400):
            await response.write(bytes(2**16))
            written += 1

    flooding = asyncio.ensure_future(flood())
    before = -1
    while before != written:
        before = written
        await asyncio.sleep(0.02)
    assert not flooding.done()
    assert written < 200, "what the kernel's buffers take, and no more"
    resume.set()
    await asyncio.wait_for(flooding, 10)
    await response.finish()
    await response.confirm()  # the server closes without an answer: logged, and no reason to stop
    assert taken > 400 * 2**16
    server.close()


async def test_nobody_listens() -> None:
    server = await asyncio.start_server(lambda _reader, _writer: None, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    server.close()
    await server.wait_closed()
    with pytest.raises(OSError, match="onnect"):
        await Connection.open("127.0.0.1", port)
