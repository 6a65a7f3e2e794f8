"""A streamed answer as an async iterator."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Callable
from decimal import Decimal
from types import TracebackType
from typing import Self

import orjson

from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamMalformed
from llm_gateway.library.answers import ChatChunk, read_chunk
from llm_gateway.library.running import RunningCall
from llm_gateway.schemas.json_text import parse_json
from llm_gateway.upstream.framing import split_events


class ChatStream:
    """Iterates over `ChatChunk`s; what the provider fails with is raised where the next chunk would have been.

    The call is settled at the stream's end, by `aclose`, or on leaving `async with`. One that is dropped in the middle
    is settled too, as a caller who left: soon after it is collected, and when its gateway closes at the latest.
    Usage, cost and finish reason are known when it is over.
    """

    def __init__(
        self,
        call: RunningCall,
        blocks: AsyncGenerator[bytes, None],
        *,
        over: Callable[[RunningCall], None],
        dropped: Callable[[RunningCall], None],
    ) -> None:
        """`over` is told when the call is; `dropped`, in the event loop, when nobody will end it any more."""
        self._call = call
        self._blocks = blocks
        self._tell_over = over
        self._tell_dropped = dropped
        self._ready: deque[ChatChunk] = deque()
        self._loop = asyncio.get_running_loop()
        self._over = False

    @property
    def request_id(self) -> str:
        return self._call.request_id

    @property
    def provider(self) -> str:
        return self._call.record.provider

    @property
    def model(self) -> str:
        """As it was called at the provider."""
        return self._call.record.routed_model

    @property
    def usage(self) -> Usage:
        return self._call.record.usage

    @property
    def cost_usd(self) -> Decimal | None:
        """Exact; None where no price is known, and while the stream runs."""
        return self._call.record.cost_usd

    @property
    def finish_reason(self) -> str | None:
        return self._call.record.finish_reason

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ChatChunk:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            await self._read()
        return self._ready.popleft()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Leaves the stream where it is. Does nothing to one that is over."""
        if self._over:
            return
        self._over = True
        self._ready.clear()
        try:
            await self._blocks.aclose()
        finally:
            await self._call.abandon()
            self._tell_over(self._call)

    def __del__(self) -> None:
        if not self._over and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._tell_dropped, self._call)

    async def _read(self) -> None:
        try:
            block = await anext(self._blocks, None)
            if block is not None:
                self._ready.extend(_chunks(block))
                return
        except BaseException as error:
            self._over = True
            await self._call.fail(error)
            self._tell_over(self._call)
            raise
        self._over = True
        await self._call.end()
        self._tell_over(self._call)


def _chunks(block: bytes) -> list[ChatChunk]:
    return [_chunk(event.data) for event in split_events(block) if event.data and event.data != b"[DONE]"]


def _chunk(data: bytes) -> ChatChunk:
    try:
        raw = parse_json(data)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("A chunk of the provider's stream is not JSON.") from None
    if not isinstance(raw, dict):
        raise UpstreamMalformed("A chunk of the provider's stream is not a JSON object.")
    return read_chunk(raw)
