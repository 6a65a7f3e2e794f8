"""An event loop in a thread of its own, for coroutines of any thread and of any event loop.

A gateway's connections and locks belong to one loop (`lifetime`). Here it is this one, so that whoever calls from a
script, from threads or by one `asyncio.run` after another has one gateway all the same.
"""

import asyncio
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, TypeVar

_Result = TypeVar("_Result")


class Portal:
    """Its thread starts with the first coroutine, and never keeps a process from ending."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._running: set[Future[Any]] = set()
        self._closed = False

    async def result(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """What it comes to, awaited in the caller's loop. Cancelling the caller cancels it."""
        if self._is_here():
            return await coroutine
        return await asyncio.wrap_future(self._submit(coroutine))

    def wait(self, coroutine: Coroutine[Any, Any, _Result]) -> _Result:
        """What it comes to, for which the caller's thread waits.

        Raises `RuntimeError` in the portal's own thread, which would wait for itself.
        """
        if self._is_here():
            coroutine.close()
            raise RuntimeError("This is the client's own thread, in which nothing may wait for it: await instead.")
        future = self._submit(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()  # of a Ctrl-C; one that is over does not mind
            raise

    def end(self, last: Callable[[], Awaitable[None]]) -> "Future[None] | None":
        """Takes no more, and once what runs is over, runs `last` there and stops; the future is done then.

        None where nothing ever ran, or it has been ended before.
        """
        with self._lock:
            loop = None if self._closed else self._loop
            self._closed = True
        if loop is None or not self._is_alive():
            return None
        return asyncio.run_coroutine_threadsafe(self._last(last), loop)

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """`end`, and waits for it, unless this is its own thread."""
        ending = self.end(last)
        if ending is not None and self._thread is not None and not self._is_here():
            ending.result()
            self._thread.join()

    def _is_alive(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def _is_here(self) -> bool:
        return threading.current_thread() is self._thread

    def _submit(self, coroutine: Coroutine[Any, Any, _Result]) -> "Future[_Result]":
        with self._lock:
            if self._closed:
                coroutine.close()
                raise RuntimeError("This client is closed: make another one.")
            if self._loop is None:
                self._loop = self._start()
            elif not self._is_alive():  # which would never answer
                coroutine.close()
                raise RuntimeError(
                    "This client was first used in another process, before a fork: make one in this one."
                )
            future = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
            self._running.add(future)
        future.add_done_callback(self._running.discard)
        return future

    def _start(self) -> asyncio.AbstractEventLoop:
        started: Future[asyncio.AbstractEventLoop] = Future()
        self._thread = threading.Thread(
            target=lambda: asyncio.run(self._serve(started)), name="llm-gateway-client", daemon=True
        )
        self._thread.start()
        return started.result()

    async def _serve(self, started: "Future[asyncio.AbstractEventLoop]") -> None:
        self._stopping = asyncio.Event()
        started.set_result(asyncio.get_running_loop())
        await self._stopping.wait()

    async def _last(self, last: Callable[[], Awaitable[None]]) -> None:
        assert self._stopping is not None
        try:
            await asyncio.gather(*map(asyncio.wrap_future, tuple(self._running)), return_exceptions=True)
            await last()
        finally:
            self._stopping.set()
