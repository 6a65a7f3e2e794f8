"""Specifies when a batch of calls that failed has had calls under way: what its provider may bill beside what it told."""

import asyncio
from typing import Any, cast

import pytest

from llm_gateway.dialects.dialect import EncodedRequest
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamCut, UpstreamRejected
from llm_gateway.pipeline.batches import BatchCalls, Part
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.leg import Leg
from llm_gateway.schemas.openai_chat import ModelRequest
from tests.fakes.legs import leg_at

REQUEST = ModelRequest(b"{}", {"input": ["a"]}, "m")


class Sends:
    """A dispatcher whose first call fails, once the others are `reached` or still wait for a connection."""

    def __init__(self, error: Exception, *, reached: bool) -> None:
        self._error = error
        self._reached = reached

    async def send(self, leg: Leg, part: Part) -> HttpResponse:
        if self._reached:
            part.went_out()
        if part is not leg.parts[0]:
            await asyncio.Event().wait()
        await asyncio.sleep(0)
        part.reached = self._reached and isinstance(self._error, UpstreamCut)
        raise self._error


async def failed(sends: Any) -> Leg:
    leg = leg_at(total_s=5.0)
    leg.parts.extend(Part(REQUEST, EncodedRequest("/embeddings", b"{}")) for _ in range(3))
    with pytest.raises((UpstreamCut, UpstreamRejected)):
        await BatchCalls(leg, cast("Dispatcher", sends)).run()
    return leg


@pytest.mark.parametrize("error", [UpstreamCut("cut"), UpstreamRejected("no")])
@pytest.mark.parametrize("reached", [True, False])
async def test_only_what_went_out_was_broken_off(error: Exception, reached: bool) -> None:
    leg = await failed(Sends(error, reached=reached))
    assert (leg.broken_off, leg.reached) == (reached, reached)
