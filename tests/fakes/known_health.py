"""Health that is what a test says it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_gateway.routing.health import CircuitState


@dataclass(frozen=True)
class KnownHealth:
    """By a deployment's name; those that are not named were never called."""

    states: Mapping[str, CircuitState] = field(default_factory=dict)

    def open(self, name: str) -> bool:
        return self.state(name).state == "open"

    def state(self, name: str) -> CircuitState:
        return self.states.get(name, CircuitState())


def broken(*names: str) -> KnownHealth:
    return KnownHealth({name: CircuitState("open", failures=5) for name in names})
