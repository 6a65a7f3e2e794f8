"""A stream on its way to its caller. Where its provider fails, another model goes on with the answer.

The caller has a status of 200 by then, so that there are two honest ends: the rest of the answer, or an error in the
stream. What cannot be gone on with (tool calls, several choices) ends in the error.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from llm_gateway.dialects.continuation import Continued, Prefill, continued_request, prefill_style
from llm_gateway.dialects.dialect import Said, StreamTranslator
from llm_gateway.domain.catalog import Deployment, Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamError
from llm_gateway.metering.estimate import estimate_tokens
from llm_gateway.pipeline.attempts import MakeLeg
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.provider_call import ProviderCall
from llm_gateway.routing.candidates import Candidate
from llm_gateway.schemas.openai_chat import ModelRequest
from llm_gateway.upstream.framing import split_events

NextLeg = Callable[[Leg, UpstreamError, MakeLeg], Awaitable[Leg]]
"""Raises the error that the caller is to be told."""


class RecoveringStream:
    """`request` is the whole one, `leg_of` makes a leg of what is left of it, `begin` and `succeeded` are told of each.

    `used` is what the legs so far came to; `recovers` is false where an error is what is wanted.
    """

    def __init__(
        self,
        request: ModelRequest,
        calls: ProviderCall,
        next_leg: NextLeg,
        provider_of: Callable[[Deployment], Provider],
        leg_of: Callable[[Candidate, ModelRequest], Leg],
        begin: Callable[[Leg], None],
        succeeded: Callable[[Leg], None],
        used: Callable[[], Usage],
        *,
        recovers: bool,
    ) -> None:
        self._recovers = recovers
        self._request = request
        self._calls = calls
        self._next_leg = next_leg
        self._provider_of = provider_of
        self._leg_of = leg_of
        self._begin = begin
        self._succeeded = succeeded
        self._used = used

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

    async def _continued(self, leg: Leg, error: UpstreamError) -> Leg:
        assert leg.translator is not None
        said = leg.translator.said()
        if not self._recovers or leg.translator.whole or not said.plain:
            leg.error = error
            raise error
        while True:
            leg = await self._next_leg(leg, error, partial(self._leg_for_the_rest, said))
            self._begin(leg)
            try:
                await self._calls.stream(leg, to_its_end=False, wrapped=self._continuation(leg, said))
            except UpstreamError as failed:
                leg.masked(failed)
                error = failed
            else:
                self._succeeded(leg)
                return leg

    def _continuation(self, leg: Leg, said: Said) -> Callable[[StreamTranslator], StreamTranslator]:
        before, prefill = self._used(), self._prefill(leg.candidate, said)
        assert prefill is not None, "it would have no leg"
        return lambda translator: Continued(translator, said, before, prefill, split_events)

    def _leg_for_the_rest(self, said: Said, candidate: Candidate) -> Leg | None:
        prefill = self._prefill(candidate, said)
        if prefill is None:
            return None
        request = continued_request(self._request, said, prefill, estimate_tokens(said.content))
        return None if request is None else self._leg_of(candidate, request)

    def _prefill(self, candidate: Candidate, said: Said) -> Prefill | None:
        """Where nothing of the answer itself has gone out, only reasoning, any model can begin it."""
        if not said.content:
            return Prefill("plain")
        return prefill_style(self._provider_of(candidate.deployment), candidate.deployment.model)
