"""What is proved: budgets of several sizes, of one scope or of three at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal

from llm_gateway.domain.limits import Scope
from tests.prove.provider import INPUT_USD, OUTPUT_USD

REQUESTS = 200


@dataclass(frozen=True, slots=True)
class Scenario:
    """`budgets` are in total, by scope. `worst_usd` is about the most that one request can cost."""

    name: str
    budgets: dict[str, Decimal]
    worst_usd: Decimal

    @property
    def token(self) -> str:
        return f"sk-prove-{self.name}"

    @property
    def scopes(self) -> dict[Scope, Decimal]:
        return {Scope(kind, self.name): usd for kind, usd in self.budgets.items()}  # type: ignore[arg-type]

    @property
    def max_tokens(self) -> int:
        return int(self.worst_usd / Decimal(OUTPUT_USD) * 1_000_000)


def _usd(**budgets: str) -> dict[str, Decimal]:
    return {kind: Decimal(usd) for kind, usd in budgets.items()}


SCENARIOS = (
    Scenario("cent", _usd(key="0.01"), Decimal("0.0004")),
    Scenario("dollar", _usd(team="1"), Decimal("0.03")),
    Scenario("five", _usd(user="5"), Decimal("0.1")),
    Scenario("three", _usd(key="2", team="1.5", user="1"), Decimal("0.03")),
    Scenario("roomy", _usd(key="5"), Decimal("0.02")),
)
"""The last one refuses nobody: two hundred of its requests fit."""


def config(provider_url: str) -> str:
    return "\n".join(_lines(provider_url))


def _lines(provider_url: str) -> Iterator[str]:
    yield f'[providers.corp]\ndialect = "openai_chat"\nbase_url = "{provider_url}"\ncredential = "none"'
    yield f'[prices."corp:m"]\ninput = "{INPUT_USD}"\noutput = "{OUTPUT_USD}"'
    for scenario in SCENARIOS:
        name = scenario.name
        yield f'[keys.{name}]\nkey = "{scenario.token}"\nteam = "{name}"\nuser = "{name}"'
        yield from (_budget(scenario, "key"))
        for kind in ("team", "user"):
            yield f"[{kind}s.{name}]"
            yield from _budget(scenario, kind)


def _budget(scenario: Scenario, kind: str) -> Iterator[str]:
    if kind in scenario.budgets:
        yield f'budget = {{ usd = "{scenario.budgets[kind]}", period = "total" }}'
