"""A stand-in for API Gateway and the Lambda Runtime API around the real runtime process.

    with LambdaPlatform(app="tests.integration.runtime_apps:streaming", env={"AUTH": "none"}) as platform:
        client = OpenAI(base_url=platform.url + "/v1", api_key="sk-local")
        ...
        platform.invocations[0].trailers

Callers talk HTTP to `platform.url` (stage or base path included). Each request becomes the event that the front end
would send, waits for a poll of `/invocation/next`, and gets the response body live, chunk for chunk. Every step of the
protocol is checked; what is wrong is collected, and leaving the `with` block raises `AssertionError` with it.

`app` is `module:callable` in a process with the repository and `layers/core` on its path; its environment is `env` and
little else. `platform.invocations` records each event: the prelude, when which chunk came, trailers, errors, when its
poller asked for the next. Times are `time.monotonic()` seconds.
"""

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from tests.fakes.lambda_platform.front_ends import FRONT_ENDS, CallerRequest
from tests.fakes.lambda_platform.wire import Request, Violation, read_request, reply

REPOSITORY = Path(__file__).parents[3]
ARN = "arn:aws:lambda:us-east-1:123456789012:function:gateway:live"
TRACE = "Root=1-5bef4de7-ad49b0e87f6ef6c87fc2e700;Parent=9a9197af755a6419;Sampled=1"
DELIMITER = b"\x00" * 8
T = TypeVar("T")


@dataclass
class Invocation:
    """One event and what became of it."""

    event: Any
    deadline_ms: int
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    invocation_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    dispatched_at: float | None = None
    prelude: dict[str, Any] | None = None
    chunks: list[tuple[float, bytes]] = field(default_factory=list)
    ended_at: float | None = None
    trailers: dict[str, str] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    error_type: str | None = None
    cut_at: float | None = None
    next_at: float | None = None
    output: "asyncio.Queue[bytes | None]" = field(default_factory=asyncio.Queue)
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    over: threading.Event = field(default_factory=threading.Event)
    polled_again: threading.Event = field(default_factory=threading.Event)

    @property
    def body(self) -> bytes:
        return b"".join(chunk for _, chunk in self.chunks)


class LambdaPlatform:
    """`front_end`: rest, http_api, function_url or alb. `timeout_s` is the function's; `command` replaces the process.

    For the next invocation: `cut_after_chunks` drops the response's connection after so many chunks of the body;
    `response_status` answers `/response` in place of 202. `next_statuses` are answered to polls before any event.
    """

    def __init__(
        self,
        app: str,
        *,
        env: Mapping[str, str] | None = None,
        front_end: str = "rest",
        concurrency: int = 1,
        stage: str = "prod",
        base_path: str = "",
        timeout_s: float = 60.0,
        snap_start: bool = False,
        command: Sequence[str] = (sys.executable, "-m", "llm_gateway.runtime"),
        wait_for_poll: bool = True,
    ) -> None:
        self.app = app
        self.env = dict(env or {})
        self.event_of = FRONT_ENDS[front_end]
        self.concurrency = concurrency
        self.stage = stage
        self.base_path = base_path
        self.timeout_s = timeout_s
        self.snap_start = snap_start
        self.command = list(command)
        self.wait_for_poll = wait_for_poll
        self.invocations: list[Invocation] = []
        self.violations: list[str] = []
        self.init_error: dict[str, Any] | None = None
        self.restore_error: dict[str, Any] | None = None
        self.reports = threading.Event()
        self.restore_wanted = threading.Event()
        self.polling = threading.Event()
        self.polls_open = 0
        self.most_polls = 0
        self.cut_after_chunks: int | None = None
        self.response_status = 202
        self.next_statuses: list[int] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="lambda-platform")
        self._logs = tempfile.TemporaryDirectory()
        self._servers: list[asyncio.Server] = []
        self._connections: set[asyncio.Task[None]] = set()

    # The test's side.

    def __enter__(self) -> Self:
        self._thread.start()
        runtime_port, caller_port = self._on_loop(self._listen())
        self.runtime_api = f"127.0.0.1:{runtime_port}"
        self.url = f"http://127.0.0.1:{caller_port}{self.base_path or '/' + self.stage}"
        self.process = self._start()
        if self.wait_for_poll and not self.snap_start and not self.polling.wait(20):
            self._shut()
            raise AssertionError(f"the runtime did not poll: {self.stderr}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stderr_at_exit = self._shut()
        if kind is None and self.violations:
            raise AssertionError("\n".join(self.violations))

    def invoke(self, event: Any, timeout_s: float = 20.0) -> Invocation:
        """Sends an event as it is, and waits until the invocation is over."""
        invocation = self._on_loop(self._enqueue(event))
        if not invocation.over.wait(timeout_s):
            raise AssertionError(f"no response in {timeout_s} s: {self.stderr}")
        return invocation

    def restore(self) -> None:
        """SnapStart: lets `restore/next` return."""
        if not self.restore_wanted.wait(20):
            raise AssertionError(f"the runtime did not ask for its restore: {self.stderr}")
        self._loop.call_soon_threadsafe(self._restored.set)
        if self.wait_for_poll and not self.polling.wait(20):
            raise AssertionError(f"the runtime did not poll after its restore: {self.stderr}")

    def wait_exit(self, timeout_s: float = 15.0) -> int:
        return self.process.wait(timeout_s)

    @property
    def stderr(self) -> str:
        return Path(self._logs.name, "stderr").read_text()

    @property
    def stdout(self) -> str:
        return Path(self._logs.name, "stdout").read_text()

    def cpu_s(self) -> float:
        """CPU seconds the process has used, from its own clock (Linux)."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    # The process.

    def _start(self) -> "subprocess.Popen[bytes]":
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": f"{REPOSITORY / 'layers' / 'core'}:{REPOSITORY}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "AWS_REGION": "us-east-1",
            "AWS_LAMBDA_RUNTIME_API": self.runtime_api,
            "AWS_LAMBDA_FUNCTION_NAME": "gateway",
            "AWS_LAMBDA_FUNCTION_VERSION": "1",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "LLM_GATEWAY_APP": self.app,
        }
        if self.concurrency > 1:
            env["AWS_LAMBDA_MAX_CONCURRENCY"] = str(self.concurrency)
        if self.snap_start:
            env["AWS_LAMBDA_INITIALIZATION_TYPE"] = "snap-start"
        logs = Path(self._logs.name)
        with (logs / "stdout").open("wb") as stdout, (logs / "stderr").open("wb") as stderr:
            return subprocess.Popen(self.command, env=env | self.env, stdout=stdout, stderr=stderr)

    def _shut(self) -> str:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
                self.violations.append("the process did not end after SIGTERM")
        self._on_loop(self._hang_up())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        stderr = self.stderr
        self._logs.cleanup()
        return stderr

    def _on_loop(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> tuple[int, int]:
        self._queue: asyncio.Queue[Invocation] = asyncio.Queue()
        self._restored = asyncio.Event()
        ports = []
        for serve in (self._serve_runtime, self._serve_caller):
            server = await asyncio.start_server(self._tracked(serve), "127.0.0.1", 0, limit=2**20)
            self._servers.append(server)
            ports.append(server.sockets[0].getsockname()[1])
        return ports[0], ports[1]

    def _tracked(self, serve: Any) -> Any:
        """Connections outlive their requests; they are ended, and awaited, when the platform is."""

        async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._connections.add(task)
            try:
                await serve(reader, writer)
            except Violation as violation:
                self.violations.append(str(violation))
            except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # the peer is gone, or the platform is
            finally:
                self._connections.discard(task)
                writer.close()

        return run

    async def _hang_up(self) -> None:
        for server in self._servers:
            server.close()
        tasks = list(self._connections)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _enqueue(self, event: Any) -> Invocation:
        invocation = Invocation(event, int((time.time() + self.timeout_s) * 1000))
        self.invocations.append(invocation)
        self._queue.put_nowait(invocation)
        return invocation

    # The Runtime API.

    async def _serve_runtime(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handed_out: Invocation | None = None
        while (request := await read_request(reader)) is not None:
            path = request.target.removeprefix("/2018-06-01/runtime/")
            if request.target == path:
                raise Violation(f"unknown path {request.target}")
            match (request.method, path.split("/")):
                case ("GET", ["invocation", "next"]):
                    handed_out = await self._next(request, writer, handed_out)
                    if handed_out is None:
                        return
                case ("GET", ["restore", "next"]):
                    self.restore_wanted.set()
                    await self._restored.wait()
                    writer.write(reply(200, {}, b""))
                case ("POST", ["invocation", request_id, "response"]):
                    await self._response(request, writer, self._find(request, request_id))
                    return
                case ("POST", ["invocation", request_id, "error"]):
                    invocation = self._find(request, request_id)
                    invocation.error = json.loads(await request.body())
                    invocation.error_type = request.header("lambda-runtime-function-error-type")
                    self._end(invocation)
                    writer.write(reply(202, {"Content-Type": "application/json"}, b'{"status":"OK"}'))
                case ("POST", ["init", "error"]):
                    self.init_error = json.loads(await request.body())
                    self._report(writer)
                case ("POST", ["restore", "error"]):
                    if request.header("lambda-runtime-function-error-type") != "Runtime.AfterRestoreError":
                        raise Violation("restore/error without its error type")
                    self.restore_error = json.loads(await request.body())
                    self._report(writer)
                case _:
                    raise Violation(f"unknown call {request.method} {request.target}")
            await writer.drain()

    def _report(self, writer: asyncio.StreamWriter) -> None:
        writer.write(reply(202, {"Content-Type": "application/json"}, b'{"status":"OK"}'))
        self.reports.set()

    def _find(self, request: Request, request_id: str) -> Invocation:
        for invocation in self.invocations:
            if invocation.request_id == request_id and not invocation.over.is_set():
                if request.header("lambda-runtime-invocation-id") != invocation.invocation_id:
                    self._end(invocation)
                    raise Violation("the invocation id was not sent back")
                return invocation
        raise Violation(f"no invocation {request_id} under way")

    async def _next(
        self, request: Request, writer: asyncio.StreamWriter, previous: Invocation | None
    ) -> Invocation | None:
        """Waits for an event on behalf of one poller. None: the poller hung up."""
        if previous is not None:
            previous.next_at = time.monotonic()
            previous.polled_again.set()
        if self.snap_start and not self._restored.is_set():
            raise Violation("polled before the restore")
        if self.next_statuses:
            writer.write(reply(self.next_statuses.pop(0), {}, b'{"errorMessage":"","errorType":""}'))
            await writer.drain()
            return Invocation(None, 0)
        self.polls_open += 1
        self.most_polls = max(self.most_polls, self.polls_open)
        if self.polls_open > self.concurrency:
            self.violations.append(f"{self.polls_open} polls at once, {self.concurrency} allowed")
        self.polling.set()
        taken = asyncio.ensure_future(self._queue.get())
        gone = asyncio.ensure_future(request.reader.read(1))
        try:
            await asyncio.wait((taken, gone), return_when=asyncio.FIRST_COMPLETED)
            if gone.done():
                if taken.done():
                    self._queue.put_nowait(taken.result())
                if gone.result():
                    raise Violation("bytes after a poll's request")
                return None
        finally:
            self.polls_open -= 1
            taken.cancel()
            gone.cancel()
            await asyncio.gather(taken, gone, return_exceptions=True)
        invocation = taken.result()
        writer.write(reply(200, _invocation_headers(invocation), _dumps(invocation.event)))
        invocation.dispatched_at = time.monotonic()
        return invocation

    async def _response(self, request: Request, writer: asyncio.StreamWriter, invocation: Invocation) -> None:
        try:
            await self._take_response(request, writer, invocation)
        except (Violation, ConnectionError, asyncio.IncompleteReadError):
            if not invocation.over.is_set():  # the caller must not wait for what will not come
                self._end(invocation)
            raise
        try:
            async with asyncio.timeout(3):
                if await request.reader.read(1):
                    raise Violation("the connection of a streamed response was used again")
        except TimeoutError:
            raise Violation("the connection of a streamed response was not closed") from None

    async def _take_response(self, request: Request, writer: asyncio.StreamWriter, invocation: Invocation) -> None:
        _check_streaming(request)
        cut_after, self.cut_after_chunks = self.cut_after_chunks, None
        status, self.response_status = self.response_status, 202
        head = b""
        async for chunk in request.chunks():
            if invocation.prelude is None:
                head += chunk
                raw, delimiter, chunk = head.partition(DELIMITER)  # noqa: PLW2901 - what is left of it is the body's
                if not delimiter:
                    if len(head) > 16 * 1024:
                        raise Violation("no delimiter in the first 16 KB")
                    continue
                invocation.prelude = _check_prelude(raw)
                invocation.answered.set()
            if chunk:
                invocation.chunks.append((time.monotonic(), chunk))
                invocation.output.put_nowait(chunk)
            if cut_after is not None and len(invocation.chunks) >= cut_after:
                invocation.cut_at = time.monotonic()
                self._end(invocation)
                writer.transport.abort()
                return
        invocation.trailers = request.trailers
        announced = {name.strip().lower() for name in (request.header("trailer") or "").split(",")}
        if not set(request.trailers) <= announced:
            raise Violation(f"trailers that were not announced: {request.trailers}")
        if invocation.prelude is None:
            raise Violation("a response without a prelude")
        self._end(invocation)
        writer.write(reply(status, {"Content-Type": "application/json"}, b'{"status":"OK"}'))
        await writer.drain()

    def _end(self, invocation: Invocation) -> None:
        invocation.ended_at = time.monotonic()
        invocation.answered.set()
        invocation.output.put_nowait(None)
        invocation.over.set()

    # API Gateway.

    async def _serve_caller(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (request := await read_request(reader)) is not None:
            if (request.header("expect") or "").lower() == "100-continue":
                writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            body = await request.body()
            prefix = "" if self.base_path else "/" + self.stage
            if not request.target.startswith(prefix + "/") and request.target != prefix:
                writer.write(reply(403, {"Content-Type": "application/json"}, b'{"message":"Forbidden"}'))
                continue
            target = request.target.removeprefix(prefix) or "/"
            event = self.event_of(
                CallerRequest(request.method, target, request.headers, body, self.stage, self.base_path)
            )
            invocation = await self._enqueue(event)
            try:
                async with asyncio.timeout(self.timeout_s):
                    await invocation.answered.wait()
            except TimeoutError:
                writer.write(reply(504, {}, b'{"message":"Endpoint request timed out"}'))
                continue
            await self._relay(request, invocation, writer)

    async def _relay(self, request: Request, invocation: Invocation, writer: asyncio.StreamWriter) -> None:
        prelude = invocation.prelude
        if prelude is None:
            writer.write(reply(502, {}, b'{"message":"Internal server error"}'))
            return
        fields = list(prelude.get("headers", {}).items())
        fields += [(name, value) for name, values in prelude.get("multiValueHeaders", {}).items() for value in values]
        fields += [("set-cookie", cookie) for cookie in prelude.get("cookies", ())]
        fields = [(name, value) for name, value in fields if name != "content-length"]
        bodyless = request.method == "HEAD" or prelude["statusCode"] in (204, 304)
        if not bodyless:
            fields.append(("transfer-encoding", "chunked"))
        head = "".join(f"{name}: {value}\r\n" for name, value in fields)
        writer.write(f"HTTP/1.1 {prelude['statusCode']} Status\r\n{head}\r\n".encode("latin-1"))
        while (chunk := await invocation.output.get()) is not None:
            if bodyless:
                raise Violation("a body where there is none")
            # A caller that left is not told to the function: the stream is taken to its end.
            with contextlib.suppress(ConnectionError):
                writer.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
                await writer.drain()
        if invocation.cut_at is not None:
            writer.transport.abort()
        elif not bodyless:
            writer.write(b"0\r\n\r\n")


def _invocation_headers(invocation: Invocation) -> dict[str, str]:
    return {
        "Content-Type": "application/json",
        "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
        "Lambda-Runtime-Deadline-Ms": str(invocation.deadline_ms),
        "Lambda-Runtime-Invoked-Function-Arn": ARN,
        "Lambda-Runtime-Trace-Id": TRACE,
        "Lambda-Runtime-Invocation-Id": invocation.invocation_id,
    }


def _dumps(event: Any) -> bytes:
    return event if isinstance(event, bytes) else json.dumps(event).encode()


def _check_streaming(request: Request) -> None:
    """What the documentation asks of a streamed response's head."""
    wanted = {
        "lambda-runtime-function-response-mode": "streaming",
        "transfer-encoding": "chunked",
        "content-type": "application/vnd.awslambda.http-integration-response",
        "trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body",
        "content-length": None,
    }
    for name, value in wanted.items():
        if request.header(name) != value:
            raise Violation(f"{name} is {request.header(name)!r}, not {value!r}")
    if request.header("host") is None:
        raise Violation("no Host header")


def _check_prelude(raw: bytes) -> dict[str, Any]:
    prelude = json.loads(raw)
    if not set(prelude) <= {"statusCode", "headers", "multiValueHeaders", "cookies"}:
        raise Violation(f"a prelude with unknown fields: {prelude}")
    if not isinstance(prelude["statusCode"], int) or not 100 <= prelude["statusCode"] <= 599:
        raise Violation(f"no status in the prelude: {prelude}")
    if not all(isinstance(value, str) for value in prelude.get("headers", {}).values()):
        raise Violation(f"headers that are no strings: {prelude}")
    assert isinstance(prelude, dict)
    return prelude
