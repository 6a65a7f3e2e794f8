"""A provider that misbehaves, on loopback, on bare sockets: what it sends is said byte by byte, as a play of steps.

    with FaultyUpstream() as up:
        up.serve("flaky", lambda seen: [Send(answer_bytes)] if seen.attempt > 1 else [Reset()])
        ...                                  # POST {up.url("flaky")}/v1/chat/completions
        [seen.at for seen in up.seen("flaky")]

A route is the first segment of the path; its play makes the steps for each request it gets. When the steps are played
to their end the connection waits for its next request, as a kept-alive one does. Everything is recorded: when a request
came, on which connection, and whether its client hung up before the last step.
"""

import asyncio
import contextlib
import socket
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson


@dataclass(frozen=True, slots=True)
class Send:
    data: bytes


@dataclass(frozen=True, slots=True)
class Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class Drip:
    """Byte by byte."""

    data: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Repeat:
    """The same bytes again and again until the client leaves."""

    data: bytes
    every_s: float


@dataclass(frozen=True, slots=True)
class Hang:
    """Nothing more, until the client leaves."""


@dataclass(frozen=True, slots=True)
class Close:
    """The end of the connection, as a polite peer makes it (FIN)."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The end of the connection without a word (RST): what is still on its way is lost."""


Step = Send | Pause | Drip | Repeat | Hang | Close | Reset
Steps = Sequence[Step]


@dataclass
class Seen:
    """One request as it came. Times are `time.monotonic()`; header names in lower case."""

    route: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    attempt: int
    """1 for the route's first request."""
    turn: int
    """1 for the first request on its connection."""
    done_at: float | None = None
    """When the last step began: whoever plays it may be kept from noticing its end."""
    left_at: float | None = None
    """When the client hung up before that."""
    step_at: float | None = None
    """When the step began that is being played."""
    over: threading.Event = field(default_factory=threading.Event)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)


Play = Callable[[Seen], Steps]


class FaultyUpstream:
    """See the module. Plays run in the server's thread; `failures` has what went wrong in them, and `stop` raises it."""

    def __init__(self) -> None:
        self.failures: list[BaseException] = []
        self.connections = 0
        """How many were ever accepted."""
        self._plays: dict[str, Play] = {}
        self._seen: dict[str, list[Seen]] = defaultdict(list)
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._stop = asyncio.Event()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name="faulty-upstream", daemon=True)
        self._port = 0
        self._ports: dict[str, int] = {}
        self._servers: list[asyncio.Server] = []
        self._closed = socket.socket()
        """Bound and never listening: its port refuses, and nobody else can take it."""

    def serve(self, route: str, play: Play, *, own_port: bool = False) -> None:
        """With a port of its own no other route's connections are used for it."""
        self._plays[route] = play
        if own_port:
            self._ports[route] = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(10)

    def url(self, route: str) -> str:
        return f"http://127.0.0.1:{self._ports.get(route, self._port)}/{route}"

    def refusing_url(self, route: str) -> str:
        """Where no connection is accepted."""
        return f"http://127.0.0.1:{self._closed.getsockname()[1]}/{route}"

    def seen(self, route: str) -> list[Seen]:
        return list(self._seen.get(route, ()))

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._closed.bind(("127.0.0.1", 0))
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the faulty provider did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._closed.close()
        if self.failures and error is None:
            raise self.failures[0]

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        self._port = await self._listen()
        self._ready.set()
        await self._stop.wait()
        for server in self._servers:
            server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # the transports close in the loop's next turns

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20, backlog=512)
        self._servers.append(server)
        port: int = server.sockets[0].getsockname()[1]
        return port

    # -- one connection ------------------------------------------------------------------------------------------

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        next_byte = asyncio.ensure_future(reader.read(1))
        try:
            for turn in range(1, 1_000_000):
                seen = await self._read(await next_byte, reader, turn)
                if seen is None:
                    return
                next_byte = asyncio.ensure_future(reader.read(1))
                if not await self._answer(seen, writer, next_byte):
                    return
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client's doing
        except Exception as error:  # noqa: BLE001 - `stop` raises it: no test passes on a broken fake
            self.failures.append(error)
        finally:
            next_byte.cancel()
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await next_byte
            writer.close()

    async def _read(self, first: bytes, reader: asyncio.StreamReader, turn: int) -> Seen | None:
        if not first:
            return None
        head = first + await reader.readuntil(b"\r\n\r\n")
        request_line, *lines = head.decode("latin-1").split("\r\n")
        pairs = [line.partition(":") for line in lines if line]
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        body = await reader.readexactly(int(headers.get("content-length", "0")))
        path = request_line.split(" ")[1]
        route = path.split("/")[1]
        seen = Seen(route, path, headers, body, time.monotonic(), len(self._seen[route]) + 1, turn)
        self._seen[route].append(seen)
        return seen

    async def _answer(self, seen: Seen, writer: asyncio.StreamWriter, next_byte: "asyncio.Future[bytes]") -> bool:
        """Whether the connection goes on. `next_byte` ends early where the client hangs up."""
        playing = asyncio.ensure_future(self._play(seen, self._plays[seen.route](seen), writer))
        either: set[asyncio.Future[Any]] = {playing, next_byte}
        try:
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if not playing.done() and not _is_request(next_byte):
                seen.left_at = time.monotonic()
                return False
            goes_on = await playing
            seen.done_at = seen.step_at
            return goes_on
        except ConnectionError:
            seen.left_at = time.monotonic()
            return False
        finally:
            playing.cancel()
            await asyncio.wait({playing})
            _ = playing.cancelled() or playing.exception()  # seen: it is the client's leaving
            seen.over.set()

    async def _play(self, seen: Seen, steps: Steps, writer: asyncio.StreamWriter) -> bool:
        for step in steps:
            seen.step_at = time.monotonic()
            match step:
                case Send(data):
                    writer.write(data)
                    await writer.drain()
                case Pause(seconds):
                    await asyncio.sleep(seconds)
                case Drip(data, every_s):
                    for at in range(len(data)):
                        writer.write(data[at : at + 1])
                        await asyncio.sleep(every_s)
                case Repeat(data, every_s):
                    while True:
                        writer.write(data)
                        await writer.drain()
                        await asyncio.sleep(every_s)
                case Hang():
                    await asyncio.Event().wait()
                case Close():
                    return False
                case Reset():
                    _reset(writer)
                    return False
        return True


def _is_request(next_byte: "asyncio.Future[bytes]") -> bool:
    """Whether it is the next request's first byte, and not the client's leaving."""
    return next_byte.exception() is None and next_byte.result() != b""


def _reset(writer: asyncio.StreamWriter) -> None:
    """A linger of nought makes the kernel send RST where it would have sent FIN."""
    made = writer.get_extra_info("socket")
    made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
