"""What this process finds out of failing deployments goes to the others, and what they find out comes here.

Whoever opens a circuit tells it while the request goes on, and so does whoever closes one: these writes are rare. What
others tell is read after a request's last byte, when the last reading is 2 s ago: no request waits for it, and a Lambda
environment that gets none reads nothing. So a request goes by what was known when the one before it ended.

A deployment that others found failing is passed over until the time that they named, and a little longer by chance: of
all processes the first ones try it, and the rest hear of it before their turn. A success that is told lets everybody
back.

A store that is away takes nothing but this: each process goes by what it finds out alone.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Coroutine, Mapping
from typing import Final

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.health import Finding
from llm_gateway.domain.ports import HealthStore
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.clock import Clock
from llm_gateway.routing.circuits import LONGEST_REST_S, Circuits, Opening

EVERY_S: Final = 2.0
AWAY_S: Final = 10.0
"""Until a store that did not answer is asked again."""
PATIENCE_S: Final = 1.0
"""For one call of the store."""
JITTER_S: Final = 3.0
"""The most by which others wait longer than whoever found the deployment failing."""
STALE_S: Final = 60.0
"""So long after its end a finding says nothing any more: nobody has called the deployment since."""
_FORGOTTEN_AT_ONCE: Final = 20


class SharedHealth:
    """`store` is made when it is first needed; without one nothing is shared.

    `turned` hears of each circuit that this process opens, keeps open or closes (None); `failing` gets the names of
    those that are open, at most every 2 s and only while there are any.
    """

    def __init__(
        self,
        circuits: Circuits,
        store: Callable[[], HealthStore] | None,
        catalog: Callable[[], Catalog | None],
        clock: Clock,
        *,
        turned: Callable[[str, Opening | None], None],
        failing: Callable[[Collection[str]], None] | None = None,
        warn: Callable[[str], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._circuits = circuits
        self._open_store = store
        self._store: HealthStore | None = None
        self._catalog = catalog
        self._clock = clock
        self._turned = turned
        self._failing = failing
        self._warn = warn
        self._wall = wall
        self._names = SharedNames()
        self._heard: dict[str, Finding] = {}
        self._told: dict[str, Finding] = {}
        self._due_at = clock.now()
        self._away = False
        self._running: set[asyncio.Task[None]] = set()
        circuits.turned = self._turns

    @property
    def due(self) -> bool:
        """Whether there is anything to wait for in `look`."""
        return bool(self._running) or self._clock.now() >= self._due_at

    async def look(self) -> None:
        """Reads what others have told, if it is time to, and lets what is under way come to its end."""
        due = (now := self._clock.now()) >= self._due_at
        if due:
            self._due_at = now + EVERY_S
            if self._shared_names():
                self._start(self._read())
        if self._running:
            await asyncio.wait(self._running)
        if due:
            self._report_failing()

    def _turns(self, name: str) -> None:
        opening = self._circuits.opening(name)
        self._turned(name, opening)
        if name in self._shared_names():
            self._start(self._tell(name, self._finding(name, opening)))

    def _start(self, task: Coroutine[None, None, None]) -> None:
        running = asyncio.get_running_loop().create_task(task)
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    async def _tell(self, name: str, finding: Finding) -> None:
        self._told[name] = finding
        newer: Finding | None = None
        try:
            async with asyncio.timeout(PATIENCE_S):
                newer = await self._opened_store().tell(name, finding, self._over())
        except (Unavailable, TimeoutError) as error:
            self._store_is_away(error)
        if newer is not None and newer != self._heard.get(name):
            self._heard[name] = newer
            self._hear(name, newer)

    async def _read(self) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                findings = await self._opened_store().read()
        except (Unavailable, TimeoutError) as error:
            self._store_is_away(error)
            return
        self._away = False
        names = self._shared_names()
        for name, finding in findings.items():
            if name in names and finding != self._heard.get(name) and finding != self._told.get(name):
                self._hear(name, finding)
        self._heard = dict(findings)

    def _hear(self, name: str, finding: Finding) -> None:
        """Nothing that another clock says lies in the future here: it would outdo whatever is found out now."""
        wall = self._wall()
        behind = wall - self._clock.now()
        began = min(finding.began / 1000, wall)
        if finding.until is None:
            self._circuits.told_well(name, began - behind)
            return
        until = finding.until / 1000
        if until < wall - STALE_S:
            return
        longest = max(LONGEST_REST_S, self._circuits.policy.cool_down_s * 2)
        rests_until = min(until, wall + longest) + JITTER_S * self._clock.random()
        opened_at = min(finding.at / 1000, wall)
        since = opened_at if finding.since is None else min(finding.since / 1000, opened_at)
        opening = Opening(began - behind, opened_at - behind, rests_until - behind, since - behind, finding.error)
        self._circuits.told_open(name, opening)

    def _finding(self, name: str, opening: Opening | None) -> Finding:
        wall = self._wall()
        behind = wall - self._clock.now()

        def unix_ms(at: float) -> int:
            return round((at + behind) * 1000)

        if opening is None:
            began = self._circuits.well_at(name)
            assert began is not None, "a call has closed it"
            return Finding(unix_ms(began), round(wall * 1000))
        return Finding(
            unix_ms(opening.began),
            unix_ms(opening.opened_at),
            unix_ms(opening.rests_until),
            unix_ms(opening.since),
            opening.error,
        )

    def _over(self) -> Mapping[str, Finding]:
        """Findings that say nothing any more, so that the item stays small."""
        before = (self._wall() - STALE_S) * 1000
        over = [(name, each) for name, each in self._heard.items() if max(each.at, each.until or 0) < before]
        return dict(over[:_FORGOTTEN_AT_ONCE])

    def _shared_names(self) -> frozenset[str]:
        return frozenset() if self._open_store is None else self._names.of(self._catalog())

    def _opened_store(self) -> HealthStore:
        if self._store is None:
            assert self._open_store is not None
            self._store = self._open_store()
        return self._store

    def _store_is_away(self, error: Exception) -> None:
        self._due_at = self._clock.now() + AWAY_S
        if not self._away:
            self._away = True
            self._warn(f"The health of deployments is not shared for now: {str(error) or 'the store is slow'}")

    def _report_failing(self) -> None:
        since = self._clock.now() - STALE_S
        failing = [name for name, opening in self._circuits.openings().items() if opening.rests_until > since]
        if failing and self._failing is not None:
            self._failing(failing)


class SharedNames:
    """Names of the deployments that are worth telling of: an operator wrote them down where there are others.

    Callers make up names too, and none of these gets into the store.
    """

    def __init__(self) -> None:
        self._catalog: Catalog | None = None
        self._names: frozenset[str] = frozenset()

    def of(self, catalog: Catalog | None) -> frozenset[str]:
        if catalog is not self._catalog and catalog is not None:
            self._catalog, self._names = catalog, _written(catalog)
        return self._names


def _written(catalog: Catalog) -> frozenset[str]:
    written: set[str] = set()
    for alias in catalog.aliases.values():
        others = (*alias.fallbacks, *alias.context_window_fallbacks, *alias.content_policy_fallbacks)
        references = (*others, *(rule.use for rule in alias.rules))
        deployments = {each.name for each in alias.all_deployments}
        if len(deployments) > 1 or references:
            written |= deployments
            for reference in references:
                written |= _meant(reference, catalog)
    return frozenset(written)


def _meant(reference: str, catalog: Catalog) -> set[str]:
    """An alias, or `provider:model` as `routing.resolve` reads it."""
    if (alias := catalog.aliases.get(reference)) is not None:
        return {each.name for each in alias.all_deployments}
    at = reference.replace("/", ":").find(":")
    provider = reference[: max(at, 0)].replace("-", "_")
    if provider in catalog.providers:
        return {f"{provider}:{reference[at + 1 :]}"}
    return set() if catalog.default_provider is None else {f"{catalog.default_provider}:{reference}"}
