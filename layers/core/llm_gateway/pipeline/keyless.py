"""Which providers turned out to have no key, so that plans pass them over while others can serve."""

from collections.abc import Container

from llm_gateway.pipeline.clock import Clock

BELIEVED_S = 30.0
"""How long it is held true that there is no key: one that is stored meanwhile is used after that."""


class KnownKeyless:
    """A process's knowledge, of every team apart: a team's own key is nobody else's. Never asks anybody."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str | None], float] = {}

    def note(self, provider: str, team: str | None, *, has_key: bool) -> None:
        if not has_key:
            self._until[provider, team] = self._clock.now() + BELIEVED_S
        elif self._until:
            self._until.pop((provider, team), None)

    def of(self, team: str | None) -> Container[str]:
        """The providers that `team` is known to have no key of."""
        if not self._until:
            return ()
        now = self._clock.now()
        self._until = {each: until for each, until in self._until.items() if until > now}
        return {provider for provider, of in self._until if of == team}
