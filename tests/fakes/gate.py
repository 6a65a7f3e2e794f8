"""Holds a server in one thread until a test in another lets it go on."""

import asyncio
import threading


class Gate:
    """Closed at first, open for good after `release`. Every method may be called from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._released = False
        self._held = threading.Event()
        self._waiting: list[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def release(self) -> None:
        with self._lock:
            self._released = True
            waiting, self._waiting = self._waiting, []
        for loop, future in waiting:
            loop.call_soon_threadsafe(_set, future)

    def wait_held(self, timeout: float = 5.0) -> None:
        """Blocks until something stands at the gate. Raises `TimeoutError`."""
        if not self._held.wait(timeout):
            raise TimeoutError("nothing came to the gate")

    async def wait(self) -> None:
        """The server's side."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._held.set()
            if self._released:
                return
            future = loop.create_future()
            self._waiting.append((loop, future))
        await future


def _set(future: "asyncio.Future[None]") -> None:
    if not future.done():
        future.set_result(None)
