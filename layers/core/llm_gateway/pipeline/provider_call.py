"""One leg's call: sent, accepted, and read, whole or as a stream that has begun."""

from collections.abc import Callable

from llm_gateway.dialects.dialect import DecodedAnswer, Endpoint, StreamTranslator
from llm_gateway.domain.ports import HttpResponse
from llm_gateway.errors import UpstreamError
from llm_gateway.pipeline.batches import BatchCalls
from llm_gateway.pipeline.clock import Clock, read_until
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.leg import Leg, Price, estimate
from llm_gateway.pipeline.relay import NotAStream, StreamRelay
from llm_gateway.upstream.framings import FRAMINGS

_LONGEST_ANSWER = 64 << 20

Wrapped = Callable[[StreamTranslator], StreamTranslator]


class ProviderCall:
    """Makes the calls of one request's legs. Everything here raises `UpstreamError` and its kin."""

    def __init__(
        self,
        endpoint: Endpoint,
        dispatcher: Dispatcher,
        clock: Clock,
        price: Price,
        first_byte_until: float,
        total_until: float,
    ) -> None:
        """Both ends are readings of the clock: when the caller must hear something, and when it must be over."""
        self._endpoint = endpoint
        self._dispatcher = dispatcher
        self._clock = clock
        self._price = price
        self._first_byte_until = first_byte_until
        self.total_until = total_until

    async def whole(self, leg: Leg) -> DecodedAnswer:
        """The answer, read to its end; `leg` knows what it comes to."""
        if len(leg.parts) > 1:
            return await self._batched(leg)
        response = leg.response = await self._send(leg)
        until = self._until(leg, self._first_byte_until)
        body = await read_until(
            response, _LONGEST_ANSWER, until, self._clock, first_until=leg.begun_at + leg.timeouts.first_token_s
        )
        decoded = self._decoded(leg, body, response)
        leg.counted = leg.in_tier(decoded.usage or estimate(leg.request.fields, decoded.text()))
        leg.cost = self._price(leg, leg.counted, decoded.model)
        self._ended(leg, decoded)
        return decoded

    async def stream(self, leg: Leg, *, to_its_end: bool, wrapped: Wrapped | None = None) -> StreamRelay:
        """The answer once its first content has come, or `to_its_end` once all of it has.

        `wrapped` makes the stream the continuation of another one.
        """
        response = leg.response = await self._send(leg)
        splitter, split_events = FRAMINGS[leg.parts[0].encoded.framing]
        translator = leg.dialect.translator(leg.request, leg.deployment.model, split_events)
        leg.translator = translator if wrapped is None else wrapped(translator)
        leg.relay = StreamRelay(
            response,
            leg.translator,
            splitter(),
            leg.timeouts,
            began=leg.begun_at,
            total_until=self._until(leg, self._first_byte_until if to_its_end else self.total_until),
            clock=self._clock,
        )
        try:
            await leg.relay.open(whole=to_its_end)
        except NotAStream as answer:
            # Perhaps an error, sent with 200. Anything else is no answer to a request for a stream, and billed.
            leg.translator = None
            whole = self._decoded(leg, answer.body, response)
            leg.counted = whole.usage or estimate(leg.request.fields, whole.text())
            raise
        leg.first_content_at = leg.relay.first_content_at
        return leg.relay

    async def _batched(self, leg: Leg) -> DecodedAnswer:
        calls = BatchCalls(leg, self._dispatcher)
        try:
            decoded = await calls.run()
        finally:
            if bill := calls.bill(self._price):
                leg.counted, leg.cost = bill
        leg.status = 200
        self._ended(leg, decoded)
        return decoded

    def _decoded(self, leg: Leg, body: bytes, response: HttpResponse) -> DecodedAnswer:
        try:
            return leg.dialect.decode(self._endpoint, leg.request, leg.deployment.model, body, response.headers)
        except UpstreamError:
            # No answer, and billed all the same. What counts nothing is estimated where it was begun.
            told = leg.dialect.told_usage(leg.deployment.model, body)
            leg.counted = told if told is not None and (told.input_tokens or told.output_tokens) else None
            raise

    def _until(self, leg: Leg, ends: float) -> float:
        return min(ends, leg.begun_at + leg.timeouts.total_s)

    async def _send(self, leg: Leg) -> HttpResponse:
        response = await self._dispatcher.send(leg, leg.parts[0])
        leg.status = response.status
        return response

    def _ended(self, leg: Leg, decoded: DecodedAnswer) -> None:
        leg.answered_model, leg.finish_reason = decoded.model, decoded.finish_reason
        leg.ended_at = self._clock.now()
