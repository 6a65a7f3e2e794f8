"""A second deployment beside one that keeps silent: whichever answers first serves, the other one is given up.

What is given up is billed as far as it was begun, and under a budget both are held.
"""

import asyncio
from typing import TYPE_CHECKING

from llm_gateway.domain.catalog import Recovery
from llm_gateway.domain.strategies import Hedge
from llm_gateway.errors import GatewayError, UpstreamTimeout
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.hedging import Hedging

if TYPE_CHECKING:
    from llm_gateway.pipeline.journey import Journey

_Called = asyncio.Task[GatewayError | None]


async def hedged(
    journey: "Journey", hedging: Hedging, alias: str, hedge: Hedge, leg: Leg, mode: Recovery | None
) -> tuple[Leg, GatewayError | None]:
    """The leg that answered, or the one that failed last, with its error. `leg` is the first, which this begins."""
    streamed = journey.request.stream
    after_s = hedging.begin(alias, hedge, leg.deployment.name, streamed=streamed)
    journey.begin(leg)
    calls: dict[_Called, Leg] = {asyncio.ensure_future(journey.called(leg, mode)): leg}
    try:
        await asyncio.wait(calls, timeout=after_s)
        if after_s is not None and not _done(calls) and (second := await _second(journey, hedging, alias)) is not None:
            if _done(calls):  # while room was made for it
                journey.attempts.put_back(second)
                hedging.give_back(alias)
            else:
                journey.begin(second)
                calls[asyncio.ensure_future(journey.called(second, mode))] = second
        winner, error = await _first_answer(journey, calls)
    finally:
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
    for call, each in calls.items():
        if each is not winner and each.error is None:
            await _end_loser(journey, call, each)
    journey.settles_on(winner)
    if leg.given_up and hedging.given_up(leg.deployment.name, journey.took_s(leg), streamed=streamed):
        journey.attempts.tell_circuit(leg, UpstreamTimeout("It keeps silent until others have answered."))
    if error is None:
        hedging.took(winner.deployment.name, journey.took_s(winner), streamed=streamed)
    return winner, error


async def _first_answer(journey: "Journey", calls: dict[_Called, Leg]) -> tuple[Leg, GatewayError | None]:
    """The first leg that answers; where all fail, the one that did so last."""
    under_way = set(calls)
    while True:
        done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
        for call in done:
            if (error := call.result()) is None:
                return calls[call], None
        failed = [(calls[call], error) for call in done if (error := call.result()) is not None]
        last = None if under_way else failed.pop()
        for leg, why in failed:
            await journey.fail(leg, why)
            journey.attempts.note(leg, why)
        if last is not None:
            return last


async def _end_loser(journey: "Journey", call: _Called, leg: Leg) -> None:
    """Its call is over: cancelled, or it ended in the very turn of the loop in which the other one answered."""
    if not call.cancelled() and call.exception() is None and (why := call.result()) is not None:
        await journey.fail(leg, why)
        journey.attempts.note(leg, why)
    else:
        await journey.give_up(leg)


def _done(calls: dict[_Called, Leg]) -> bool:
    return any(call.done() for call in calls)


async def _second(journey: "Journey", hedging: Hedging, alias: str) -> Leg | None:
    """None where there is nobody left, or no room for one call more."""
    if not hedging.take(alias):
        return None
    leg = journey.attempts.another(journey.leg_at)
    if leg is not None:
        try:
            return await journey.widened_beside(leg)
        except GatewayError:
            # Without room beside the first one; it may still have its turn, should that fail.
            journey.attempts.put_back(leg)
    hedging.give_back(alias)
    return None
