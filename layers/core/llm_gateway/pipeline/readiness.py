"""Whether what the gateway stands on can be reached and used, for whoever decides where traffic goes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.ports import Ledger, Registry, SecretStore
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.upstream.single_flight import SingleFlight

Probe = Callable[[], Awaitable[object]]
State = Literal["ok", "unreachable", "unusable"]
_KEPT_S: Final = 5.0
"""Anybody may ask, and each probe costs a call: more often than this the last finding is the answer."""
_PATIENCE_S: Final = 2.0
_NOBODY: Final = "readiness-probe"
"""What is asked for is in no store: that the store says so is the proof."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found, by the dependency's name. `unusable`: it answered, and what it said is wrong."""

    checks: Mapping[str, State]

    @property
    def error(self) -> Unavailable | None:
        """None where all is well; otherwise it names what is not."""
        told = [
            f"{words}: {', '.join(names)}."
            for state, words in (("unreachable", "Not reachable"), ("unusable", "Not usable, the log says why"))
            if (names := [name for name, found in self.checks.items() if found == state])
        ]
        return Unavailable(" ".join(told), code="not_ready", retry_after=_KEPT_S) if told else None


class Readiness:
    """Asks all at once. `probes` raise `GatewayError`, or take too long, where a dependency is away.

    One that is there and cannot be used raises `ConfigError`.
    """

    def __init__(self, probes: Mapping[str, Probe], clock: Callable[[], float] = time.monotonic) -> None:
        self._probes = probes
        self._clock = clock
        self._flight: SingleFlight[Finding] = SingleFlight()
        self._found: tuple[Finding, float] | None = None

    async def find(self) -> Finding:
        if self._found is not None and self._clock() < self._found[1]:
            return self._found[0]
        return await self._flight.run("all", self._ask)

    async def _ask(self) -> Finding:
        states = await asyncio.gather(*(_state(probe) for probe in self._probes.values()))
        finding = Finding(dict(zip(self._probes, states, strict=True)))
        self._found = (finding, self._clock() + _KEPT_S)
        return finding


def store_probes(registry: Registry, ledger: Ledger, secrets: SecretStore, stack: str) -> Mapping[str, Probe]:
    """One read of each. They are to be the stores themselves: a cache answers for a store that is away."""
    return {
        "registry": lambda: registry.find_key(_NOBODY),
        "ledger": lambda: ledger.get(_NOBODY),
        "secrets": lambda: secrets.get_secret(f"{stack}/provider/{_NOBODY}"),
    }


def catalog_probe(current: Probe, warn: Callable[[str], None]) -> Probe:
    """Whether there is a catalog: without one every request fails, whatever it asks for.

    `current` is `Catalogs.current`. The log gets the reason, which is no stranger's business.
    """

    async def probe() -> None:
        try:
            await current()
        except ConfigError as error:
            warn(f"the configuration cannot be used: {error}")
            raise

    return probe


async def _state(probe: Probe) -> State:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await probe()
    except (GatewayError, TimeoutError):
        return "unreachable"
    except ConfigError:
        return "unusable"
    return "ok"
