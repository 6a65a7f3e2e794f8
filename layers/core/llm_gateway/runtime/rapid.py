"""The Lambda Runtime API, version 2018-06-01, as one poller uses it.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html (calls, headers, statuses),
https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-response-streaming (streaming, errors)
and, for `restore/next`, `restore/error` and `Lambda-Runtime-Invocation-Id`, AWS's own clients:
https://github.com/aws/aws-lambda-python-runtime-interface-client and https://github.com/aws/aws-lambda-rust-runtime
"""

import asyncio
import base64
import logging
import traceback
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from llm_gateway.runtime.http1 import LAST_CHUNK, Connection, ConnectionLost, ProtocolError, Reply, chunk, last_chunk

log = logging.getLogger(__name__)

BASE = "/2018-06-01/runtime"
STREAM_TYPE = "application/vnd.awslambda.http-integration-response"
ERROR_TYPE = "Lambda-Runtime-Function-Error-Type"
ERROR_BODY = "Lambda-Runtime-Function-Error-Body"
POLL_RETRY_DELAYS_S = (0.0, 0.1, 0.2, 0.4, 0.8)
REPLY_TIMEOUT_S = 5.0
MAX_TRAILER_BODY = 4096

_OK, _ACCEPTED, _SERVER_ERROR = 200, 202, 500


class RuntimeApiFailed(Exception):
    """The Runtime API is in a state this process cannot get out of: it should end, and Lambda starts a fresh one."""


class PollingStopped(OSError):
    """`next` was interrupted because the process is to end."""


@dataclass(frozen=True, slots=True)
class Invocation:
    """What `next` gave. `deadline_ms` is Unix time in milliseconds; `event` is the raw JSON."""

    request_id: str
    deadline_ms: int
    function_arn: str
    trace_id: str
    invocation_id: str
    event: bytes


class RuntimeApi:
    """The calls of one poller.

    It keeps one connection for `next`; each streamed response has its own, closed when it is written, as the
    documentation demands.
    """

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._poll: Connection | None = None
        self._stopped = False

    async def next(self) -> Invocation:
        """Waits for an event, for as long as it takes. Raises `PollingStopped` or `RuntimeApiFailed`."""
        reply = await self._get(f"{BASE}/invocation/next")
        if reply.status != _OK:
            raise RuntimeApiFailed(f"invocation/next answered {reply.status}")
        headers = reply.headers
        request_id = headers.get("lambda-runtime-aws-request-id", "")
        if not request_id.replace("-", "").isalnum():
            raise RuntimeApiFailed("invocation/next gave no request id")
        return Invocation(
            request_id=request_id,
            deadline_ms=int(headers.get("lambda-runtime-deadline-ms", "0")),
            function_arn=headers.get("lambda-runtime-invoked-function-arn", ""),
            trace_id=headers.get("lambda-runtime-trace-id", ""),
            invocation_id=headers.get("lambda-runtime-invocation-id", ""),
            event=reply.body,
        )

    async def restore_next(self) -> None:
        """Returns in an environment that was made from the snapshot; the connection from before it is dropped."""
        reply = await self._get(f"{BASE}/restore/next")
        self.close()
        if reply.status != _OK:
            raise RuntimeApiFailed(f"restore/next answered {reply.status}")

    def stop_polling(self) -> None:
        """Makes `next` raise `PollingStopped`, now or when it is called; responses under way are not touched."""
        self._stopped = True
        if self._poll is not None:
            self._poll.interrupt(PollingStopped("the process is to end"))

    def close(self) -> None:
        if self._poll is not None:
            self._poll.close()
            self._poll = None

    async def _get(self, path: str) -> Reply:
        head = f"GET {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nUser-Agent: llm-gateway\r\n\r\n"
        last: OSError | None = None
        for delay in POLL_RETRY_DELAYS_S:
            if delay:
                await asyncio.sleep(delay)
            if self._stopped:
                raise PollingStopped("the process is to end")
            try:
                if self._poll is None or self._poll.lost:
                    self._poll = await Connection.open(self._host, self._port)
                self._poll.write(head.encode("ascii"))
                return await self._poll.reply()
            except PollingStopped:
                raise
            except OSError as error:
                log.warning("%s failed: %s", path, error)
                last = error
                self.close()
        raise RuntimeApiFailed(f"{path}: no connection to the Runtime API") from last

    def response(self, invocation: Invocation) -> "StreamedResponse":
        return StreamedResponse(self._host, self._port, invocation)

    async def invocation_error(self, invocation: Invocation, error_type: str, message: str) -> None:
        """Reports an event that got no response at all. Only before `response` was begun."""
        path = f"{BASE}/invocation/{invocation.request_id}/error"
        await self._report(path, error_type, error_body(error_type, message), invocation.invocation_id)

    async def init_error(self, error_type: str, failure: BaseException) -> None:
        await self._report(f"{BASE}/init/error", error_type, _failure_body(error_type, failure))

    async def restore_error(self, failure: BaseException) -> None:
        error_type = "Runtime.AfterRestoreError"
        await self._report(f"{BASE}/restore/error", error_type, _failure_body(error_type, failure))

    async def _report(self, path: str, error_type: str, body: bytes, invocation_id: str = "") -> None:
        echo = f"Lambda-Runtime-Invocation-Id: {invocation_id}\r\n" if invocation_id else ""
        head = (
            f"POST {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nUser-Agent: llm-gateway\r\n"
            f"Content-Type: application/vnd.aws.lambda.error+json\r\n{ERROR_TYPE}: {error_type}\r\n{echo}"
            f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        )
        connection = await Connection.open(self._host, self._port)
        try:
            connection.write(head.encode("ascii") + body)
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await connection.reply()
        finally:
            connection.close()
        _judge(path, reply)


class StreamedResponse:
    """One `POST …/response`, chunked. `begin`, `write` any number of times, `finish` or `fail`, then `confirm`.

    `begin` and what follows raise `OSError` when the Runtime API closed the connection, or answered before the body was
    whole.
    """

    __slots__ = ("_connection", "_host", "_invocation", "_port", "finished", "on_lost")

    def __init__(self, host: str, port: int, invocation: Invocation) -> None:
        self._host = host
        self._port = port
        self._invocation = invocation
        self._connection: Connection | None = None
        self.finished = False
        self.on_lost: Callable[[], None] | None = None

    async def begin(self, prelude: bytes, body: bytes, *, last: bool) -> None:
        """Sends the request's head, the prelude, and the first bytes of the body, in one piece."""
        invocation = self._invocation
        echo = f"Lambda-Runtime-Invocation-Id: {invocation.invocation_id}\r\n" if invocation.invocation_id else ""
        head = (
            f"POST {BASE}/invocation/{invocation.request_id}/response HTTP/1.1\r\n"
            f"Host: {self._host}:{self._port}\r\nUser-Agent: llm-gateway\r\n"
            f"Content-Type: {STREAM_TYPE}\r\nTransfer-Encoding: chunked\r\n"
            f"Lambda-Runtime-Function-Response-Mode: streaming\r\n"
            f"Trailer: {ERROR_TYPE}, {ERROR_BODY}\r\n{echo}Connection: close\r\n\r\n"
        ).encode("ascii")
        self._connection = await Connection.open(self._host, self._port)
        self._connection.on_lost = self.on_lost
        end = LAST_CHUNK if last else b""
        self._connection.write(b"".join((head, chunk(prelude), chunk(body) if body else b"", end)))
        self.finished = last

    async def write(self, body: bytes) -> None:
        """Sends one chunk at once; waits only while the peer takes no more."""
        connection = self._open()
        connection.write(b"%x\r\n%b\r\n" % (len(body), body))
        if connection.full:
            await connection.drain()

    async def finish(self, body: bytes = b"") -> None:
        """Sends the last bytes and the end of the body."""
        connection = self._open()
        self.finished = True
        connection.write(chunk(body) + LAST_CHUNK if body else LAST_CHUNK)
        if connection.full:
            await connection.drain()

    def fail(self, body: bytes, error_type: str, message: str) -> None:
        """Ends the body with `body`, in-band, and the error trailers. Lambda forwards them; the status stands."""
        report = base64.b64encode(error_body(error_type, message)[:MAX_TRAILER_BODY]).decode("ascii")
        trailers = last_chunk({ERROR_TYPE: error_type, ERROR_BODY: report})
        self.finished = True
        self._open().write(chunk(body) + trailers if body else trailers)

    @property
    def lost(self) -> bool:
        return self._connection is not None and self._connection.lost and not self.finished

    async def confirm(self) -> None:
        """Reads what the Runtime API says of the response, and closes the connection.

        Anything but 202 is logged and passed over (a 400, 403, 410 or 413 concerns this invocation alone), except for
        5xx, of which the documentation says "Non-recoverable state. Runtime should exit promptly": `RuntimeApiFailed`.
        """
        connection = self._open()
        path = f"{BASE}/invocation/{self._invocation.request_id}/response"
        try:
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                reply = await connection.reply()
        except (OSError, TimeoutError) as error:
            log.warning("%s was not confirmed: %r", path, error)
            return
        finally:
            connection.close()
        _judge(path, reply)

    def _open(self) -> Connection:
        if self._connection is None:
            raise ConnectionLost("the response was not begun")
        return self._connection


def error_body(error_type: str, message: str) -> bytes:
    return orjson.dumps({"errorMessage": message, "errorType": error_type, "stackTrace": []})


def _failure_body(error_type: str, failure: BaseException) -> bytes:
    """For failures of start-up, which hold nothing of a caller's."""
    trace = traceback.format_exception(failure)
    return orjson.dumps({"errorMessage": str(failure), "errorType": error_type, "stackTrace": trace})


def _judge(path: str, reply: Reply) -> None:
    if reply.status >= _SERVER_ERROR:
        raise RuntimeApiFailed(f"{path} answered {reply.status}")
    if reply.status != _ACCEPTED:
        log.warning("%s answered %d: %s", path, reply.status, reply.body[:500].decode("utf-8", "replace"))


__all__ = ["Invocation", "PollingStopped", "ProtocolError", "RuntimeApi", "RuntimeApiFailed", "StreamedResponse"]
