"""Waiting in line: a request that is over a limit by the minute, or of parallel requests, until there is room for it.

Whoever came first asks first: each scope has a line, by the order of arrival, and only who is first in all of its lines
asks the store; the others cost nothing. That holds within a process. Between processes nobody is first: each asks again
after a while, drawn at random, so that they neither keep step nor wear out the store.

    requests by the minute     asks when the minute is over, and within a little while after
    tokens, parallel requests  asks when a request of this process has ended in that scope, and after 0.25 s, doubled
                               each time up to 2 s, less up to a half of it: others end elsewhere

A place has no hold of anything: who waits takes nothing from anybody, and who leaves has nothing to give back.
"""

import asyncio
import math
from bisect import insort
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import count
from typing import Final

from llm_gateway.domain.limits import Scope
from llm_gateway.pipeline.clock import Clock

LONGEST_S: Final = 60.0
"""What a caller or an operator may ask for."""
_FIRST_PAUSE_S: Final = 0.25
_LONGEST_PAUSE_S: Final = 2.0
_SPREAD_S: Final = 0.25
"""Over which the processes spread that wait for the same minute to end."""


@dataclass(frozen=True, slots=True)
class Reason:
    """Why there was no room: in which scopes, and when a minute ends that has to.

    `minute_s` is None where no minute is in the way. `ends` says that a request's end may make room sooner.
    """

    scopes: tuple[Scope, ...]
    minute_s: float | None
    ends: bool


class Lines:
    """The lines of this process, by scope. For one event loop."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.clock = clock or Clock()
        self._numbers = count()
        self._lines: dict[Scope, list[Place]] = {}

    def place(self, seconds: float, until: float) -> "Place":
        """For a request that would wait so long, and not past `until`, a reading of the clock."""
        return Place(self, next(self._numbers), min(self.clock.now() + seconds, until))

    def ended(self, scopes: Iterable[Scope]) -> None:
        """A request of this process has given back what it held of these."""
        if self._lines:
            for scope in scopes:
                if line := self._lines.get(scope):
                    line[0].room_may_be()

    def waiting(self, scope: Scope) -> int:
        return len(self._lines.get(scope, ()))

    def first(self, scope: Scope) -> "Place | None":
        line = self._lines.get(scope)
        return line[0] if line else None

    def join(self, scope: Scope, place: "Place") -> None:
        """Before all who came later: whoever is oldest is first in every line, so that no two wait for each other."""
        insort(self._lines.setdefault(scope, []), place, key=lambda each: each.number)

    def leave(self, scope: Scope, place: "Place") -> None:
        line = self._lines[scope]
        was_first = line[0] is place
        line.remove(place)
        if not line:
            del self._lines[scope]
        elif was_first:
            line[0].comes_first()


class Place:
    """One request's place in the lines: the same however often it asks, and at however many deployments."""

    def __init__(self, lines: Lines, number: int, until: float) -> None:
        self.number = number
        self.waited_s = 0.0
        self.given_up = False
        """Its caller has left."""
        self.until = until
        self._lines = lines
        self._clock = lines.clock
        self._scopes: set[Scope] = set()
        self._pauses = 0
        self._wake: asyncio.Future[None] | None = None
        self._pausing = False
        self._hears_ends = False
        self._missed_end = False
        """A request ended while this one asked, perhaps too late for the answer."""
        self._not_before: float | None = None
        """A reading of the clock, before which nobody gets room in its lines: they wait for the minute's end."""

    async def turn(self, scopes: Iterable[Scope]) -> None:
        """Waits behind those who came before and wait for these scopes; for as long as it may, then it may ask too."""
        if self._out_of_time:
            return
        busy = [scope for scope in scopes if self._lines.waiting(scope)]
        ahead = [first for scope in busy if (first := self._lines.first(scope)) is not None]
        if any(first.hopeless_before(self.until) for first in ahead):
            return  # nobody gets room in time: asking tells why
        self._join(busy)
        await self._until_first()
        self._missed_end = False

    async def again(self, reason: Reason) -> bool:
        """Waits after a refusal, in line. Whether to ask again; False once its time is over, or would be too early."""
        if self._out_of_time:
            return False
        now = self._clock.now()
        if reason.minute_s is not None and not reason.ends and now + reason.minute_s >= self.until:
            return False  # it would wait in vain
        self._join(reason.scopes)
        if not (reason.ends and self._missed_end):
            await self._pause(reason, now)
        await self._until_first()
        self._missed_end = False
        return not self.given_up

    def give_up(self) -> None:
        """Its caller has left: it goes out of the line at once, and asks no more."""
        self.given_up = True
        self._stand_up()

    def leave(self) -> None:
        """Out of every line, where it waits no more. It may come back, to where it was."""
        scopes, self._scopes = self._scopes, set()
        for scope in scopes:
            self._lines.leave(scope, self)

    def hopeless_before(self, until: float) -> bool:
        return self._not_before is not None and self._not_before >= until

    def room_may_be(self) -> None:
        if self._wake is None:
            self._missed_end = True
        elif not self._pausing or self._hears_ends:
            self._stand_up()

    def comes_first(self) -> None:
        if not self._pausing:
            self._stand_up()

    @property
    def _out_of_time(self) -> bool:
        return self.given_up or self._clock.now() >= self.until

    @property
    def _is_first(self) -> bool:
        return all(self._lines.first(scope) is self for scope in self._scopes)

    def _join(self, scopes: Iterable[Scope]) -> None:
        for scope in scopes:
            if scope not in self._scopes:
                self._scopes.add(scope)
                self._lines.join(scope, self)

    async def _pause(self, reason: Reason, now: float) -> None:
        pause_until = min(now + self._pause_s(reason), self.until)
        self._pausing, self._hears_ends = True, reason.ends
        self._not_before = None if reason.ends else pause_until
        try:
            await self._sleep(pause_until)
        finally:
            self._pausing, self._not_before = False, None

    def _pause_s(self, reason: Reason) -> float:
        drawn = self._clock.random()
        minute_s = math.inf if reason.minute_s is None else reason.minute_s + drawn * _SPREAD_S
        if not reason.ends:
            return minute_s
        longest_s = min(_FIRST_PAUSE_S * 2.0**self._pauses, _LONGEST_PAUSE_S)
        self._pauses += 1
        return min(longest_s * (1 + drawn) / 2, minute_s)

    async def _until_first(self) -> None:
        while not self._is_first and not self._out_of_time:
            await self._sleep(self.until)

    async def _sleep(self, until: float) -> None:
        """Until then, or until somebody wakes it."""
        began = self._clock.now()
        loop = asyncio.get_running_loop()
        self._wake = loop.create_future()
        timer = loop.call_later(max(0.0, until - began), self._stand_up)
        try:
            await self._wake
        finally:
            timer.cancel()
            self._wake = None
            self.waited_s += self._clock.now() - began

    def _stand_up(self) -> None:
        if self._wake is not None and not self._wake.done():
            self._wake.set_result(None)
