"""In which order the deployments of a route are tried."""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass
from typing import Protocol

from llm_gateway.domain.catalog import Deployment
from llm_gateway.routing.route import Group


class Health(Protocol):
    """What is known of deployments by their names: `routing.circuits.Circuits`."""

    def open(self, name: str) -> bool:
        """Whether the deployment is to be passed over while others are left."""
        ...


@dataclass(frozen=True, slots=True)
class Candidate:
    deployment: Deployment
    group: Group


def ordered(
    groups: Sequence[Group], random: Callable[[], float], health: Health, tried: Container[str] = ()
) -> tuple[Candidate, ...]:
    """Every deployment of `groups` once, by its name, but for those whose names are in `tried`.

    Groups come in their order; inside one the deployments' weights share the first place, and the later ones among who
    is left. Those whose circuit is open come last, in the order they had: nobody is dropped.
    """
    found: dict[str, Candidate] = {}
    for group in groups:
        for deployment in _drawn(group.deployments, random):
            if (name := deployment.name) not in found and name not in tried:
                found[name] = Candidate(deployment, group)
    if len(found) < 2:
        return tuple(found.values())
    opened = [name for name in found if health.open(name)]
    return tuple([each for name, each in found.items() if name not in opened] + [found[name] for name in opened])


def _drawn(deployments: Sequence[Deployment], random: Callable[[], float]) -> Sequence[Deployment]:
    """By weight, without putting back."""
    if len(deployments) == 1:
        return deployments
    left, drawn = list(deployments), []
    while len(left) > 1:
        at = random() * sum(each.weight for each in left)
        index = 0
        while index < len(left) - 1 and at >= left[index].weight:
            at -= left[index].weight
            index += 1
        drawn.append(left.pop(index))
    return [*drawn, *left]
