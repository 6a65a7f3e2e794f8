"""Specifies how a body that is made in this process is ended from outside."""

import asyncio
from collections.abc import AsyncGenerator

import pytest

from llm_gateway.errors import UpstreamTimeout
from llm_gateway.upstream.endable import EndablePieces
from tests.fakes.virtual_time import in_virtual_time
from tests.unit.echo_calls import USER, call

LATE = UpstreamTimeout("too late")


class Pieces:
    """One every ten seconds. `cleaned_up` says whether it was let finish."""

    def __init__(self, count: int = 3) -> None:
        self.count = count
        self.cleaned_up = False

    async def come(self) -> AsyncGenerator[bytes, None]:
        try:
            for _ in range(self.count):
                await asyncio.sleep(10)
                yield b"piece"
        finally:
            self.cleaned_up = True


def later(seconds: float, body: EndablePieces) -> None:
    asyncio.get_running_loop().call_later(seconds, body.end, LATE)


@in_virtual_time
async def test_a_read_that_waits_is_ended_at_once() -> None:
    pieces = Pieces()
    body = EndablePieces(pieces.come())
    began = asyncio.get_running_loop().time()
    later(15, body)
    assert await anext(body) == b"piece"
    for _ in range(2):
        with pytest.raises(UpstreamTimeout) as caught:
            await anext(body)
        assert caught.value is LATE
    assert asyncio.get_running_loop().time() - began == pytest.approx(15)
    assert pieces.cleaned_up
    await body.close()


@in_virtual_time
async def test_between_two_reads_the_next_one_hears_of_it() -> None:
    body = EndablePieces(Pieces().come())
    await anext(body)
    body.end(LATE)
    body.end(UpstreamTimeout("once more"))
    with pytest.raises(UpstreamTimeout, match="too late"):
        await anext(body)
    await body.close()


@in_virtual_time
async def test_one_that_is_over_stays_whole() -> None:
    body = EndablePieces(Pieces(1).come())
    assert [piece async for piece in body] == [b"piece"]
    body.end(LATE)
    assert [piece async for piece in body] == []


@in_virtual_time
async def test_whoever_is_cancelled_is_cancelled() -> None:
    body = EndablePieces(Pieces().come())
    reading = asyncio.ensure_future(body.__anext__())
    await asyncio.sleep(1)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await body.close()


@in_virtual_time
async def test_its_own_timeout_is_its_own() -> None:
    async def impatient() -> AsyncGenerator[bytes, None]:
        raise TimeoutError("of its own")
        yield b""

    with pytest.raises(TimeoutError, match="of its own"):
        await anext(EndablePieces(impatient()))


@in_virtual_time
async def test_echo_is_ended_so() -> None:
    response = await call("/chat/completions", {"model": "stall", "messages": [USER], "stream": True}, idle_s=60)
    began = asyncio.get_running_loop().time()
    asyncio.get_running_loop().call_later(5, response.end, LATE)
    with pytest.raises(UpstreamTimeout, match="too late"):
        await response.read(1 << 20)
    assert asyncio.get_running_loop().time() - began == pytest.approx(5)
    await response.close()
