"""What routing knows of a request, and what a rule asks of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property

from llm_gateway.domain.strategies import By, Condition


def _none() -> int:
    return 0


@dataclass(frozen=True)
class Features:
    """`request_id` is what every draw comes from. `key` is the key's name, which rotation keeps."""

    request_id: str
    endpoint: str = "chat.completions"
    requested: str = ""
    """The model that was asked for."""
    key: str = ""
    team: str | None = None
    user: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    """The request's own, under those of the key."""
    count_input_tokens: Callable[[], int] = _none
    """Takes time in proportion to the request: called once, where something asks."""
    max_output_tokens: int | None = None
    stream: bool = False
    budget_used: Decimal | None = None
    """The share of the tightest hard budget that is spent or held, as last seen; None where there is none."""

    @cached_property
    def input_tokens(self) -> int:
        """An estimate."""
        return self.count_input_tokens()

    def of(self, by: By) -> str:
        """Whom the request's calls stay together with. A call without a user counts as its key's."""
        return f"user {self.user}" if by == "user" and self.user else f"key {self.key}"


def holds(condition: Condition, of: Features) -> bool:
    """Whether all that the condition says is so. A budget that nobody has seen is not used."""
    return (
        (condition.team is None or condition.team == of.team)
        and (condition.user is None or condition.user == of.user)
        and (condition.stream is None or condition.stream == of.stream)
        and all(of.tags.get(name) == value for name, value in condition.tags)
        and all(of.metadata.get(name) == value for name, value in condition.metadata)
        and _budget_holds(condition, of)
        and _size_holds(condition, of)
    )


def _budget_holds(condition: Condition, of: Features) -> bool:
    above = condition.budget_used_above
    return above is None or (of.budget_used is not None and of.budget_used > above)


def _size_holds(condition: Condition, of: Features) -> bool:
    above, below = condition.input_tokens_above, condition.input_tokens_below
    return (above is None or of.input_tokens > above) and (below is None or of.input_tokens < below)
