"""`ports.Scopes` in dictionaries: the simplest thing that keeps the contract."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from decimal import Decimal
from itertools import count

from llm_gateway.domain.limits import (
    Grant,
    Hold,
    Level,
    Policy,
    Refusal,
    Scope,
    StoredHold,
    breaches,
    ended_before,
    enforced,
    hard_room,
)


@dataclass
class _Counters:
    in_flight: int = 0
    requests: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    tokens: defaultdict[int, int] = field(default_factory=lambda: defaultdict(int))
    committed: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    spent: defaultdict[str, Decimal] = field(default_factory=lambda: defaultdict(Decimal))
    holds: dict[str, StoredHold] = field(default_factory=dict)

    def level(self, minute: int, labels: Sequence[str]) -> Level:
        return Level(
            self.requests.get(minute, 0),
            self.tokens.get(minute, 0),
            self.in_flight,
            tuple((label, self.committed[label]) for label in labels if label in self.committed),
            tuple((label, self.spent[label]) for label in labels if label in self.spent),
        )

    def stale(self, now: float) -> tuple[str, ...]:
        """Requests whose holds are past their time."""
        held = self.holds.values()
        return tuple(each.request_id for each in held if each.charged is None and each.hold.expires_at < now)


class MemoryScopes:
    """Nothing in it awaits, so every operation is atomic in its event loop."""

    def __init__(self) -> None:
        self._scopes: dict[Scope, _Counters] = {}
        self._tags = count()

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        counters = self._scopes.setdefault(hold.scope, _Counters())
        level = counters.level(hold.minute, hold.labels)
        if request_id in counters.holds:  # of an earlier call: as with DynamoDB, it is not this one's
            return Refusal(level)
        if any(enforced(policy, breach) for breach in breaches(policy, level, hold, now)):
            return Refusal(level, counters.stale(now))
        tag = str(next(self._tags))
        counters.holds[request_id] = StoredHold(request_id, hold, tag)
        counters.in_flight += 1
        counters.requests[hold.minute] += 1
        counters.tokens[hold.minute] += hold.tokens
        for label in hold.labels:
            counters.committed[label] += hold.usd
        return Grant(counters.level(hold.minute, hold.labels), tag)

    async def widen(
        self, request_id: str, hold: Hold, tag: str, usd: Decimal, policy: Policy, now: float
    ) -> Grant | Refusal:
        counters = self._scopes.get(hold.scope, _Counters())
        if self._with_live(request_id, hold.scope, tag) is None:
            return Refusal(counters.level(hold.minute, hold.labels), counters.stale(now))
        held = counters.holds[request_id].hold
        more = max(usd - held.usd, Decimal(0))
        rooms = ((counters.committed[label], hard_room(policy, label)) for label in held.labels)
        if more and any(room is not None and committed + more > room for committed, room in rooms):
            return Refusal(counters.level(held.minute, held.labels).without(held), counters.stale(now))
        counters.holds[request_id] = replace(counters.holds[request_id], hold=replace(held, usd=held.usd + more))
        for label in held.labels:
            counters.committed[label] += more
        return Grant(Level(committed=counters.level(held.minute, held.labels).committed), tag)

    async def cancel(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        del now
        if (counters := self._give_back(request_id, hold, tag)) is not None:
            counters.requests[hold.minute] -= 1
            counters.tokens[hold.minute] -= hold.tokens

    async def leave(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        counters = self._give_back(request_id, hold, tag)
        if counters is not None and hold.minute >= int(now) // 60 - 1:
            counters.tokens[hold.minute] -= hold.tokens

    async def settle(
        self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float
    ) -> Level | None:
        counters = self._scopes.get(hold.scope, _Counters())
        stored = counters.holds.get(request_id)
        if stored is None or stored.tag != tag:
            return None
        del counters.holds[request_id]
        late = stored.charged is not None
        if not late:
            counters.in_flight -= 1
            if hold.minute >= int(now) // 60 - 1:
                counters.tokens[hold.minute] += tokens - hold.tokens
        for label in hold.labels:
            counters.committed[label] += cost - (stored.hold.usd if stored.charged is None else stored.charged)
            counters.spent[label] += cost - (stored.charged or 0)
        return counters.level(hold.minute, hold.labels)

    async def abandon(self, request_id: str, hold: Hold, tag: str, charge: Decimal, now: float) -> None:
        if (counters := self._with_live(request_id, hold.scope, tag)) is None:
            return
        stored = counters.holds[request_id]
        counters.holds[request_id] = replace(stored, charged=charge, abandoned_at=int(now))
        counters.in_flight -= 1
        for label in hold.labels:
            counters.committed[label] += charge - stored.hold.usd
            counters.spent[label] += charge

    async def forget(self, request_id: str, scope: Scope) -> None:
        holds = self._scopes[scope].holds if scope in self._scopes else {}
        if request_id in holds and holds[request_id].charged is not None:
            del holds[request_id]

    async def holds(self, scope: Scope) -> Sequence[StoredHold]:
        return list(self._scopes[scope].holds.values()) if scope in self._scopes else []

    async def level(self, scope: Scope, minute: int, labels: Sequence[str]) -> Level:
        return self._scopes[scope].level(minute, labels) if scope in self._scopes else Level()

    async def scopes(self) -> AsyncIterator[Scope]:
        for scope in list(self._scopes):
            yield scope

    async def prune(self, scope: Scope, now: float) -> int:
        counters = self._scopes.get(scope, _Counters())
        pruned = 0
        for minutes in (counters.requests, counters.tokens):
            for minute in [each for each in minutes if each < int(now) // 60 - 3]:
                del minutes[minute]
                pruned += 1
        for periods in (counters.committed, counters.spent):
            for label in [each for each in periods if ended_before(each, now - 2 * 86_400)]:
                del periods[label]
                pruned += 1
        return pruned

    def _give_back(self, request_id: str, hold: Hold, tag: str) -> _Counters | None:
        """Ends a live hold, but for the minute's counters. None where there is none."""
        if (counters := self._with_live(request_id, hold.scope, tag)) is None:
            return None
        held = counters.holds.pop(request_id).hold
        counters.in_flight -= 1
        for label in hold.labels:
            counters.committed[label] -= held.usd
        return counters

    def _with_live(self, request_id: str, scope: Scope, tag: str) -> _Counters | None:
        counters = self._scopes.get(scope)
        stored = counters.holds.get(request_id) if counters is not None else None
        return counters if stored is not None and stored.tag == tag and stored.charged is None else None
