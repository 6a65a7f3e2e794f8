"""What is known of a deployment while it serves: its circuit, how fast it is, how much it has to do."""

from dataclasses import dataclass
from typing import Final, Literal, Protocol

NEWEST_SHARE: Final = 0.2
"""Of the newest call in a mean: one that is five times as slow is half forgotten after three further calls."""


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
    """Of successes, an exponentially weighted mean; None before the first. So are the next two."""
    ttft_s: float | None = None
    """Of streams: until the first content."""
    tokens_per_s: float | None = None
    """Of output: of a stream from its first content on, of a whole answer from the call's beginning."""
    in_flight: int = 0
    """Calls of this process that have begun and not ended."""


class Health(Protocol):
    """What is known of deployments by their names: `routing.circuits.Circuits`."""

    def open(self, name: str) -> bool:
        """Whether the deployment is to be passed over while others are left."""
        ...

    def state(self, name: str) -> CircuitState: ...


class Pace:
    """How fast a deployment is, and how much it has to do."""

    __slots__ = ("in_flight", "latency_s", "tokens_per_s", "ttft_s")

    def __init__(self) -> None:
        self.latency_s: float | None = None
        self.ttft_s: float | None = None
        self.tokens_per_s: float | None = None
        self.in_flight = 0

    def measured(
        self, latency_s: float | None = None, ttft_s: float | None = None, tokens_per_s: float | None = None
    ) -> None:
        """What is None was not measured."""
        self.latency_s = _mean(self.latency_s, latency_s)
        self.ttft_s = _mean(self.ttft_s, ttft_s)
        self.tokens_per_s = _mean(self.tokens_per_s, tokens_per_s)


def _mean(mean: float | None, newest: float | None) -> float | None:
    if mean is None or newest is None:
        return newest if mean is None else mean
    return mean + NEWEST_SHARE * (newest - mean)
