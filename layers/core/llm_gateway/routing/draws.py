"""Chance that can be told again: numbers that come from who asks and nothing else, the same in every process."""

from collections.abc import Iterable
from hashlib import blake2b
from math import log1p

from llm_gateway.domain.catalog import Deployment


def draw(subject: str, of: str) -> float:
    """A number from 0 up to but not 1, evenly spread over subjects, and over what is drawn of one."""
    digest = blake2b(f"{subject}\0{of}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return (int.from_bytes(digest) >> 11) / (1 << 53)


def by_weight(deployments: Iterable[Deployment], subject: str) -> list[Deployment]:
    """Each once by its name, in the order that `subject` draws: weights share the first place, and then the next.

    One that is added takes its own share of the first places and moves nobody else: rendezvous hashing with weights,
    which is also a draw by weight without putting back. Where a deployment is given twice, its weights add up.

    Source: https://en.wikipedia.org/wiki/Rendezvous_hashing#Weighted_rendezvous_hash
    """
    found: dict[str, Deployment] = {}
    weights: dict[str, int] = {}
    for each in deployments:
        name = each.name
        found.setdefault(name, each)
        weights[name] = weights.get(name, 0) + each.weight
    if len(found) == 1:
        return list(found.values())
    # -ln of an even draw is the time until an event of rate 1; of several, each is the first as often as its rate says.
    times = {name: -log1p(-draw(subject, name)) / weight for name, weight in weights.items()}
    return [found[name] for name in sorted(found, key=times.__getitem__)]
