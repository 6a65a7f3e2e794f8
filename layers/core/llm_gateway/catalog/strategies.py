"""How an alias shares its calls, from what the registry stores of a model.

"strategy": "sticky", "sticky_by": "user", "queue_s": 5
"rules": [{"when": {"tags": {"tier": "free"}, "budget_used_above": "0.8"}, "use": "small"}]
"canary": {"provider": "openai", "model": "gpt-5", "percent": 5, "by": "key"}
"shadow_traffic": {"provider": "corp", "model": "small-2", "percent": 1}
"hedge": {"after": "p95", "percent": 10}
"""

from decimal import Decimal, InvalidOperation
from typing import Any

from llm_gateway.catalog.documents import Document
from llm_gateway.catalog.providers import canonical
from llm_gateway.domain.catalog import Deployment
from llm_gateway.domain.strategies import By, Canary, Condition, Hedge, Rule, Shadow, Strategy

_USUAL_HEDGES = Hedge(after_s=1.0).percent


def read_strategy(document: Document) -> dict[str, Any]:
    """The members of `Alias` that say how its calls are shared; what is not said is not in it. Raises `ConfigError`."""
    said: dict[str, Any] = {}
    fields = document.fields
    if "strategy" in fields:
        said["strategy"] = document.choice("strategy", Strategy, "weighted")
    if "sticky_by" in fields:
        said["sticky_by"] = document.choice("sticky_by", By, "user")
    if "rules" in fields:
        said["rules"] = tuple(_rule(each) for each in document.tables("rules"))
    if "canary" in fields:
        canary = document.table("canary")
        said["canary"] = Canary(_deployment(canary), _percent(canary), canary.choice("by", By, "key"))
    if "shadow_traffic" in fields:
        shadow = document.table("shadow_traffic")
        said["shadow"] = Shadow(_deployment(shadow), _percent(shadow))
    if "hedge" in fields:
        said["hedge"] = _hedge(document.table("hedge"))
    if "queue_s" in fields:
        said["queue_s"] = document.number("queue_s") if fields["queue_s"] != 0 else 0.0
    return said


def _rule(document: Document) -> Rule:
    when = document.table("when")
    return Rule(
        Condition(
            tags=tuple(when.string_map("tags").items()),
            metadata=tuple(when.string_map("metadata").items()),
            input_tokens_above=when.get("input_tokens_above", int),
            input_tokens_below=when.get("input_tokens_below", int),
            user=when.get("user", str),
            team=when.get("team", str),
            stream=when.get("stream", bool),
            budget_used_above=_share(when),
        ),
        document.need("use", str),
    )


def _share(when: Document) -> Decimal | None:
    text = when.get("budget_used_above", str)
    try:
        share = None if text is None else Decimal(text)
    except InvalidOperation:
        share = Decimal("NaN")
    if share is not None and not share.is_finite():
        raise when.fault(f'budget_used_above: "{text}" is not a decimal')
    return share


def _deployment(document: Document) -> Deployment:
    return Deployment(
        provider=canonical(document.need("provider", str)),
        model=document.need("model", str),
        region=document.get("region", str),
        key=document.get("key", str),
    )


def _percent(document: Document, default: float | None = None) -> float:
    value = document.fields.get("percent", default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 100:
        raise document.fault("percent: must be a number from 0 to 100")
    return float(value)


def _hedge(document: Document) -> Hedge:
    after, percent = document.fields.get("after"), _percent(document, _USUAL_HEDGES)
    if isinstance(after, str):
        digits = after.removeprefix("p")
        if len(digits) != 2 or not digits.isdecimal():
            raise document.fault(f'after: "{after}" is not a percentile, such as "p95"')
        return Hedge(percentile=int(digits) / 100, percent=percent)
    return Hedge(after_s=document.number("after"), percent=percent)
