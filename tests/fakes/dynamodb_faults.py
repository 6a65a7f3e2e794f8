"""A real HTTP proxy on loopback between a client and DynamoDB (Local, or moto's), which does what networks and busy tables do.

    with DynamoDBFaults(engine.url, share=0.3, seed=7) as faults:
        AwsJsonClient(…, endpoint_url=faults.url)
        faults.pause()                 # everything passes …
        faults.resume()                # … or not
        faults.queue("late")           # of the next call, paused or not
        faults.take_down()             # every connection is dropped, until bring_up()
        faults.wait_for_late()         # what was held back has been carried out
        faults.done                    # Counter of what was done: {"passed": 70, "late": 5, …}
    faults.asked                   # Counter of what came: {("GetItem", "llm-gateway-cache"): 3, …}

Of `share` of the calls one of these happens, each as likely as the others:

    throttled   ProvisionedThroughputExceededException or ThrottlingException; not carried out
    conflict    TransactionConflictException; not carried out
    broken      500 InternalServerError; not carried out
    dropped     the connection closes; not carried out
    lost        carried out, and the connection closes without an answer
    late        the connection closes; carried out up to `lateness_s` later
    mute        nothing is said until the client gives up; then carried out, up to `lateness_s` later

`late` and `mute` are what a tag on each hold is for: such a call may be carried out after the retry that replaced it,
and after that retry's work was undone. Errors as in
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Programming.Errors.html
"""

import asyncio
import json
import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from types import TracebackType
from typing import Final, Literal, Self
from zlib import crc32

from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.errors import UpstreamError
from llm_gateway.upstream.client import open_client

Fault = Literal["throttled", "conflict", "broken", "dropped", "lost", "late", "mute"]
FAULTS: Final[tuple[Fault, ...]] = ("throttled", "conflict", "broken", "dropped", "lost", "late", "mute")
_TYPES: Final = "com.amazonaws.dynamodb.v20120810#"
_MUTE_FOR_S: Final = 5.0
_ENGINE_S: Final = 60.0
_HOP_BY_HOP: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive"})


@dataclass(frozen=True, slots=True)
class _Call:
    method: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes


class DynamoDBFaults:
    """See the module. It runs in a thread of its own; every method may be called from any other."""

    def __init__(
        self,
        engine_url: str,
        *,
        share: float = 0.3,
        seed: int = 0,
        faults: tuple[Fault, ...] = FAULTS,
        lateness_s: float = 1.0,
    ) -> None:
        self.done: Counter[str] = Counter()
        self.asked: Counter[tuple[str, str]] = Counter()
        self.url = ""
        self._engine_url = engine_url.rstrip("/") + "/"
        self._share = share
        self._random = Random(seed)  # noqa: S311 - a run is to be repeatable, not secret
        self._faults = faults
        self._lateness_s = lateness_s
        self._paused = self._down = False
        self._queue: deque[Fault] = deque()
        self._late: set[asyncio.Task[None]] = set()
        self._connections: set[asyncio.Task[None]] = set()
        self._failures: list[BaseException] = []
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(target=self._run, name="dynamodb-faults", daemon=True)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False

    def queue(self, *faults: Fault) -> None:
        self._queue.extend(faults)

    def take_down(self) -> None:
        self._down = True

    def bring_up(self) -> None:
        self._down = False

    def wait_for_late(self, timeout: float = 120.0) -> None:
        """Blocks until nothing is held back any more. Raises `TimeoutError`."""
        deadline = time.monotonic() + timeout
        while self._late:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{len(self._late)} calls are still held back")
            time.sleep(0.01)

    # -- life ----------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise TimeoutError("the proxy did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(15)
        if self._failures:
            raise self._failures[0]

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        self._http: HttpClient = open_client()
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0, limit=1 << 20)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stop.wait()
        server.close()
        tasks = [*self._connections, *self._late]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._http.close()

    # -- one connection ------------------------------------------------------------------------------------------

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while (call := await _read_call(reader)) is not None:
                answer = await self._answer(call, reader)
                if answer is None:
                    break
                writer.write(_written(answer))
                await writer.drain()
        except (ConnectionError, asyncio.CancelledError):
            pass
        except Exception as failure:  # noqa: BLE001 - a test must not pass on a broken fake
            self._failures.append(failure)
        finally:
            self._connections.discard(task)
            writer.close()
            with suppress(ConnectionError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _answer(self, call: _Call, reader: asyncio.StreamReader) -> _Answer | None:
        """None closes the connection."""
        operation = call.headers.get("x-amz-target", "").rpartition(".")[2]
        self.asked[operation, json.loads(call.body or b"{}").get("TableName", "")] += 1
        fault = self._next_fault()
        self.done[fault or "passed"] += 1
        match fault:
            case None:
                return await self._forward(call)
            case "throttled":
                names = ("ProvisionedThroughputExceededException", "ThrottlingException")
                return _refusal(400, self._random.choice(names))
            case "conflict":
                return _refusal(400, "TransactionConflictException")
            case "broken":
                return _refusal(500, "InternalServerError")
            case "lost":
                await self._forward(call)
            case "late":
                self._forward_late(call)
            case "mute":
                with suppress(TimeoutError):
                    await asyncio.wait_for(reader.read(1), _MUTE_FOR_S)
                self._forward_late(call)
            case "dropped" | "down":
                pass
        return None

    def _next_fault(self) -> Fault | Literal["down"] | None:
        if self._down:
            return "down"
        if self._queue:
            return self._queue.popleft()
        if self._paused or self._random.random() >= self._share:
            return None
        return self._random.choice(self._faults)

    def _forward_late(self, call: _Call) -> None:
        delay_s = self._random.random() * self._lateness_s

        async def forward() -> None:
            await asyncio.sleep(delay_s)
            with suppress(UpstreamError):  # nobody waits for the answer
                await self._forward(call)

        task = self._loop.create_task(forward())
        self._late.add(task)
        task.add_done_callback(self._late.discard)

    async def _forward(self, call: _Call) -> _Answer | None:
        request = HttpRequest(
            call.method, self._engine_url, dict(call.headers), call.body, _ENGINE_S, _ENGINE_S, _ENGINE_S
        )
        try:
            response = await self._http.send(request)
            try:
                body = await response.read(32 << 20)
            finally:
                await response.close()
        except UpstreamError:
            return None  # the engine itself is gone or hangs
        return _Answer(response.status, response.headers, body)


async def _read_call(reader: asyncio.StreamReader) -> _Call | None:
    """None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.removesuffix("\r\n\r\n").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    try:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    except asyncio.IncompleteReadError:
        return None
    kept = {name: value for name, value in headers.items() if name not in _HOP_BY_HOP}
    return _Call(first.split(" ")[0], kept, body)


def _refusal(status: int, code: str) -> _Answer:
    body = json.dumps({"__type": _TYPES + code, "message": "Made by tests/fakes/dynamodb_faults.py."}).encode()
    return _Answer(status, {"content-type": "application/x-amz-json-1.0", "x-amz-crc32": str(crc32(body))}, body)


def _written(answer: _Answer) -> bytes:
    lines = [f"HTTP/1.1 {answer.status} Answered", f"content-length: {len(answer.body)}"]
    lines += [f"{name}: {value}" for name, value in answer.headers.items() if name.lower() not in _HOP_BY_HOP]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + answer.body
