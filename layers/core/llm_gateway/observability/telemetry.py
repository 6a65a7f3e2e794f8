"""Telemetry hooks: what a process that uses the gateway as a library is told of its calls.

A handler is a function of one event (`call_events`), plain or async. Every call gives one `CallStarted`, and then one
of `CallStopped` and `CallFailed`. No handler can break a call or hold it up: plain ones are to be quick, async ones run
beside it, and one that fails is logged once.
"""

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from llm_gateway.observability.call_events import Event

log = logging.getLogger("llm_gateway.telemetry")

_CLOSE_S = 5.0

Handler = Callable[["Event"], Awaitable[None] | None]


class Telemetry:
    """Hands events to the attached handlers, in the order in which these were attached."""

    def __init__(self) -> None:
        self._handlers: list[Handler] = []
        self._failed: list[Handler] = []
        self._running: set[asyncio.Future[None]] = set()

    def attach(self, handler: Handler) -> Callable[[], None]:
        """What it returns detaches the handler again. Raises `TypeError` for what is no function."""
        if not callable(handler):
            raise TypeError(f"a telemetry handler is a function of one event, not {type(handler).__name__}")
        self._handlers.append(handler)

        def detach() -> None:
            if handler in self._handlers:
                self._handlers.remove(handler)

        return detach

    def __bool__(self) -> bool:
        """Whether anybody listens."""
        return bool(self._handlers)

    def emit(self, event: "Event") -> None:
        """Called inside a running event loop. Never raises."""
        for handler in tuple(self._handlers):
            try:
                outcome = handler(event)
                if inspect.isawaitable(outcome):
                    task = asyncio.ensure_future(self._finish(handler, outcome))
                    self._running.add(task)
                    task.add_done_callback(self._running.discard)
            except Exception as error:  # noqa: BLE001 - whatever a handler does is no business of the call
                self._tell(handler, error)

    async def close(self) -> None:
        """Gives async handlers that still run a few seconds, then cancels them."""
        if not self._running:
            return
        _, late = await asyncio.wait(self._running, timeout=_CLOSE_S)
        for task in late:
            task.cancel()

    async def _finish(self, handler: Handler, outcome: Awaitable[None]) -> None:
        try:
            await outcome
        except Exception as error:  # noqa: BLE001 - as in `emit`
            self._tell(handler, error)

    def _tell(self, handler: Handler, error: Exception) -> None:
        if handler in self._failed:
            return
        self._failed.append(handler)
        log.error("a telemetry handler failed and may go on failing, untold: %r", handler, exc_info=error)
