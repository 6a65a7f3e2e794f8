"""Serves the app on loopback until somebody stops it."""

import asyncio
import contextlib
import itertools
import logging
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any

import uvicorn

if TYPE_CHECKING:
    from uvicorn._types import ASGIApplication

GRACE_S = 3
"""How long requests at hand may go on after Ctrl-C; then they are ended, and their callers told so."""
SETTLE_S = 5
"""How long they have from then to settle."""
KEEP_ALIVE_S = 75
"""Longer than the usual SDK keeps an idle connection, so that it is the client that closes it."""


class LoopbackServer(uvicorn.Server):
    """Uvicorn that says when it accepts connections and leaves signals to its caller."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    def hang_up(self) -> None:
        """Ends every request: its caller is told so in the stream, and it settles."""
        for task in list(self.server_state.tasks):
            task.cancel()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        # Uvicorn would raise the signal again once it has stopped, and so turn a clean stop into a death by signal.
        yield


def serve(
    app: "ASGIApplication | Any",
    listener: socket.socket,
    *,
    ready: Callable[[], None],
    watch: Callable[[], Awaitable[str]] | None = None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> int:
    """Serves until SIGINT, SIGTERM (exit code 0), or `watch` returns the reason why it cannot go on (exit code 1).

    A second signal hangs up at once, a third waits for nothing. `ready` is called once connections are accepted;
    `beside` runs in the same event loop for as long.
    """
    quiet_uvicorn()
    config = uvicorn.Config(
        app,
        access_log=False,
        http="h11",  # httptools answers HTTP/1.0 in chunks, which proxies in front cannot read
        lifespan="auto",
        log_config=None,
        loop="asyncio",
        proxy_headers=False,
        server_header=False,
        timeout_graceful_shutdown=GRACE_S + SETTLE_S,
        timeout_keep_alive=KEEP_ALIVE_S,
        ws="none",
    )
    return asyncio.run(run_until_stopped(LoopbackServer(config, ready), listener, watch, beside))


async def run_until_stopped(
    server: LoopbackServer,
    listener: socket.socket,
    watch: Callable[[], Awaitable[str]] | None,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> int:
    loop = asyncio.get_running_loop()
    stops = itertools.count(1)

    def stop() -> None:
        server.should_exit = True
        match next(stops):
            case 1:
                loop.call_later(GRACE_S, server.hang_up)
            case 2:
                server.hang_up()
            case _:
                server.force_exit = True

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    reasons: list[str] = []

    async def guard(watched: Awaitable[str]) -> None:
        reasons.append(await watched)
        stop()

    companions = [asyncio.create_task(guard(watch()))] if watch is not None else []
    if beside is not None:
        companions.append(asyncio.create_task(beside()))
    await server.serve(sockets=[listener])
    for companion in companions:
        companion.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await companion
    for reason in reasons:
        print(reason, file=sys.stderr)
    return 0 if server.started and not reasons else 1


def quiet_uvicorn() -> None:
    """Uvicorn's warnings and errors as plain lines; its greetings, and the app's own log, are said elsewhere."""
    log = logging.getLogger("uvicorn")
    log.setLevel(logging.WARNING)
    log.propagate = False
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
