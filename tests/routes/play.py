"""10,000 requests through one way of choosing, on the gateway's own circuits, retries and hedging."""

from collections import Counter
from collections.abc import Generator, Iterable
from dataclasses import dataclass
from decimal import Decimal
from random import Random

from llm_gateway.domain.catalog import Deployment
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.faults import Fault
from llm_gateway.routing.hedging import Hedging
from llm_gateway.routing.retries import Decision, decide
from tests.routes.choosers import ALIAS, Way
from tests.routes.timeline import Story, Timeline
from tests.routes.world import TOTAL_S, Order, Sent, World

_Waits = Generator[float, None, Fault | None]
"""What came of a try; None is an answer."""


@dataclass(slots=True)
class Got:
    """What came of a request. Times are seconds from its arrival; None where nothing came."""

    content_s: float | None = None
    whole_s: float | None = None
    by: str | None = None
    """The provider that answered."""
    calls: int = 0
    hedged: bool = False
    cost: Decimal = Decimal(0)
    """What its calls were billed, those that were given up included: their prompts."""
    given_up_whole: Decimal = Decimal(0)
    """What they would have cost on top of that, had their providers written them to the end."""


class Play:
    def __init__(self, way: Way, world: World, seed: int) -> None:
        self._way = way
        self._world = world
        self._time = Timeline()
        self._circuits = Circuits(lambda: self._time.now)
        self._hedging = Hedging()
        self._chance = Random(seed)  # noqa: S311 - nothing secret
        self._in_flight: Counter[str] = Counter()

    def of(self, orders: Iterable[Order]) -> list[Got]:
        all_got = []
        for order in orders:
            all_got.append(got := Got())
            self._time.tell(self._story(order, got), order.at)
        self._time.run()
        assert not any(self._in_flight.values()), "every call has an end"
        return all_got

    def _story(self, order: Order, got: Got) -> Story:
        waiting = [*self._way.choose(order, self._time.now, self._circuits)]
        tries: Counter[str] = Counter()
        here = self._next(waiting)
        while True:
            first = not tries
            tries[here.name] += 1
            if first and self._way.hedge is not None:
                fault = yield from self._hedged(order, here, waiting, tries, got)
            else:
                fault = yield from self._answered(self._sent(order, here, tries, got), here, order, got)
            if fault is None:
                return
            decision = self._decision(fault, order, here, waiting, tries)
            if decision.kind == "stop":
                return
            if decision.kind == "next":
                here = self._next(waiting)
            else:
                yield decision.wait_s

    def _decision(
        self, fault: Fault, order: Order, here: Deployment, waiting: list[Deployment], tries: Counter[str]
    ) -> Decision:
        if not self._way.tries_on:
            return Decision("stop")
        return decide(
            fault,
            tries_here=tries[here.name],
            retries=None,
            others_left=bool(waiting),
            left_s=order.at + TOTAL_S - self._time.now - 1.0,
            random=self._chance.random,
        )

    def _next(self, waiting: list[Deployment]) -> Deployment:
        """As `pipeline.attempts` takes them: the first whose circuit is not open, or the first."""
        if not self._way.tries_on:
            return waiting.pop(0)
        free = (at for at, each in enumerate(waiting) if not self._circuits.open(each.name))
        return waiting.pop(next(free, 0))

    def _sent(self, order: Order, here: Deployment, tries: Counter[str], got: Got) -> Sent:
        got.calls += 1
        sent = self._world.send(
            order, here.name, attempt=tries[here.name], now=self._time.now, in_flight=self._in_flight[here.name]
        )
        self._in_flight[here.name] += 1
        self._circuits.try_enter(here.name)
        self._circuits.begin(here.name)
        return sent

    def _answered(self, sent: Sent, here: Deployment, order: Order, got: Got, waited_s: float = 0.0) -> _Waits:
        """Waits for its answer, or its failure; `waited_s` of it are over. Its writing goes on by itself."""
        yield sent.answers_s - waited_s
        if sent.fault is not None:
            self._circuits.failed(here.name, sent.fault, sent.answers_s)
            self._end(here)
            got.cost += sent.prompt_cost
            return sent.fault
        self._circuits.succeeded(here.name, sent.answers_s, sent.answers_s)
        self._hedging.took(here.name, sent.answers_s, streamed=True)
        self._time.at(self._time.now + sent.writes_s, lambda: self._end(here, sent.tokens_per_s))
        content_s = self._time.now - order.at
        if content_s + sent.writes_s <= TOTAL_S:
            got.content_s, got.whole_s, got.by = content_s, content_s + sent.writes_s, here.provider
        got.cost += sent.cost
        return None

    def _hedged(
        self, order: Order, here: Deployment, waiting: list[Deployment], tries: Counter[str], got: Got
    ) -> _Waits:
        """The first try, with a second one beside it where that is due."""
        assert self._way.hedge is not None
        after_s = self._hedging.begin(ALIAS, self._way.hedge, here.name, streamed=True)
        sent = self._sent(order, here, tries, got)
        if after_s is None or sent.answers_s <= after_s:
            return (yield from self._answered(sent, here, order, got))
        yield after_s
        other = next((each for each in waiting if not self._circuits.open(each.name)), None)
        if other is None or not self._hedging.take(ALIAS):
            return (yield from self._answered(sent, here, order, got, after_s))
        waiting.remove(other)
        tries[other.name] += 1
        got.hedged = True
        second = self._sent(order, other, tries, got)
        return (yield from self._raced((sent, here, after_s), (second, other, 0.0), order, got))

    def _raced(
        self, one: tuple[Sent, Deployment, float], two: tuple[Sent, Deployment, float], order: Order, got: Got
    ) -> _Waits:
        """Two calls, each with the seconds it has been under way: the first content wins, and ends the other."""
        began = self._time.now
        sooner, later = sorted((one, two), key=lambda each: each[0].answers_s - each[2])
        fault = yield from self._answered(*sooner[:2], order, got, sooner[2])
        passed_s = self._time.now - began
        sent, here, before_s = later
        if fault is not None:
            return (yield from self._answered(sent, here, order, got, before_s + passed_s))
        waited_s = before_s + passed_s
        if later is one and self._hedging.given_up(here.name, waited_s, streamed=True):
            self._circuits.failed(here.name, Fault("silent"), waited_s)
        else:
            self._circuits.left(here.name)
        self._end(here)
        got.cost += sent.prompt_cost
        got.given_up_whole += max(Decimal(0), sent.cost - sent.prompt_cost)
        return None

    def _end(self, here: Deployment, tokens_per_s: float | None = None) -> None:
        self._in_flight[here.name] -= 1
        self._circuits.ended(here.name, tokens_per_s)
