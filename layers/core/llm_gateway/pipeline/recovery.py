"""A stream on its way to its caller. Where its provider fails, another model goes on with the answer.

The caller has a status of 200 by then, so that there are two honest ends: the rest of the answer, or an error in the
stream. What cannot be gone on with (tool calls, several choices) ends in the error.
"""

from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import TYPE_CHECKING

from llm_gateway.dialects.continuation import Continued, Prefill, continued_request, prefill_style
from llm_gateway.dialects.dialect import Said, StreamTranslator
from llm_gateway.errors import GatewayError, UpstreamError
from llm_gateway.metering.estimate import estimate_tokens
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.candidates import Candidate
from llm_gateway.upstream.framing import split_events

if TYPE_CHECKING:
    from llm_gateway.pipeline.journey import Journey


class RecoveringStream:
    """A journey's, from its first content on. `recovers` is false where an error is what is wanted."""

    def __init__(self, journey: "Journey", *, recovers: bool) -> None:
        self._journey = journey
        self._recovers = recovers

    async def stream(self, leg: Leg) -> AsyncGenerator[bytes, None]:
        """What the caller gets, whole events at a time. Raises `UpstreamError` where nobody can go on."""
        while True:
            assert leg.relay is not None
            try:
                async for block in leg.relay.stream():
                    yield block
            except UpstreamError as error:
                leg.masked(error)
                leg = await self._continued(leg, error)
            else:
                return

    async def _continued(self, leg: Leg, error: GatewayError) -> Leg:
        assert leg.translator is not None
        said = leg.translator.said()
        if not self._recovers or leg.translator.whole or not said.plain:
            leg.error = error
            raise error
        while True:
            leg = await self._journey.next_leg(leg, error, partial(self._leg_for_the_rest, said))
            self._journey.begin(leg)
            try:
                await self._journey.calls.stream(leg, to_its_end=False, wrapped=self._continuation(leg, said))
            except GatewayError as failed:  # also a key that is lacking, or cannot be read
                error = leg.masked(failed)
            else:
                self._journey.attempts.succeeded(leg)
                return leg

    def _continuation(self, leg: Leg, said: Said) -> Callable[[StreamTranslator], StreamTranslator]:
        before, prefill = self._journey.used(), self._prefill(leg.candidate, said)
        assert prefill is not None, "it would have no leg"
        return lambda translator: Continued(translator, said, before, prefill, split_events)

    def _leg_for_the_rest(self, said: Said, candidate: Candidate) -> Leg | None:
        prefill = self._prefill(candidate, said)
        if prefill is None:
            return None
        request = continued_request(self._journey.request, said, prefill, estimate_tokens(said.content))
        return None if request is None else self._journey.leg_of(candidate, request)

    def _prefill(self, candidate: Candidate, said: Said) -> Prefill | None:
        """Where nothing of the answer itself has gone out, only reasoning, any model can begin it."""
        if not said.content:
            return Prefill("plain")
        return prefill_style(self._journey.provider_of(candidate.deployment), candidate.deployment.model)
