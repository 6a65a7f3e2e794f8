"""A circuit for each deployment, in this process: one that keeps failing is passed over for a while.

    closed     calls go as they come; opens on so many failures in a row, or on a rate of them
    open       passed over while others serve, until it has cooled down
    half open  one call tries it: a success closes it, a failure opens it for longer

What a provider says of the request alone (too long, against its policy, wrong) shows that the deployment works. A rate
limit is no failure; three in a row let the deployment rest for as long as the provider says, within reason.

A call counts for or against an open circuit only if it began after the opening: what was under way when a provider went
silent tells nothing of how it is now.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from llm_gateway.domain.catalog import CircuitPolicy
from llm_gateway.routing.faults import Fault

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

_SLOTS: Final = 10
_SLOT_S: Final = WINDOW_S / _SLOTS
_LATENCY_SHARE: Final = 0.2
"""Of the newest call in the mean."""


@dataclass(frozen=True, slots=True)
class CircuitState:
    """A deployment's health at a moment. `opened_at` is a reading of the clock that `Circuits` was given."""

    state: Literal["closed", "open", "half_open"] = "closed"
    failures: int = 0
    """In a row."""
    error_rate: float = 0.0
    """Of the last half minute; 0 without calls."""
    last_error: str | None = None
    """The code, or else the kind, of the last fault."""
    opened_at: float | None = None
    latency_s: float | None = None
    """Of successes, an exponentially weighted mean; None before the first."""


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
    latency_s: float | None = None
    opened_at: float | None = None
    """None while closed."""
    rests_until: float = 0.0
    probe_at: float | None = None
    """When the try of a half-open circuit began."""
    window: _Window = field(default_factory=_Window)


class Circuits:
    """`now` is a monotonic clock in seconds. For one event loop: nothing here waits or locks."""

    def __init__(self, now: Callable[[], float], policy: CircuitPolicy | None = None) -> None:
        self.policy = policy or CircuitPolicy()
        """May be replaced at any time, as the catalog changes."""
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

    def succeeded(self, name: str, latency_s: float) -> None:
        """A call worked, `latency_s` after it began."""
        circuit, now = self._circuit(name), self._now()
        mean = circuit.latency_s
        circuit.latency_s = latency_s if mean is None else mean + _LATENCY_SHARE * (latency_s - mean)
        self._works(circuit, now, now - latency_s)

    def failed(self, name: str, fault: Fault, latency_s: float = 0.0) -> None:
        """A call came to `fault`, `latency_s` after it began."""
        circuit, now = self._circuit(name), self._now()
        began = now - latency_s
        circuit.last_error = fault.code or fault.kind
        if fault.kind == "gateway":
            self.left(name)
        elif fault.kind in ("request", "context_length", "content_policy"):
            self._works(circuit, now, began)
        elif fault.kind == "limited":
            self._limited(circuit, now, began, fault.retry_after)
        else:
            self._broken(circuit, now, began)

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

    def _works(self, circuit: _Circuit, now: float, began: float) -> None:
        circuit.window.add(now, failed=False)
        circuit.failures = circuit.limits = 0
        if circuit.opened_at is not None and began >= circuit.opened_at:
            circuit.opened_at = circuit.probe_at = None
            circuit.window = _Window()

    def _broken(self, circuit: _Circuit, now: float, began: float) -> None:
        circuit.window.add(now, failed=True)
        circuit.failures += 1
        circuit.limits = 0
        policy = self.policy
        if circuit.opened_at is not None:
            if began >= circuit.opened_at and now >= circuit.rests_until:
                _open(circuit, now, policy.cool_down_s * 2)
            return
        calls, failures = circuit.window.counts(now)
        too_many = calls >= LEAST_CALLS and failures >= policy.error_rate * calls
        if circuit.failures >= policy.failures or too_many:
            _open(circuit, now, policy.cool_down_s)

    def _limited(self, circuit: _Circuit, now: float, began: float, retry_after: float | None) -> None:
        circuit.limits += 1
        rest_s = min(self.policy.cool_down_s if retry_after is None else retry_after, LONGEST_REST_S)
        if circuit.opened_at is not None:
            if began >= circuit.opened_at and now >= circuit.rests_until:
                _open(circuit, now, rest_s)
        elif circuit.limits >= LIMITS_IN_A_ROW:
            _open(circuit, now, rest_s)

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
        state: Literal["closed", "open", "half_open"] = "closed"
        if circuit.opened_at is not None:
            state = "open" if now < circuit.rests_until else "half_open"
        return CircuitState(
            state,
            circuit.failures,
            failures / calls if calls else 0.0,
            circuit.last_error,
            circuit.opened_at,
            circuit.latency_s,
        )


def _open(circuit: _Circuit, now: float, seconds: float) -> None:
    circuit.opened_at, circuit.probe_at = now, None
    circuit.rests_until = now + seconds


def _may_probe(circuit: _Circuit, now: float) -> bool:
    return now >= circuit.rests_until and (circuit.probe_at is None or now - circuit.probe_at >= PROBE_S)
