"""Budget alerts: told once for each threshold and period, to whoever listens on the topic.

What counts is the level, not the crossing: whenever a scope is looked at, every threshold that its spending has reached
is told of, unless it was. So what was missed, because a counter came late or the topic was away, is made good the
next time: when another request of the scope is folded, or by the sweep's walk.
"""

from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta
from decimal import Decimal

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.limits import Budget, Policy, Scope
from llm_gateway.domain.ports import AlertMarks, Notifier, Scopes
from llm_gateway.errors import GatewayError
from llm_gateway.observability.budget_alerts import BudgetAlert

_LOOKS_BACK_S = timedelta(minutes=20).total_seconds()
"""Longer than from one walk to the next: the last requests of a period are told of in the next one."""
_CLAIM_S = 120
"""After this a claim whose process died is another's."""


class BudgetAlerts:
    """`notifier` is None where nobody listens: then nothing is looked at."""

    def __init__(
        self,
        scopes: Scopes,
        catalog: Callable[[], Awaitable[Catalog]],
        marks: AlertMarks,
        notifier: Notifier | None,
        warn: Callable[[str], None],
        now: Callable[[], float],
    ) -> None:
        self._scopes = scopes
        self._catalog = catalog
        self._marks = marks
        self._notifier = notifier
        self._warn = warn
        self._now = now
        self._told: set[str] = set()

    async def check(self, scopes: Iterable[Scope]) -> int:
        """How many alerts were sent. Raises `errors.Unavailable` where the stores do not answer."""
        if self._notifier is None:
            return 0
        catalog = await self._catalog()
        sent = 0
        for scope in dict.fromkeys(scopes):
            policy = _policy(catalog, scope)
            if policy is not None and any(budget.alerts for budget in policy.budgets):
                for alert in await self._reached(scope, policy):
                    sent += await self._tell(alert, self._notifier)
        return sent

    async def _reached(self, scope: Scope, policy: Policy) -> list[BudgetAlert]:
        budgets = [(budget, label) for budget in policy.budgets for label in self._labels(budget)]
        level = await self._scopes.level(scope, 0, [label for _, label in budgets])
        return [
            BudgetAlert(scope, budget, share, label, spent)
            for budget, label in budgets
            if (spent := level.spent_in(label)) > 0
            for share in budget.alerts
            if spent >= share * budget.usd
        ]

    def _labels(self, budget: Budget) -> tuple[str, ...]:
        now = self._now()
        return tuple(dict.fromkeys((budget.label(now), budget.label(now - _LOOKS_BACK_S))))

    async def _tell(self, alert: BudgetAlert, notifier: Notifier) -> bool:
        """A claim comes before the message. A topic that fails gives the claim back, for the next who looks."""
        name = f"{alert.scope.id}#{alert.label}#{alert.budget.usd:f}#{alert.share.normalize():f}"
        if name in self._told:
            return False
        now = int(self._now())
        token = await self._marks.claim(name, now, now + _CLAIM_S)
        if token is None:
            return False
        try:
            await notifier.publish(_subject(alert), f"{alert}.\n", _attributes(alert))
        except GatewayError as error:
            self._warn(f"a budget alert could not be sent, and will be tried again ({alert}): {error}")
            await self._marks.release(name, token)
            return False
        await self._marks.sent(name, now)
        self._told.add(name)
        return True


def _policy(catalog: Catalog, scope: Scope) -> Policy | None:
    policy = catalog.policies.get(scope.id)
    return catalog.policies.get("user#*") if policy is None and scope.kind == "user" else policy


def _subject(alert: BudgetAlert) -> str:
    percent = f"{(alert.share * 100).normalize():f}"
    return f"{percent} % of the {alert.budget.period} budget of {alert.scope} is spent"


def _attributes(alert: BudgetAlert) -> dict[str, str]:
    """For programs, and for filters of subscriptions."""
    return {
        "scope": alert.scope.id,
        "period": alert.label,
        "share": _plain(alert.share),
        "spent_usd": _plain(alert.spent),
        "budget_usd": _plain(alert.budget.usd),
    }


def _plain(value: Decimal) -> str:
    return format(value, "f")
