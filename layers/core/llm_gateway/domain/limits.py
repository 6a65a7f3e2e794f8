"""Limits and budgets: what a scope may do, what a request holds of it, and whether the two go together. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from decimal import Decimal
from functools import lru_cache
from typing import Literal

ScopeKind = Literal["organisation", "team", "user", "key", "model", "deployment"]
Period = Literal["day", "week", "month", "total"]
Metric = Literal["requests", "tokens", "parallel", "budget"]
Abandoned = Literal["charge", "release"]
WithoutMaximum = Literal["clamp", "reserve", "refuse"]
OnOutage = Literal["allow", "deny"]

MINUTE_S = 60
SOON_S = 1.0
"""When to ask again for what another request holds: nobody knows when that will end."""


@dataclass(frozen=True, slots=True)
class Scope:
    """Something that is limited: `Scope("team", "search")`. A key's scope is its name, which rotation keeps."""

    kind: ScopeKind
    name: str

    @property
    def id(self) -> str:
        return f"{self.kind}#{self.name}"

    @classmethod
    def of(cls, scope_id: str) -> "Scope":
        kind, _, name = scope_id.partition("#")
        return cls(kind, name)  # type: ignore[arg-type]  # written by `id`

    def __str__(self) -> str:
        return f"{self.kind} `{self.name}`"


@dataclass(frozen=True, slots=True)
class Budget:
    """US dollars a calendar period in a named zone. A soft one (`hard` false) is counted and told of, not enforced."""

    usd: Decimal
    period: Period
    zone: str = "UTC"
    hard: bool = True
    alerts: tuple[Decimal, ...] = ()
    """Shares of `usd`, such as 0.8, that are told of when spending passes them."""

    def label(self, at: float) -> str:
        """The period that holds the instant `at` (Unix seconds): `D2026-11-21`, `W2026-47` (ISO), `M2026-11`, `T`.

        Outside UTC with the zone, `D2026-11-21@Europe/Berlin`: the same date is another day there.
        """
        if self.period == "total":
            return "T"
        local = datetime.fromtimestamp(at, _zone(self.zone))
        year, week, _ = local.isocalendar()
        dates = {"day": f"D{local:%Y-%m-%d}", "week": f"W{year}-{week:02}", "month": f"M{local:%Y-%m}"}
        return dates[self.period] if self.zone == "UTC" else f"{dates[self.period]}@{self.zone}"

    def counts_in(self, label: str) -> bool:
        """Whether `label`, made at whatever time, is one of this budget's periods."""
        period, _, zone = label.partition("@")
        return period[0] == self.period[0].upper() and (self.period == "total" or (zone or "UTC") == self.zone)

    def ends_at(self, at: float) -> float | None:
        """When the period that holds `at` ends, in Unix seconds: at local midnight, or never."""
        if self.period == "total":
            return None
        zone = _zone(self.zone)
        first = datetime.fromtimestamp(at, zone).date()
        if self.period == "day":
            first += timedelta(days=1)
        elif self.period == "week":
            first += timedelta(days=7 - first.weekday())
        else:
            first = (first.replace(day=1) + timedelta(days=32)).replace(day=1)
        return datetime(first.year, first.month, first.day, tzinfo=zone).timestamp()


@dataclass(frozen=True, slots=True)
class Policy:
    """What one scope may do. None is no limit. In `shadow` everything is counted and told of, nothing refused."""

    rpm: int | None = None
    tpm: int | None = None
    parallel: int | None = None
    budgets: tuple[Budget, ...] = ()
    shadow: bool = False
    on_outage: OnOutage | None = None
    """What a ledger that cannot be written means for a request; None leaves it to the next scope."""
    without_maximum: WithoutMaximum | None = None
    """What a hard budget makes of a request without `max_tokens`; None leaves it to the next scope."""
    queue_s: float | None = None
    """How long a request waits for room by the minute or beside others; None leaves it to the next scope."""

    @property
    def enforces(self) -> bool:
        """Whether it can refuse anything."""
        limited = (self.rpm, self.tpm, self.parallel) != (None, None, None)
        return not self.shadow and (limited or self.has_hard_budget)

    @property
    def counts(self) -> bool:
        """Whether there is anything to count: a policy may hold wishes alone."""
        return bool(self.budgets) or (self.rpm, self.tpm, self.parallel) != (None, None, None)

    @property
    def has_hard_budget(self) -> bool:
        return not self.shadow and any(budget.hard for budget in self.budgets)

    def labels(self, at: float) -> tuple[str, ...]:
        """The periods that a request of this moment counts in, each once."""
        return tuple(dict.fromkeys(budget.label(at) for budget in self.budgets))


@dataclass(frozen=True, slots=True)
class Hold:
    """What one request holds of one scope until it is settled.

    `usd` is the most it can cost, `tokens` what it is expected to take of `minute` (Unix minutes), `labels` the
    budget periods it counts in, whatever the clock says later. Past `expires_at` (Unix seconds) the sweep may end it.
    """

    scope: Scope
    usd: Decimal
    tokens: int
    minute: int
    labels: tuple[str, ...]
    expires_at: int


@dataclass(frozen=True, slots=True)
class StoredHold:
    """A hold as the store has it. `charged` is not None once it was abandoned: what the scope was charged then.

    `tag` tells the attempt that made it from other attempts of the same request, which may be carried out late.
    """

    request_id: str
    hold: Hold
    tag: str
    charged: Decimal | None = None
    abandoned_at: int | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """A scope's counters for one hold's minute and periods.

    `committed` is what was spent and what is reserved, by period; `spent` what was settled.
    """

    requests: int = 0
    tokens: int = 0
    in_flight: int = 0
    committed: tuple[tuple[str, Decimal], ...] = ()
    spent: tuple[tuple[str, Decimal], ...] = ()

    def committed_in(self, label: str) -> Decimal:
        return next((usd for name, usd in self.committed if name == label), Decimal(0))

    def spent_in(self, label: str) -> Decimal:
        return next((usd for name, usd in self.spent if name == label), Decimal(0))

    def without(self, hold: Hold) -> "Level":
        """What others have taken, where `hold` is counted in it and lives."""
        committed = tuple((label, usd - hold.usd if label in hold.labels else usd) for label, usd in self.committed)
        return Level(self.requests - 1, self.tokens - hold.tokens, self.in_flight - 1, committed, self.spent)


@dataclass(frozen=True, slots=True)
class Grant:
    """A scope had room. `level` counts the request; `tag` ends the hold."""

    level: Level
    tag: str


@dataclass(frozen=True, slots=True)
class Refusal:
    """A scope had no room. `level` is without the request; `stale` are requests whose holds are past their time."""

    level: Level
    stale: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Breach:
    """One limit that has no room for a hold: `used` of `limit` is taken, `asked` was wanted.

    `frees_in_s` is when waiting helps: None where only another period, or never, does.
    """

    metric: Metric
    limit: Decimal
    used: Decimal
    asked: Decimal
    frees_in_s: float | None
    budget: Budget | None = None


def breaches(policy: Policy, level: Level, hold: Hold, now: float) -> Iterator[Breach]:
    """Every limit that `hold` would break on top of `level`, whether or not the policy enforces it."""
    minute_ends = max(0.0, (hold.minute + 1) * MINUTE_S - now)
    if policy.rpm is not None and level.requests + 1 > policy.rpm:
        yield Breach("requests", Decimal(policy.rpm), Decimal(level.requests), Decimal(1), minute_ends)
    if policy.tpm is not None and level.tokens + hold.tokens > policy.tpm:
        # What is larger than the whole limit fits in no minute.
        wait = minute_ends if hold.tokens <= policy.tpm else None
        yield Breach("tokens", Decimal(policy.tpm), Decimal(level.tokens), Decimal(hold.tokens), wait)
    if policy.parallel is not None and level.in_flight + 1 > policy.parallel:
        yield Breach("parallel", Decimal(policy.parallel), Decimal(level.in_flight), Decimal(1), SOON_S)
    for budget in policy.budgets:
        # The hold's own periods: the clock may have passed midnight since it was made.
        committed = sum((level.committed_in(label) for label in hold.labels if budget.counts_in(label)), Decimal(0))
        if committed + hold.usd > budget.usd:
            spent = sum((level.spent_in(label) for label in hold.labels if budget.counts_in(label)), Decimal(0))
            # Where only other requests' holds are in the way, they end.
            frees_in_s = None if spent + hold.usd > budget.usd else SOON_S
            yield Breach("budget", budget.usd, committed, hold.usd, frees_in_s, budget)


def enforced(policy: Policy, breach: Breach) -> bool:
    return not policy.shadow and (breach.budget is None or breach.budget.hard)


def hard_room(policy: Policy, label: str) -> Decimal | None:
    """The least hard budget among those that count in `label`; None where none is hard."""
    hard = [budget.usd for budget in policy.budgets if budget.hard and budget.counts_in(label)]
    return None if policy.shadow or not hard else min(hard)


def crossed(policy: Policy, before: Level, after: Level, at: float) -> Sequence[tuple[Budget, Decimal]]:
    """The alert thresholds that spending passed between two levels, each with its budget."""
    found = []
    for budget in policy.budgets:
        label = budget.label(at)
        old, new = before.spent_in(label), after.spent_in(label)
        found += [(budget, share) for share in budget.alerts if old < share * budget.usd <= new]
    return found


@lru_cache(maxsize=64)
def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo  # noqa: PLC0415 - 2 ms that only a budget in a named zone pays

    return ZoneInfo(name)


def ended_before(label: str, at: float) -> bool:
    """Whether the period `label` (`Budget.label`) was over at the instant `at`, in its own zone."""
    period, _, zone = label.partition("@")
    names: dict[str, Period] = {"D": "day", "W": "week", "M": "month"}
    if period[:1] not in names:
        return False
    now = Budget(Decimal(0), names[period[0]], zone or "UTC").label(at)
    return period < now.partition("@")[0]
