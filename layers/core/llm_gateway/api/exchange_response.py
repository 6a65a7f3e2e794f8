"""Runs one exchange as an ASGI response: answer, last byte, and only then the accounts."""

import asyncio
import math
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Protocol

import orjson
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, InternalFailure, Unavailable, UpstreamTimeout
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.outcome import Outcome

NO_DISCONNECT = "llm_gateway.no_disconnect"
"""A scope extension of servers that never tell when a caller leaves: nothing needs to watch then."""


_LAST_BYTES_S = 1.0
"""How long the caller has for its last bytes once the request's time is up."""


class Driven(Protocol):
    """An `Exchange`, or what stands around one."""

    @property
    def call(self) -> Call: ...

    @property
    def outcome(self) -> Outcome: ...

    @property
    def record(self) -> RequestRecord | None: ...

    @property
    def runs_on(self) -> bool: ...

    @property
    def replay_of(self) -> str | None: ...

    async def answer(self) -> Answer: ...

    def failed(self, error: GatewayError) -> None: ...

    def caller_gone(self) -> None: ...

    async def settle(self) -> None: ...


class ExchangeResponse(Response):
    """The response to a call of the data plane. Watches for the caller to leave, before the first byte and after it."""

    def __init__(self, exchange: Driven, log: RequestLog) -> None:
        self._exchange = exchange
        self._log = log
        self.background = None
        self.status_code = 200

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        watcher = None
        if NO_DISCONNECT not in (scope.get("extensions") or {}):
            task = asyncio.current_task()
            assert task is not None
            watcher = asyncio.create_task(self._watch(receive, task))
        try:
            await self._serve(scope, send)
        finally:
            if watcher is not None:
                watcher.cancel()
            await self._settle()

    async def _settle(self) -> None:
        """Writes the accounts even if the request is cancelled while that goes on: money is not lost to a race."""
        settling = asyncio.ensure_future(self._exchange.settle())
        while not settling.done():
            try:
                await asyncio.shield(settling)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()

    async def _watch(self, receive: Receive, serving: "asyncio.Task[object]") -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        self._exchange.caller_gone()
        if not self._exchange.runs_on:
            serving.cancel()

    async def _serve(self, scope: Scope, send: Send) -> None:
        try:
            answer = await self._exchange.answer()
        except GatewayError as error:
            if self._exchange.record is None:
                self._log.refused(self._exchange.call.request_id, scope["method"], scope["path"], error)
            await send_error(send, error)
        except asyncio.CancelledError as cancelled:
            if self._stopped_by_server():
                await send_error(send, self._stopped(cancelled))
        except Exception as error:  # noqa: BLE001 - a defect of ours: the caller gets the envelope, the log the traceback
            await send_error(send, self._crash(error))
        else:
            if self._exchange.replay_of is not None:
                self._log_replay(self._exchange.replay_of)
            await self._send_answer(self._until_gone(send) if self._exchange.runs_on else send, answer)

    def _log_replay(self, original: str) -> None:
        call = self._exchange.call
        self._log.replayed(call.request_id, original, time.perf_counter() - call.started)

    def _until_gone(self, send: Send) -> Send:
        """For an answer that is wanted after its caller: sends while there is one, and lets the rest be read."""

        async def send_or_not(message: Message) -> None:
            if not self._exchange.outcome.gone:
                try:
                    await send(message)
                except OSError:
                    self._exchange.caller_gone()

        return send_or_not

    async def _send_answer(self, send: Send, answer: Answer) -> None:
        try:
            await self._send_whole_or_stream(send, answer)
        except OSError:
            # A server tells of a caller's leaving so (ASGI 2.4), the Lambda runtime among them. Or it is the
            # `TimeoutError` of one who reads no more, and holds a connection and a place among the key's calls.
            self._exchange.caller_gone()

    async def _send_whole_or_stream(self, send: Send, answer: Answer) -> None:
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in answer.headers.items()]
        if answer.stream is None:
            headers.append((b"content-length", str(len(answer.body)).encode()))
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            with suppress(asyncio.CancelledError):  # gone while the last bytes go out; `_watch` has said so
                await send({"type": "http.response.body", "body": answer.body})
            return
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send_stream(send, answer.stream, answer.until)

    async def _send_stream(self, send: Send, stream: AsyncGenerator[bytes, None], until: float) -> None:
        last = b""
        try:
            async with aclosing(stream), _taken_until(until):
                async for block in stream:
                    await send({"type": "http.response.body", "body": block, "more_body": True})
        except GatewayError as error:
            self._exchange.failed(error)
            last = in_band(error)
        except asyncio.CancelledError as cancelled:
            if not self._stopped_by_server():
                return
            last = in_band(self._stopped(cancelled))
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - as above, but the status has gone out already
            last = in_band(self._crash(error))
        async with _taken_until(until):
            await send({"type": "http.response.body", "body": last})

    def _stopped_by_server(self) -> bool:
        """Takes a cancellation back. True if the server made it (a deadline, a shutdown), not the caller by leaving."""
        task = asyncio.current_task()
        assert task is not None
        task.uncancel()
        return not self._exchange.outcome.gone

    def _stopped(self, cancelled: asyncio.CancelledError) -> GatewayError:
        """The server says why in the cancellation's message: Lambda's deadline, or else that it is going down."""
        error: GatewayError = Unavailable("The gateway is shutting down. Try again.", code="shutting_down")
        if "deadline_exceeded" in cancelled.args:
            error = UpstreamTimeout("The gateway's time for this request ran out.", code="deadline_exceeded")
        self._exchange.failed(error)
        return error

    def _crash(self, cause: Exception) -> GatewayError:
        self._log.crashed(self._exchange.call.request_id, cause)
        error = InternalFailure("The gateway failed on this request. Its log has the reason under this request's id.")
        self._exchange.failed(error)
        return error


def _taken_until(until: float) -> asyncio.Timeout:
    """`TimeoutError` a moment after `until`, a reading of `time.perf_counter`."""
    return asyncio.timeout(max(0.0, until - time.perf_counter()) + _LAST_BYTES_S if until < math.inf else None)


def in_band(error: GatewayError) -> bytes:
    """A failure after the first byte: an `error` event, and no `[DONE]` after it."""
    return b"event: error\ndata: " + orjson.dumps(error.envelope()) + b"\n\n"


async def send_error(send: Send, error: GatewayError) -> None:
    """The envelope as a whole response."""
    body = orjson.dumps(error.envelope())
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.encode(), value.encode("latin-1")) for name, value in error.response_headers().items()]
    await send({"type": "http.response.start", "status": error.http_status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
