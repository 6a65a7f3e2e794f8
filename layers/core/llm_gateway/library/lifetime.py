"""Where and how long a `Gateway` may be used: in one event loop, until it is closed.

Its connections, locks and background tasks belong to the loop in which they were made. A call from another one would
work now and then, and fail at the end: so it is refused at once.
"""

import asyncio
from threading import Lock


class Lifetime:
    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._lock = Lock()

    def enter(self) -> None:
        """Makes the running loop the gateway's, where it has none.

        Raises `RuntimeError` in another one, and once the gateway is closed.
        """
        if self._closed:
            raise RuntimeError("This llm_gateway.Gateway is closed: make another one.")
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._take(loop)

    def end(self) -> None:
        """Nothing may be called from now on. Raises `RuntimeError` in another loop, where it cannot be ended."""
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            self._take(loop)
        self._closed = True

    def _take(self, loop: asyncio.AbstractEventLoop) -> None:
        with self._lock:
            if self._loop is None:
                self._loop = loop
        if self._loop is not loop:
            raise RuntimeError(
                "This llm_gateway.Gateway belongs to another event loop, in which it was first used: make one Gateway "
                "for each loop, that is for each thread and each asyncio.run()."
            )
