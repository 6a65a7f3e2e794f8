"""A budget that has passed one of its thresholds."""

from dataclasses import dataclass
from decimal import Decimal

from llm_gateway.domain.limits import Budget, Scope


@dataclass(frozen=True, slots=True)
class BudgetAlert:
    """`spent` US dollars in the period `label` have passed `share` of the budget."""

    scope: Scope
    budget: Budget
    share: Decimal
    label: str
    spent: Decimal

    def __str__(self) -> str:
        percent = f"{(self.share * 100).normalize():f}"
        return (
            f"{self.scope} has spent ${self.spent:f} in {self.label}: "
            f"{percent} % of its {self.budget.period} budget of ${self.budget.usd:f}"
        )
