"""When a second deployment is begun beside one that keeps silent, and how often that may be.

Whichever sends content first serves, and the other one is given up. Begun after the 95th percentile of the first one's
usual time, about one call in twenty has a second; a budget of the alias holds where more of them would.
Source: J. Dean and L. A. Barroso, "The Tail at Scale" (2013), https://research.google/pubs/the-tail-at-scale/

    after_s = hedging.begin(alias.name, hedge, deployment.name, streamed=True)     # as the first is sent
    if hedging.take(alias.name): ...                                               # that much later, if nothing came
    hedging.took(deployment.name, seconds, streamed=True)                          # as anybody's first content comes
    hedging.given_up(deployment.name, seconds, streamed=True)                      # the second one was sooner
"""

from bisect import bisect_left, insort
from collections import deque
from math import ceil
from typing import Final

from llm_gateway.domain.strategies import Hedge

LATEST: Final = 200
"""So many times of a deployment are kept."""
LEAST: Final = 20
"""So many must be known before a percentile of them means something."""
MOST_SAVED: Final = 10
"""So many second calls that were allowed and not needed are kept: what a provider that turns slow gets at once."""

SILENT_AFTER: Final = 3
"""So many in a row given up for their seconds, and no content between them: a deployment whose every call has a second
would never be seen to have failed."""

_WHOLE = 100.0
"""What a second costs; each call adds the alias's percent."""


class Hedging:
    """What is known of deployments and spent by aliases in this process. Names come from the configuration alone."""

    def __init__(self) -> None:
        self._times: dict[tuple[str, bool], _Latest] = {}
        self._saved: dict[str, float] = {}

    def begin(self, alias: str, hedge: Hedge, deployment: str, *, streamed: bool) -> float | None:
        """Counts a call, and says after how many seconds of silence a second one is due; None: it gets none.

        Call it once a request, whoever comes after the first deployment.
        """
        self._saved[alias] = min(self._saved.get(alias, 0.0) + hedge.percent, MOST_SAVED * _WHOLE)
        if hedge.percentile is None:
            return hedge.after_s
        times = self._times.get((deployment, streamed))
        return None if times is None else times.percentile(hedge.percentile)

    def take(self, alias: str) -> bool:
        """Whether the alias may have a second call now, which is counted then.

        Of the calls so far, never more than its percent have had one.
        """
        saved = self._saved.get(alias, 0.0)
        if saved < _WHOLE:
            return False
        self._saved[alias] = saved - _WHOLE
        return True

    def give_back(self, alias: str) -> None:
        """What was taken, for a second call that was never sent: nobody was left to serve it, or no budget."""
        self._saved[alias] = min(self._saved.get(alias, 0.0) + _WHOLE, MOST_SAVED * _WHOLE)

    def took(self, deployment: str, seconds: float, *, streamed: bool) -> None:
        """How long a call took from its sending to its first content; to its end, where it was not `streamed`.

        Not of a failure, and not of a second one that was given up: nobody has waited for it long enough to tell.
        """
        self._of(deployment, streamed).add(seconds)

    def given_up(self, deployment: str, seconds: float, *, streamed: bool) -> bool:
        """Says that a first one was given up for its second after `seconds`; whether that is to count as its silence.

        It is one of the slow ones, whatever it would have taken: a percentile without them would sink with each.
        """
        return self._of(deployment, streamed).add_unfinished(seconds) > SILENT_AFTER

    def _of(self, deployment: str, streamed: bool) -> "_Latest":
        times = self._times.get((deployment, streamed))
        if times is None:
            times = self._times[deployment, streamed] = _Latest()
        return times


class _Latest:
    """The latest times, in the order they came and in ascending order."""

    __slots__ = ("_ascending", "_come", "_unfinished")

    def __init__(self) -> None:
        self._come: deque[float] = deque()
        self._ascending: list[float] = []
        self._unfinished = 0
        """In a row."""

    def add(self, seconds: float) -> None:
        self._unfinished = 0
        self._keep(seconds)

    def add_unfinished(self, seconds: float) -> int:
        """How many of these have come in a row."""
        self._unfinished += 1
        self._keep(seconds)
        return self._unfinished

    def _keep(self, seconds: float) -> None:
        if len(self._come) == LATEST:
            del self._ascending[bisect_left(self._ascending, self._come.popleft())]
        self._come.append(seconds)
        insort(self._ascending, seconds)

    def percentile(self, share: float) -> float | None:
        """The least time that `share` of them do not exceed; None while there are too few."""
        if len(self._ascending) < LEAST:
            return None
        rank = ceil(round(share * len(self._ascending), 6))  # 0.07 of 100 is 7, and not a little more
        return self._ascending[max(rank, 1) - 1]
