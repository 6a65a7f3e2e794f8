"""A body that is made in this process, and can be ended from outside like one that comes from a socket."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator

from llm_gateway.errors import UpstreamError


class EndablePieces:
    """The `chunks` and `end` of a `domain.ports.HttpResponse`, over a generator that may wait wherever it likes."""

    def __init__(self, pieces: AsyncGenerator[bytes, None]) -> None:
        self._pieces = pieces
        self._error: UpstreamError | None = None
        self._over = False
        self._reading: asyncio.Timeout | None = None

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._error is not None:
            raise self._error
        reading = asyncio.timeout(None)
        try:
            async with reading:
                self._reading = reading
                return await anext(self._pieces)
        except TimeoutError:
            if self._error is None or not reading.expired():
                raise
            raise self._error from None
        except StopAsyncIteration:
            self._over = True
            raise
        finally:
            self._reading = None

    def end(self, error: UpstreamError) -> None:
        """The read under way, which is cancelled where it waits, and every later one raise `error`."""
        if self._over or self._error is not None:
            return
        self._error = error
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def close(self) -> None:
        self._over = True
        await self._pieces.aclose()
