"""Whether what the gateway stands on can be reached, for whoever decides where traffic goes."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final

from llm_gateway.domain.ports import Ledger, Registry, SecretStore
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.upstream.single_flight import SingleFlight

Probe = Callable[[], Awaitable[object]]
_KEPT_S: Final = 5.0
"""Anybody may ask, and each probe costs a call: more often than this the last finding is the answer."""
_PATIENCE_S: Final = 2.0
_NOBODY: Final = "readiness-probe"
"""What is asked for is in no store: that the store says so is the proof."""


@dataclass(frozen=True, slots=True)
class Finding:
    """By the dependency's name, whether it answered."""

    reached: Mapping[str, bool]

    @property
    def error(self) -> Unavailable | None:
        """None where all answered; otherwise it names those that did not."""
        missing = [name for name, reached in self.reached.items() if not reached]
        if not missing:
            return None
        return Unavailable(f"Not reachable: {', '.join(missing)}.", code="not_ready", retry_after=_KEPT_S)


class Readiness:
    """Asks all at once. `probes` raise `GatewayError`, or take too long, where a dependency is away."""

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
        reached = await asyncio.gather(*(_answers(probe) for probe in self._probes.values()))
        finding = Finding(dict(zip(self._probes, reached, strict=True)))
        self._found = (finding, self._clock() + _KEPT_S)
        return finding


def store_probes(registry: Registry, ledger: Ledger, secrets: SecretStore, stack: str) -> Mapping[str, Probe]:
    """One read of each. They are to be the stores themselves: a cache answers for a store that is away."""
    return {
        "registry": lambda: registry.find_key(_NOBODY),
        "ledger": lambda: ledger.get(_NOBODY),
        "secrets": lambda: secrets.get_secret(f"{stack}/provider/{_NOBODY}"),
    }


async def _answers(probe: Probe) -> bool:
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await probe()
    except (GatewayError, TimeoutError):
        return False
    return True
