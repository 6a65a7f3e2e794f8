"""Embeddings of more inputs than the provider takes in a call: several calls, one answer, one entry in the ledger.

A batch is whole or it fails: with the first refusal the calls still under way are cancelled, and the refusal is the
caller's. What was answered by then is billed all the same, so it is counted.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace

import orjson

from llm_gateway.dialects.dialect import DecodedAnswer, Dialect, EncodedRequest
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Cost, Usage, total_usage
from llm_gateway.errors import UpstreamCut, UpstreamMalformed, UpstreamTimeout
from llm_gateway.metering.cost import total_cost
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.leg import Leg, Price, estimate
from llm_gateway.schemas.openai_chat import ModelRequest

_AT_ONCE = 8
"""Calls under way for one request: enough to hide the latency, few enough not to use up a rate limit at once."""

_LONGEST_ANSWER = 64 << 20


@dataclass(eq=False, slots=True)
class Part:
    """A request for some of the inputs, as it came and as it goes up."""

    request: ModelRequest
    encoded: EncodedRequest
    reached: bool = False
    """It went out to the provider, which has not refused it."""

    def went_out(self) -> None:
        self.reached = True


def parts_of(request: ModelRequest, dialect: Dialect, model: str, provider: Provider) -> list[Part]:
    """The calls that a request for embeddings takes, in the order of its inputs. Raises `InvalidRequest`."""
    requests = [request]
    given, most = request.fields["input"], dialect.inputs_per_call(model, provider)
    # Anything else than texts is the dialect's to take or to refuse.
    if most is not None and isinstance(given, list) and all(isinstance(each, str) for each in given):
        requests = [_with_input(request, given[at : at + most]) for at in range(0, len(given), most)]
    return [Part(each, dialect.encode("embeddings", each, model, provider)) for each in requests]


class BatchCalls:
    """The calls of one leg of several parts."""

    def __init__(self, leg: Leg, dispatcher: Dispatcher) -> None:
        self._leg = leg
        self._parts = leg.parts
        self._dispatcher = dispatcher
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._done: dict[int, DecodedAnswer] = {}

    async def run(self) -> DecodedAnswer:
        """The one answer. What failed joins the leg's attempts. Raises the first call's `GatewayError` that failed.

        All of it is bounded like a single call's whole answer, for the caller hears nothing before it ends.
        """
        allowed_s = self._leg.total_s
        try:
            async with asyncio.timeout(allowed_s), asyncio.TaskGroup() as group:
                for at in range(len(self._parts)):
                    group.create_task(self._call(at))
        except TimeoutError:
            raise UpstreamTimeout(
                f"The {len(self._parts)} calls of this batch took longer than {allowed_s:g} s."
            ) from None
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return self._joined()

    def bill(self, price: Price) -> tuple[Usage, Cost] | None:
        """What the answered calls come to, each priced by itself; None where none was answered."""
        if not self._done:
            return None
        counted = [
            (answer.usage or estimate(self._parts[at].request.fields, ""), answer.model)
            for at, answer in self._done.items()
        ]
        costs = [price(self._leg, usage, model) for usage, model in counted]
        return total_usage([usage for usage, _ in counted]), total_cost(costs)

    async def _call(self, at: int) -> None:
        part = self._parts[at]
        async with self._slots:
            try:
                headers, body = await self._answer(part)
            except (asyncio.CancelledError, UpstreamCut, UpstreamTimeout):
                self._leg.broken_off = self._leg.broken_off or part.reached
                raise
        model = self._leg.deployment.model
        self._done[at] = self._leg.dialect.decode("embeddings", part.request, model, body, headers)

    async def _answer(self, part: Part) -> tuple[Mapping[str, str], bytes]:
        response = await self._dispatcher.send(self._leg, part)
        try:
            return response.headers, await response.read(_LONGEST_ANSWER)
        finally:
            await response.close()

    def _joined(self) -> DecodedAnswer:
        answers = [self._done[at] for at in range(len(self._parts))]
        bodies = [orjson.loads(answer.body) for answer in answers]
        data = [item for body in bodies for item in body["data"]]
        # By their sum an answer too short could hide behind one too long, and every vector after it be another text's.
        if any(
            len(body["data"]) != len(part.request.fields["input"])
            for body, part in zip(bodies, self._parts, strict=True)
        ):
            raise UpstreamMalformed("The provider did not give one embedding for each input.")
        for index, item in enumerate(data):
            item["index"] = index
        counts = [answer.usage for answer in answers]
        usage = total_usage([count for count in counts if count is not None]) if None not in counts else None
        told = None if usage is None else {"prompt_tokens": usage.input_tokens, "total_tokens": usage.input_tokens}
        body = orjson.dumps({**bodies[0], "data": data, "usage": told})
        return DecodedAnswer(body, answers[0].model, None, usage, str)


def _with_input(request: ModelRequest, texts: list[str]) -> ModelRequest:
    fields = {**request.fields, "input": texts}
    return replace(request, fields=fields, body=orjson.dumps(fields))
