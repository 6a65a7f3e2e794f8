"""Which deployment a request is tried at next, after how long, and what its caller is told when none is left.

The rules are pure (`routing.plan`, `routing.retries`, `routing.circuits`); this keeps one request's account of what has
been tried, and waits.
"""

from collections.abc import Callable, Container
from typing import Protocol

from llm_gateway.errors import GatewayError, InvalidRequest
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.circuits import Circuits
from llm_gateway.routing.faults import Fault, fault_of
from llm_gateway.routing.plan import Plan
from llm_gateway.routing.retries import Chain, Decision, decide

MakeLeg = Callable[[Candidate], Leg | None]
"""None where the deployment cannot serve; raises `InvalidRequest` for a request that its wire cannot carry."""

SHORTEST_TRY_S = 1.0
"""With less time than that left, nothing new is begun."""
MOST_LEGS = 12
"""Of one request, whatever is configured."""


class Planner(Protocol):
    """`routing.plan.plan` for one request."""

    def __call__(self, *, chain: Chain = "general", tried: Container[str] = ()) -> Plan: ...


class Attempts:
    """One request's way through its candidates. `deadline` is a reading of the clock: nothing begins close to it."""

    def __init__(self, planned: Planner, circuits: Circuits, clock: Clock, deadline: float) -> None:
        self._planned = planned
        self._circuits = circuits
        self._clock = clock
        self.deadline = deadline
        self._seen: set[str] = set()
        self._chain: Chain = "general"
        self._tries: dict[str, int] = {}
        self._legs = 0
        self._entered: set[Leg] = set()
        """Those whose circuit waits to hear how it went."""
        self._told: GatewayError | None = None
        self.plan = planned()
        """Of the general chain, as the request began."""
        self._waiting = [each.candidate for each in self.plan.candidates]

    def first(self, make: MakeLeg) -> Leg:
        """The leg that is tried first. Raises `InvalidRequest` where no candidate's wire can carry the request."""
        leg, refusal = self._next(make)
        if leg is not None:
            return leg
        assert refusal is not None, "a route has a deployment"
        raise refusal

    @property
    def others(self) -> bool:
        """Whether candidates are left that were not tried yet."""
        return bool(self._waiting)

    def begins(self, leg: Leg) -> None:
        """Says that the leg is about to be sent, and sets the time it has until its first byte."""
        name = leg.deployment.name
        self._tries[name] = self._tries.get(name, 0) + 1
        self._legs += 1
        self._entered.add(leg)
        leg.probe = self._circuits.opening(name) is not None
        self._circuits.try_enter(name)
        self._circuits.begin(name)
        leg.sent_at = self._clock.now()
        leg.total_s = min(leg.timeouts.total_s, max(0.0, self.deadline - leg.sent_at))
        leg.within_s = min(leg.timeouts.first_token_s, leg.total_s)

    def succeeded(self, leg: Leg) -> None:
        """The deployment has answered, or begun to."""
        self._entered.discard(leg)
        took_s = self._clock.now() - leg.begun_at
        self._circuits.succeeded(leg.deployment.name, took_s, took_s if leg.relay is not None else None)

    def left(self, leg: Leg) -> None:
        """The leg is over and says nothing of its deployment."""
        if leg in self._entered:
            self._entered.discard(leg)
            self._circuits.left(leg.deployment.name)
        self.ended(leg)

    def ended(self, leg: Leg) -> None:
        """The leg is over, however it went; calls after the first do nothing."""
        if leg.over or leg.sent_at is None:
            return
        leg.over = True
        self._circuits.ended(leg.deployment.name, leg.tokens_per_s(self._clock.now()))

    async def after(self, leg: Leg, error: GatewayError, make: MakeLeg) -> Leg | None:
        """The next leg, when it is time for it; None where nothing more is to be tried."""
        fault = self.note(leg, error)
        decision = self._decision(leg, fault)
        if decision.kind == "stop":
            return None
        if decision.kind == "again" and (again := make(leg.candidate)) is not None:
            await self._clock.sleep(decision.wait_s)
            return again
        if decision.chain != "general":  # which means: on, wherever it is
            self._chain = decision.chain
            self._waiting = self._of_chain(decision.chain)
        return self._next(make)[0]

    def pass_over(self, make: MakeLeg) -> Leg | None:
        """The candidate after one that is at a limit of its own, which was never called."""
        return self._next(make)[0]

    @property
    def told(self) -> GatewayError:
        """What the caller is told in the end."""
        assert self._told is not None
        return self._told

    def another(self, make: MakeLeg) -> Leg | None:
        """A leg to be tried beside one that is under way, at a deployment that is not known to fail."""
        free = [each for each in self._waiting if not self._circuits.open(each.deployment.name)]
        return self._next(make)[0] if free else None

    def put_back(self, leg: Leg) -> None:
        """Says that a leg was not begun: its candidate comes first again."""
        self._seen.discard(leg.deployment.name)
        self._waiting.insert(0, leg.candidate)

    def note(self, leg: Leg, error: GatewayError) -> Fault:
        """Remembers what a leg failed with, for its circuit and for the caller."""
        self._remember(error)
        return self.tell_circuit(leg, error)

    def tell_circuit(self, leg: Leg, error: GatewayError) -> Fault:
        name, fault = leg.deployment.name, fault_of(error)
        self._entered.discard(leg)
        if _is_the_callers(leg, fault):
            self._circuits.left(name)
        else:
            self._circuits.failed(name, fault, self._clock.now() - leg.begun_at)
        return fault

    def _decision(self, leg: Leg, fault: Fault) -> Decision:
        left_s = self.deadline - self._clock.now() - SHORTEST_TRY_S
        if self._legs >= MOST_LEGS:
            return Decision("stop")
        return decide(
            fault,
            tries_here=self._tries.get(leg.deployment.name, 0),
            # A deployment that has just shown that it is still down is not asked again while others serve.
            retries=0 if leg.probe and self._waiting else leg.candidate.group.retries,
            others_left=bool(self._waiting),
            left_s=left_s,
            random=self._clock.random,
            context_left=self._chain == "general" and bool(self._of_chain("context")),
            content_left=self._chain == "general" and bool(self._of_chain("content")),
        )

    def _remember(self, error: GatewayError) -> None:
        """The first refusal stands: it is about what was asked for. But a deployment of ours without a key, or one
        that does not have the model, says nothing about the request, and gives way to whatever else went wrong."""
        denied = self._told is not None and fault_of(self._told).kind == "denied"
        if self._told is None or (denied and fault_of(error).kind != "denied"):
            self._told = error

    def _next(self, make: MakeLeg) -> tuple[Leg | None, InvalidRequest | None]:
        """The next candidate that can serve, and why the first that cannot carry the request does not."""
        refusal = None
        while self._waiting:
            candidate = self._pop()
            try:
                leg = make(candidate)
            except InvalidRequest as error:
                refusal = refusal or error
                continue
            if leg is not None:
                return leg, refusal
        return None, refusal

    def _pop(self) -> Candidate:
        """The first whose circuit is not open, for that may have changed since they were put in order; or the first."""
        free = (at for at, each in enumerate(self._waiting) if not self._circuits.open(each.deployment.name))
        candidate = self._waiting.pop(next(free, 0))
        self._seen.add(candidate.deployment.name)
        return candidate

    def _of_chain(self, chain: Chain) -> list[Candidate]:
        return [each.candidate for each in self._planned(chain=chain, tried=self._seen).candidates]


def _is_the_callers(leg: Leg, fault: Fault) -> bool:
    """Whether a failure is nobody else's trouble: that of somebody's own key, or of who had less time than there is."""
    if fault.kind in ("denied", "limited"):
        return leg.key is not None and leg.key.source in ("team", "given")
    return fault.kind == "silent" and leg.within_s < min(leg.timeouts.first_token_s, leg.timeouts.total_s)
