"""One event through the app: what it receives, what it sends, and how the response ends when the app does not end it.

The prelude goes out with the first byte of the body, not with `http.response.start`: until then a failure is still an
answer with a real status. The app may go on after its last byte; the next event waits for that, the caller does not.

Source: https://asgi.readthedocs.io/en/latest/specs/www.html
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Protocol

import orjson

from llm_gateway.errors import GatewayError, InternalFailure, UpstreamTimeout
from llm_gateway.runtime.http1 import ConnectionLost
from llm_gateway.runtime.prelude import encode_prelude

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_BODYLESS = (204, 304)


class Sink(Protocol):
    """Where the response goes; `rapid.StreamedResponse` says what each call does."""

    finished: bool
    on_lost: Callable[[], None] | None

    @property
    def lost(self) -> bool: ...
    async def begin(self, prelude: bytes, body: bytes, *, last: bool) -> None: ...
    async def write(self, body: bytes) -> None: ...
    async def finish(self, body: bytes = b"") -> None: ...
    def fail(self, body: bytes, error_type: str, message: str) -> None: ...


class AppIncomplete(RuntimeError):
    """The app returned, or sent something out of turn, before its response was complete."""


class Deadline:
    """Lambda's deadline as the loop acts on it: `cancel_in_s` and `give_up_in_s` from now, infinite without one."""

    def __init__(self, unix_ms: int, margin_s: float, reserve_s: float, now: Callable[[], float] = time.time) -> None:
        self.unix_ms = unix_ms
        left = unix_ms / 1000 - now() if unix_ms else float("inf")
        # A function with a few seconds in all must not spend them on its end.
        margin = min(margin_s, left / 5)
        self.cancel_in_s = max(0.0, left - margin)
        self.give_up_in_s = max(0.0, left - min(reserve_s, margin / 4))


class Cycle:
    """The ASGI side of one invocation. `run` it once; it returns when the app has, or when its time is over."""

    def __init__(self, scope: Scope, body: bytes, sink: Sink, *, multi_value: bool, request_id: str = "") -> None:
        self._scope = scope
        self._request: bytes | None = body
        self._sink = sink
        sink.on_lost = self._settle_waiters
        self._multi_value = multi_value
        self._request_id = request_id
        self._bodyless = scope["method"] == "HEAD"
        self._start: tuple[int, list[tuple[bytes, bytes]]] | None = None
        self._begun = False
        self._in_band = False
        self._tail = b""
        self._ended: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._over: asyncio.Future[None] | None = None
        self._expired = ""

    async def run(self, app: App, deadline: Deadline) -> asyncio.Task[None] | None:
        """Runs the app and completes the response. Gives the app's task if that would not end in time, else None.

        Raises `OSError` if the response could not even be begun; the caller then reports the event as failed.
        """
        loop = asyncio.get_running_loop()
        task: asyncio.Task[None] = loop.create_task(self._call(app))
        self._task, self._over = task, loop.create_future()
        task.add_done_callback(lambda _: self.give_up())
        timers = []
        if deadline.unix_ms:
            timers.append(loop.call_later(deadline.cancel_in_s, self.expire, "deadline_exceeded"))
            timers.append(loop.call_later(deadline.give_up_in_s, self.give_up))
        try:
            await self._over
        except asyncio.CancelledError:
            task.cancel()
            raise
        finally:
            for timer in timers:
                timer.cancel()
        failure = _failure_of(task)
        if not self._sink.finished:
            await self._end_for_the_app(failure)
        elif failure is not None:
            log.error("the app failed after its response was complete", exc_info=failure, extra=self._log_fields)
        return None if task.done() else task

    async def _call(self, app: App) -> None:
        await app(self._scope, self.receive, self.send)

    def expire(self, reason: str) -> None:
        """Cancels the app, unless its response is complete: then it only has its books to close.

        `reason` becomes the error's code.
        """
        if self._task is not None and not self._sink.finished and not self._task.done():
            self._expired = reason
            self._task.cancel(reason)

    def give_up(self) -> None:
        """Ends `run`, whether the app has returned or not."""
        if self._over is not None and not self._over.done():
            self._over.set_result(None)

    # ASGI's two callables.

    async def receive(self) -> Message:
        if self._request is not None:
            body, self._request = self._request, None
            return {"type": "http.request", "body": body, "more_body": False}
        if not self._sink.finished and not self._sink.lost:
            await self._end_of_response()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        kind = message["type"]
        if kind == "http.response.body":
            body = message.get("body", b"")
            more = message.get("more_body", False)
            if self._begun and more:  # the hot path: one chunk of a stream
                if body and not self._bodyless:
                    self._tail = body
                    await self._sink.write(body)
            else:
                await self._send_edge(body, more=more)
        elif kind == "http.response.start":
            if self._start is not None:
                raise AppIncomplete("the response was started twice")
            status = message["status"]
            self._start = (status, [(bytes(name), bytes(value)) for name, value in message.get("headers", ())])
            self._bodyless = self._bodyless or status in _BODYLESS
        else:
            raise AppIncomplete(f"{kind} is not understood")

    async def _send_edge(self, body: bytes, *, more: bool) -> None:
        """The first bytes of a body, or its last."""
        if self._start is None:
            raise AppIncomplete("a body was sent before the response was started")
        if self._sink.finished:
            raise AppIncomplete("a body was sent after the response was complete")
        if self._bodyless:
            body = b""
        if not self._begun:
            if not body and more:
                return  # an empty chunk would end the body, and there is nothing yet to commit the status for
            await self._begin(*self._start, body, last=not more)
        else:
            await self._sink.finish(body)
        if not more:
            self._settle_waiters()

    async def _begin(self, status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes, *, last: bool) -> None:
        headers = list(headers)
        prelude = encode_prelude(status, headers, multi_value=self._multi_value, has_body=not self._bodyless)
        self._in_band = any(
            name.lower() == b"content-type" and value.startswith(b"text/event-stream") for name, value in headers
        )
        self._tail = body
        await self._sink.begin(prelude, body, last=last)
        self._begun = True

    # The end.

    async def _end_of_response(self) -> None:
        """Waits until the response is complete, or the platform has cut it."""
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        await asyncio.shield(self._ended)

    def _settle_waiters(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    async def _end_for_the_app(self, failure: BaseException | None) -> None:
        """The app is over, or out of time, and its response is not.

        Before the first byte that is a real error status; after it, an error in the stream and in its trailers.
        """
        if self._sink.lost:
            # What the app makes of a failing `send` is its own affair, of interest only to somebody who looks for it.
            log.info("the platform cut the response", exc_info=failure, extra=self._log_fields)
            return
        error, error_type = self._judge(failure)
        if not self._begun:
            headers = [(b"content-type", b"application/json"), (b"x-request-id", self._request_id.encode("ascii"))]
            body = b"" if self._bodyless else orjson.dumps(error.envelope())
            prelude = encode_prelude(error.http_status, headers, multi_value=self._multi_value)
            await self._sink.begin(prelude, body, last=True)
            self._begun = True
        else:
            try:
                self._sink.fail(self._in_band_error(error), error_type, error.message)
            except ConnectionLost:
                log.info("the platform cut the response", exc_info=failure, extra=self._log_fields)
        self._settle_waiters()

    def _judge(self, failure: BaseException | None) -> tuple[GatewayError, str]:
        """What to tell of it. An exception's own words stay in the log: they may quote a prompt or a key."""
        if self._expired:
            log.error("the app was stopped: %s", self._expired, extra=self._log_fields)
            message = "The gateway ran out of time before the answer was complete."
            return UpstreamTimeout(message, code=self._expired), "Runtime." + self._expired.title().replace("_", "")
        failure = failure or AppIncomplete("the app returned before its response was complete")
        log.error("the app failed before its response was complete", exc_info=failure, extra=self._log_fields)
        message = "The gateway failed before the answer was complete."
        return InternalFailure(message), f"Runtime.{type(failure).__name__}"

    def _in_band_error(self, error: GatewayError) -> bytes:
        if not self._in_band or self._bodyless:
            return b""
        ending = b"" if bytes(self._tail[-2:]) == b"\n\n" else b"\n\n"
        return b"%bevent: error\ndata: %b\n\n" % (ending, orjson.dumps(error.envelope()))

    @property
    def _log_fields(self) -> dict[str, str]:
        return {"aws_request_id": self._request_id}


def _failure_of(task: asyncio.Task[None]) -> BaseException | None:
    if not task.done():
        return None
    if task.cancelled():
        return asyncio.CancelledError()
    return task.exception()
