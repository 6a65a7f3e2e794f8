"""How full budgets were when this process last heard of them: for rules that go by it, which read nothing."""

from collections.abc import Iterable
from decimal import Decimal
from typing import Final

from llm_gateway.domain.limits import Level, Policy, Scope

_MOST_SCOPES: Final = 4096
"""Users are named by callers: the scopes that were heard of the longest ago are forgotten."""


class SeenBudgets:
    """What was committed of each scope's periods, by what the store answered this process."""

    def __init__(self) -> None:
        self._committed: dict[Scope, dict[str, Decimal]] = {}

    def saw(self, scope: Scope, policy: Policy, level: Level) -> None:
        if not policy.has_hard_budget:
            return
        self._committed.pop(scope, None)
        self._committed[scope] = dict(level.committed)
        if len(self._committed) > _MOST_SCOPES:
            del self._committed[next(iter(self._committed))]

    def used(self, scopes: Iterable[tuple[Scope, Policy]], at: float) -> Decimal | None:
        """The largest share of a hard budget that is spent or held in the period of `at` (Unix seconds).

        None where there is none, or nothing was heard of it in that period.
        """
        shares = (
            committed / budget.usd if budget.usd else Decimal(1)
            for scope, policy in scopes
            if policy.has_hard_budget
            for budget in policy.budgets
            if budget.hard and (committed := self._committed.get(scope, {}).get(budget.label(at))) is not None
        )
        return max(shares, default=None)
