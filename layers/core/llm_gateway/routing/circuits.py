"""A circuit for each deployment, in this process: one that keeps failing is passed over for a while.

    closed     calls go as they come; opens on so many failures in a row, or on a rate of them
    open       passed over while others serve, until it has cooled down
    half open  one call tries it: a success closes it, a failure opens it for longer

What a provider says of the request alone (too long, against its policy, wrong) shows that the deployment works. A rate
limit is no failure; three in a row let the deployment rest for as long as the provider says, within reason.

A call counts for or against an open circuit only if it began after the opening: what was under way when a provider went
silent tells nothing of how it is now.

What other processes find out is told here too (`told_open`, `told_well`). Of two findings the one counts whose call
began later, whoever made it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from llm_gateway.domain.catalog import CircuitPolicy
from llm_gateway.routing.faults import Fault
from llm_gateway.routing.health import CircuitState, Pace

WINDOW_S: Final = 30.0
LEAST_CALLS: Final = 10
"""Of the window, for its error rate to count."""
LIMITS_IN_A_ROW: Final = 3
LONGEST_REST_S: Final = 10.0
"""After rate limits."""
PROBE_S: Final = 10.0
"""When a try that has not ended is given up for lost, and another one may come: a provider that fell silent must not
keep its own recovery from being seen."""
MOST_DEPLOYMENTS: Final = 1024
"""Names come from callers: the ones whose calls are the longest ago are forgotten."""

_NEVER: Final = float("-inf")
_SLOTS: Final = 10
_SLOT_S: Final = WINDOW_S / _SLOTS


@dataclass(frozen=True, slots=True)
class Opening:
    """Why and how long a circuit is open. Times are readings of the clock that `Circuits` was given."""

    began: float
    """When the call began that opened it last."""
    opened_at: float
    """When that call had failed."""
    rests_until: float
    since: float
    """When it was opened first, since it was last closed."""
    error: str | None = None


class _Window:
    """Calls and failures of the last `WINDOW_S` seconds, in slots that are used in turn."""

    __slots__ = ("_calls", "_failures", "_slot")

    def __init__(self) -> None:
        self._calls = [0] * _SLOTS
        self._failures = [0] * _SLOTS
        self._slot = 0
        """The newest, counted from the clock's zero."""

    def add(self, now: float, *, failed: bool) -> None:
        index = self._at(now)
        self._calls[index] += 1
        self._failures[index] += failed

    def counts(self, now: float) -> tuple[int, int]:
        self._at(now)
        return sum(self._calls), sum(self._failures)

    def _at(self, now: float) -> int:
        slot = int(now // _SLOT_S)
        for passed in range(max(self._slot + 1, slot - _SLOTS + 1), slot + 1):
            self._calls[passed % _SLOTS] = self._failures[passed % _SLOTS] = 0
        self._slot = max(slot, self._slot)
        return self._slot % _SLOTS


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    limits: int = 0
    last_error: str | None = None
    pace: Pace = field(default_factory=Pace)
    opened_at: float | None = None
    """None while closed."""
    began: float = 0.0
    """Of an open one: when the call began that opened it last."""
    since: float = 0.0
    """Of an open one: when it was last closed."""
    closes_from: float = 0.0
    """A call that began from here on and works closes it."""
    well_at: float = _NEVER
    """When the latest call began that worked."""
    rests_until: float = 0.0
    probe_at: float | None = None
    """When the try of a half-open circuit began."""
    window: _Window = field(default_factory=_Window)


class Circuits:
    """`now` is a monotonic clock in seconds. For one event loop: nothing here waits or locks."""

    def __init__(
        self,
        now: Callable[[], float],
        policy: CircuitPolicy | None = None,
        turned: Callable[[str], None] | None = None,
    ) -> None:
        """`turned` hears the name of each circuit that a call of this process opens, keeps open, or closes."""
        self.policy = policy or CircuitPolicy()
        """May be replaced at any time, as the catalog changes."""
        self.turned = turned
        self._now = now
        self._circuits: dict[str, _Circuit] = {}

    def open(self, name: str) -> bool:
        """Whether to pass over the deployment; False once it has cooled down and nobody is trying it."""
        circuit = self._circuits.get(name)
        return circuit is not None and circuit.opened_at is not None and not _may_probe(circuit, self._now())

    def try_enter(self, name: str) -> bool:
        """Takes the one try of a deployment that has cooled down; True where it is closed, False where it is open.

        What was entered is ended with `succeeded`, `failed` or `left`.
        """
        circuit = self._circuits.get(name)
        if circuit is None or circuit.opened_at is None:
            return True
        now = self._now()
        if not _may_probe(circuit, now):
            return False
        circuit.probe_at = now
        return True

    def begin(self, name: str) -> None:
        """A call is sent. Each is ended with `ended`, whatever came of it."""
        self._circuit(name).pace.in_flight += 1

    def ended(self, name: str, tokens_per_s: float | None = None) -> None:
        """A call is over, its stream included, which wrote `tokens_per_s` since its first content."""
        circuit = self._circuits.get(name)
        if circuit is not None:
            circuit.pace.in_flight = max(0, circuit.pace.in_flight - 1)
            circuit.pace.measured(tokens_per_s=tokens_per_s)

    def succeeded(
        self, name: str, latency_s: float, ttft_s: float | None = None, tokens_per_s: float | None = None
    ) -> None:
        """A call worked, `latency_s` after it began; the rest is given where it was measured by then."""
        circuit, now = self._circuit(name), self._now()
        opened_at = circuit.opened_at
        circuit.pace.measured(latency_s, ttft_s, tokens_per_s)
        self._works(circuit, now, now - latency_s)
        self._tell(name, circuit, opened_at)

    def failed(self, name: str, fault: Fault, latency_s: float = 0.0) -> None:
        """A call came to `fault`, `latency_s` after it began."""
        circuit, now = self._circuit(name), self._now()
        began, opened_at = now - latency_s, circuit.opened_at
        circuit.last_error = fault.code or fault.kind
        if fault.kind == "gateway":
            self.left(name)
        elif fault.kind in ("request", "context_length", "content_policy"):
            self._works(circuit, now, began)
        elif fault.kind == "limited":
            self._limited(circuit, now, began, fault.retry_after)
        else:
            self._broken(circuit, now, began)
        self._tell(name, circuit, opened_at)

    def left(self, name: str) -> None:
        """A call ended and says nothing of the deployment, as when its caller left: another one may try it."""
        circuit = self._circuits.get(name)
        if circuit is not None:
            circuit.probe_at = None

    def state(self, name: str) -> CircuitState:
        circuit = self._circuits.get(name)
        return CircuitState() if circuit is None else self._shown(circuit)

    def states(self) -> Mapping[str, CircuitState]:
        """Of every deployment that was called lately, by name."""
        return {name: self._shown(circuit) for name, circuit in self._circuits.items()}

    def opening(self, name: str) -> Opening | None:
        """None for one that is closed."""
        circuit = self._circuits.get(name)
        return None if circuit is None else _opening(circuit)

    def openings(self) -> Mapping[str, Opening]:
        """Of every circuit that is not closed, by name."""
        found = ((name, _opening(circuit)) for name, circuit in self._circuits.items())
        return {name: opening for name, opening in found if opening is not None}

    def well_at(self, name: str) -> float | None:
        """When the latest call began that worked; None where none is known."""
        circuit = self._circuits.get(name)
        return None if circuit is None or circuit.well_at == _NEVER else circuit.well_at

    def told_open(self, name: str, opening: Opening) -> None:
        """Another process has found the deployment failing. Ours may know better, from a call that began later."""
        circuit = self._circuit(name)
        known = circuit.well_at if circuit.opened_at is None else max(circuit.well_at, circuit.began)
        if opening.began <= known:
            return
        if circuit.opened_at is None:
            circuit.opened_at, circuit.since = opening.opened_at, opening.since
            circuit.rests_until, circuit.probe_at = opening.rests_until, None
        circuit.opened_at = max(circuit.opened_at, opening.opened_at)
        circuit.since = min(circuit.since, opening.since)
        circuit.rests_until = max(circuit.rests_until, opening.rests_until)
        # A call of ours that began after theirs knows better, though it began before theirs had failed.
        circuit.began = circuit.closes_from = opening.began
        circuit.last_error = opening.error

    def told_well(self, name: str, began: float) -> None:
        """A call of another process, begun then, has worked."""
        circuit = self._circuits.get(name)
        if circuit is None:
            return
        circuit.well_at = max(circuit.well_at, began)
        if circuit.opened_at is not None and began > circuit.began:
            circuit.failures = circuit.limits = 0
            _close(circuit)

    def _tell(self, name: str, circuit: _Circuit, opened_at: float | None) -> None:
        if circuit.opened_at != opened_at and self.turned is not None:
            self.turned(name)

    def _works(self, circuit: _Circuit, now: float, began: float) -> None:
        circuit.window.add(now, failed=False)
        circuit.failures = circuit.limits = 0
        circuit.well_at = max(circuit.well_at, began)
        if circuit.opened_at is not None and began >= circuit.closes_from:
            _close(circuit)

    def _broken(self, circuit: _Circuit, now: float, began: float) -> None:
        circuit.window.add(now, failed=True)
        circuit.failures += 1
        circuit.limits = 0
        policy = self.policy
        if circuit.opened_at is not None:
            if began >= circuit.opened_at and now >= circuit.rests_until:
                _open(circuit, now, began, policy.cool_down_s * 2)
            return
        calls, failures = circuit.window.counts(now)
        too_many = calls >= LEAST_CALLS and failures >= policy.error_rate * calls
        if circuit.failures >= policy.failures or too_many:
            _open(circuit, now, began, policy.cool_down_s)

    def _limited(self, circuit: _Circuit, now: float, began: float, retry_after: float | None) -> None:
        circuit.limits += 1
        rest_s = min(self.policy.cool_down_s if retry_after is None else retry_after, LONGEST_REST_S)
        if circuit.opened_at is not None:
            if began >= circuit.opened_at and now >= circuit.rests_until:
                _open(circuit, now, began, rest_s)
        elif circuit.limits >= LIMITS_IN_A_ROW:
            _open(circuit, now, began, rest_s)

    def _circuit(self, name: str) -> _Circuit:
        """Moved to the end, so that the first are those whose calls are the longest ago."""
        circuit = self._circuits.pop(name, None)
        if circuit is None:
            circuit = _Circuit()
            if len(self._circuits) >= MOST_DEPLOYMENTS:
                del self._circuits[next(iter(self._circuits))]
        self._circuits[name] = circuit
        return circuit

    def _shown(self, circuit: _Circuit) -> CircuitState:
        now = self._now()
        calls, failures = circuit.window.counts(now)
        pace = circuit.pace
        state: Literal["closed", "open", "half_open"] = "closed"
        if circuit.opened_at is not None:
            state = "open" if now < circuit.rests_until else "half_open"
        return CircuitState(
            state,
            circuit.failures,
            failures / calls if calls else 0.0,
            circuit.last_error,
            circuit.opened_at,
            pace.latency_s,
            pace.ttft_s,
            pace.tokens_per_s,
            pace.in_flight,
        )


def _open(circuit: _Circuit, now: float, began: float, seconds: float) -> None:
    if circuit.opened_at is None:
        circuit.since = now
    circuit.opened_at = circuit.closes_from = now
    circuit.began, circuit.probe_at = began, None
    circuit.rests_until = now + seconds


def _opening(circuit: _Circuit) -> Opening | None:
    if circuit.opened_at is None:
        return None
    return Opening(circuit.began, circuit.opened_at, circuit.rests_until, circuit.since, circuit.last_error)


def _close(circuit: _Circuit) -> None:
    circuit.opened_at = circuit.probe_at = None
    circuit.window = _Window()


def _may_probe(circuit: _Circuit, now: float) -> bool:
    return now >= circuit.rests_until and (circuit.probe_at is None or now - circuit.probe_at >= PROBE_S)
