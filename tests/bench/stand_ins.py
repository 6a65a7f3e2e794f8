"""The provider and AWS, as cheap as they can be, in one process of their own: `python -m tests.bench.stand_ins`.

Only the process under measure should pay for what is measured, so these parse no more HTTP than they must.

It prints `{"provider": port, "aws": port}` once it listens. Then it reads one line, a JSON object: AWS operation, and
the first word of the partition key where it reads one -> the body to answer it with (`GetItem registry`); all others are
answered `{}`, as DynamoDB answers a write. It ends with its standard input.
"""

import asyncio
import json
import re
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from zlib import crc32

from tests.bench.wire import ANSWER, BURST, CASE, CONTENT, FIRST, LAST, PACE_S

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_TARGET = re.compile(rb"\r\nx-amz-target: *\w+\.(\w+)", re.IGNORECASE)
_PARTITION = re.compile(rb'"pk":\{"S":"(\w+)')
_PROVIDER_HEADERS = (
    b"date: Sat, 21 Nov 2026 10:00:00 GMT\r\nserver: bench\r\nx-request-id: req_bench\r\n"
    b"openai-processing-ms: 12\r\nopenai-version: 2020-10-01\r\nx-ratelimit-limit-requests: 10000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\nx-ratelimit-limit-tokens: 2000000\r\n"
    b"x-ratelimit-remaining-tokens: 1999000\r\nstrict-transport-security: max-age=31536000\r\n"
)
_WHOLE = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n%bcontent-length: %d\r\n\r\n%b" % (
    _PROVIDER_HEADERS,
    len(ANSWER),
    ANSWER,
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n%btransfer-encoding: chunked\r\n\r\n"
    % _PROVIDER_HEADERS
)


class Server(asyncio.Protocol, ABC):
    """Collects requests that come one after another on a connection. Subclasses answer them."""

    transport: asyncio.Transport

    def __init__(self) -> None:
        self._received = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._received, 0, end)
        size = end + 4 + (int(length[1]) if length else 0)
        if len(self._received) >= size:
            request, self._received = self._received[:size], self._received[size:]
            self.answer(request)

    @abstractmethod
    def answer(self, request: bytes) -> None:
        """Writes the answer to one whole request."""


class Provider(Server):
    def __init__(self) -> None:
        super().__init__()
        self._streams: set[asyncio.Task[None]] = set()

    def answer(self, request: bytes) -> None:
        case = CASE.search(request)
        if case is None:
            raise ValueError(f"no case in {request!r}")
        if case[1] == b"json":
            self.transport.write(_WHOLE)
            return
        stream = asyncio.ensure_future(self._stream(case[1].decode(), int(case[2])))
        self._streams.add(stream)
        stream.add_done_callback(self._streams.discard)

    async def _stream(self, kind: str, events: int) -> None:
        at_once = BURST if kind == "burst" else 1
        piece = b"%x\r\n%b\r\n" % (len(CONTENT), CONTENT) * at_once
        self.transport.write(_STREAM_HEAD + b"%x\r\n%b\r\n" % (len(FIRST), FIRST))
        for _ in range(events // at_once):
            await asyncio.sleep(PACE_S if kind == "paced" else 0)
            self.transport.write(piece)
        self.transport.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(LAST), LAST))


class Aws(Server):
    """DynamoDB and Secrets Manager: every call succeeds."""

    def __init__(self, answers: Mapping[bytes, bytes]) -> None:
        super().__init__()
        self._answers = answers
        self._empty = aws_response(b"{}")

    def answer(self, request: bytes) -> None:
        target = _TARGET.search(request)
        operation = target[1] if target else b""
        if operation in (b"GetItem", b"BatchGetItem"):
            partition = _PARTITION.search(request)
            operation += b" " + partition[1] if partition else b""
        self.transport.write(self._answers.get(operation, self._empty))


def aws_response(body: bytes) -> bytes:
    """With the headers that DynamoDB sends, the checksum among them: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.LowLevelAPI.html"""
    return (
        b"HTTP/1.1 200 OK\r\nserver: Server\r\ndate: Sat, 21 Nov 2026 10:00:00 GMT\r\n"
        b"content-type: application/x-amz-json-1.0\r\ncontent-length: %d\r\nconnection: keep-alive\r\n"
        b"x-amzn-requestid: IVK5R5HGJUSRLFQ9FAOBJ8MLSVVV4KQNSO5AEMVJF66Q9ASUAAJG\r\nx-amz-crc32: %d\r\n\r\n%b"
    ) % (len(body), crc32(body), body)


async def serve() -> None:
    ports = {}
    answers: dict[bytes, bytes] = {}
    factories: dict[str, Callable[[], Server]] = {"provider": Provider, "aws": lambda: Aws(answers)}
    for name, factory in factories.items():
        server = await asyncio.get_running_loop().create_server(factory, "127.0.0.1", 0, backlog=512)
        ports[name] = server.sockets[0].getsockname()[1]
    print(json.dumps(ports), flush=True)
    given: dict[str, str] = json.loads(await asyncio.to_thread(sys.stdin.readline))
    answers.update({name.encode(): aws_response(body.encode()) for name, body in given.items()})
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve())
