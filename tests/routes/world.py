"""Four providers that change while they are used, and who asks them: all of it follows from a seed.

What happens to a call depends on the request, the deployment, the time and the load, and not on who chose it: two
strategies that send the same request to the same place at the same time have the same luck.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from hashlib import blake2b
from random import Random
from statistics import NormalDist

from llm_gateway.domain.catalog import Deployment
from llm_gateway.routing.faults import Fault

FIRST_TOKEN_S, TOTAL_S = 10.0, 60.0
"""What a request's timeouts are."""
RATE = 10.0
"""Requests a second."""
CACHE_S = 300.0
"""How long a provider keeps the beginning of a user's prompt."""
CACHED_SHARE = 0.7
"""Of a prompt whose beginning is kept."""
PREFILL = 12_000.0
"""Input tokens that are read a second."""

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Order:
    """A request: when it comes, from whom, and how long it and its answer are, in tokens."""

    id: str
    at: float
    user: str
    key: str
    input_tokens: int
    output_tokens: int
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Tariff:
    """US dollars per million tokens."""

    input: Decimal
    output: Decimal

    def cost(self, fresh: int, cached: int, output: int) -> Decimal:
        return (self.input * fresh + self.input / 4 * cached + self.output * output) / 10**6


@dataclass(frozen=True, slots=True)
class Vendor:
    """A deployment as it is. Functions of the time take it as a share of the run, from 0 to 1."""

    deployment: Deployment
    ttft_s: float
    """Half of the calls on an idle vendor begin to answer sooner, the prompt's reading apart."""
    tokens_per_s: float
    capacity: int
    """So many calls at once make it twice as slow; half as many again, and it refuses."""
    tariff: Callable[[float], Tariff]
    slower: Callable[[float], float] = lambda _: 1.0
    failing: Callable[[float], float] = lambda _: 0.002
    """The share of calls that it answers with an error."""
    silent: Callable[[float], float] = lambda _: 0.0
    """The share of calls that it never answers."""
    stalls: float = 0.02
    """The share of calls that lie about for seconds before they are begun."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What becomes of a call, known from its beginning: times are seconds from then."""

    vendor: Vendor
    answers_s: float
    """To the first content, or the failure."""
    fault: Fault | None = None
    writes_s: float = 0.0
    """From the first content to the last."""
    tokens_per_s: float = 0.0
    cost: Decimal = Decimal(0)
    """If it is read to its end."""
    prompt_cost: Decimal = Decimal(0)
    """If it is broken off before its first content."""


class World:
    """`length_s` is how long the run takes: what drifts, drifts over it."""

    def __init__(self, seed: int, length_s: float) -> None:
        self._seed = seed
        self._length_s = length_s
        self._vendors = {vendor.deployment.name: vendor for vendor in VENDORS}
        self._warm: dict[tuple[str, str], float] = {}
        """By vendor and user: when it last read the user's prompt."""

    def tariff(self, name: str, now: float) -> Tariff:
        return self._vendors[name].tariff(now / self._length_s)

    def send(self, order: Order, name: str, *, attempt: int, now: float, in_flight: int) -> Sent:
        """`attempt` counts the tries of this order at this vendor; `in_flight` its other calls."""
        vendor, part = self._vendors[name], now / self._length_s
        quick, works, stalls, speed = _luck(f"{self._seed} {order.id} {name} {attempt}")
        load = in_flight / vendor.capacity
        if load >= 1.5:
            return Sent(vendor, 0.05, Fault("limited", retry_after=1.0, code="rate_limit_exceeded"))
        cached = self._cached(order, name, now)
        prompt_cost = vendor.tariff(part).cost(order.input_tokens - cached, cached, 0)
        silent, failing = vendor.silent(part), vendor.failing(part)
        if works < silent:
            return Sent(vendor, FIRST_TOKEN_S, Fault("silent", code="upstream_timeout"), prompt_cost=prompt_cost)
        if works < silent + failing:
            return Sent(vendor, 0.1 + 0.4 * quick, Fault("passing", code="upstream_error"))
        crowded = (1 + load * load) * vendor.slower(part)
        ttft_s = vendor.ttft_s * crowded * _lognormal(quick, 0.35) + (order.input_tokens - cached) / PREFILL
        if stalls < vendor.stalls:
            ttft_s += 3.0 * (vendor.stalls / max(stalls, 1e-9)) ** 0.6
        if ttft_s > FIRST_TOKEN_S:
            return Sent(vendor, FIRST_TOKEN_S, Fault("silent", code="upstream_timeout"), prompt_cost=prompt_cost)
        tokens_per_s = vendor.tokens_per_s / crowded * _lognormal(speed, 0.15)
        self._warm[name, order.user] = now
        return Sent(
            vendor,
            ttft_s,
            None,
            order.output_tokens / tokens_per_s,
            tokens_per_s,
            prompt_cost + vendor.tariff(part).cost(0, 0, order.output_tokens),
            prompt_cost,
        )

    def _cached(self, order: Order, name: str, now: float) -> int:
        warm_at = self._warm.get((name, order.user))
        if warm_at is None or now - warm_at > CACHE_S:
            return 0
        return int(order.input_tokens * CACHED_SHARE)


def orders(seed: int, count: int) -> Iterator[Order]:
    """They come at random, `RATE` a second; a few of 400 users ask much, most of them little."""
    chance, at = Random(seed), 0.0  # noqa: S311 - nothing secret
    for number in range(count):
        at += chance.expovariate(RATE)
        user = min(int(chance.paretovariate(0.6)), 400)
        output_tokens = min(max(8, int(chance.lognormvariate(math.log(150), 0.8))), 1000)
        yield Order(
            f"req-{seed}-{number}",
            at,
            f"user-{user}",
            f"key-{user % 8}",
            min(max(20, int(chance.lognormvariate(math.log(900), 1.0))), 20_000),
            output_tokens,
            max(256, 2 ** math.ceil(math.log2(output_tokens))),
        )


def _luck(of: str) -> tuple[float, float, float, float]:
    """Four numbers from 0 up to 1."""
    digest = blake2b(of.encode(), digest_size=32).digest()
    quick, works, stalls, speed = (int.from_bytes(digest[at : at + 8]) / 2**64 for at in (0, 8, 16, 24))
    return quick, works, stalls, speed


def _lognormal(share: float, sigma: float) -> float:
    return math.exp(sigma * _NORMAL.inv_cdf(min(max(share, 1e-9), 1 - 1e-9)))


def _tariff(input_usd: str, output_usd: str) -> Tariff:
    return Tariff(Decimal(input_usd), Decimal(output_usd))


def _constant(tariff: Tariff) -> Callable[[float], Tariff]:
    return lambda _: tariff


def _from(part: float, before: Tariff, after: Tariff) -> Callable[[float], Tariff]:
    return lambda now: before if now < part else after


def _between(begin: float, end: float, inside: float, outside: float) -> Callable[[float], float]:
    return lambda now: inside if begin <= now < end else outside


VENDORS = (
    # The quickest, until it is crowded by others for a third of the time.
    Vendor(
        Deployment("swift", "chat", weight=4),
        ttft_s=0.25,
        tokens_per_s=160,
        capacity=60,
        tariff=_constant(_tariff("0.30", "1.20")),
        slower=lambda now: 1 + 4 * math.sin(math.pi * (now - 0.3) / 0.35) if 0.3 <= now < 0.65 else 1.0,
    ),
    # Never the best, never bad.
    Vendor(
        Deployment("steady", "chat", weight=3),
        ttft_s=0.5,
        tokens_per_s=90,
        capacity=80,
        tariff=_constant(_tariff("0.25", "1.00")),
        stalls=0.015,
    ),
    # The cheapest, until its price goes up.
    Vendor(
        Deployment("thrifty", "chat", weight=2),
        ttft_s=0.9,
        tokens_per_s=50,
        capacity=80,
        tariff=_from(0.6, _tariff("0.10", "0.40"), _tariff("0.40", "1.60")),
        failing=lambda _: 0.02,
        stalls=0.03,
    ),
    # Cheap and quick where it works: it has a time of errors and an outage, and its price goes down.
    Vendor(
        Deployment("shaky", "chat", weight=1),
        ttft_s=0.4,
        tokens_per_s=110,
        capacity=50,
        tariff=_from(0.6, _tariff("0.20", "0.80"), _tariff("0.08", "0.32")),
        failing=lambda now: 0.3 if 0.18 <= now < 0.26 else 0.5 if 0.7 <= now < 0.74 else 0.01,
        silent=_between(0.7, 0.74, 0.5, 0.0),
        stalls=0.04,
    ),
)
