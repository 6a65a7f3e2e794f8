"""What scopes may do, from what the registry stores of organisation, teams, users, keys, models and deployments.

Each of their documents may hold, beside what else it says, `shadow`, `on_ledger_outage`, `without_max_tokens`,
`queue_s` and

    "limits": {"rpm": 600, "tpm": 200000, "parallel": 20}
    "budget": [{"usd": "50", "period": "month", "zone": "UTC", "hard": true, "alerts": ["0.8"]}]

A model's deployments have `limits` and `shadow` of their own.
"""

from collections.abc import Mapping
from dataclasses import replace
from decimal import Decimal, InvalidOperation

from llm_gateway.catalog.documents import Document
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.catalog.providers import canonical
from llm_gateway.domain.limits import Budget, OnOutage, Period, Policy, Scope, ScopeKind, WithoutMaximum

DEFAULT_ORGANISATION = "default"

_SPENDING: tuple[ScopeKind, ...] = ("organisation", "team", "user", "key")
_NOTHING = Policy()
_NOTHING_IN_SHADOW = Policy(shadow=True)


def read_policies(by_kind: Mapping[str, Mapping[str, Document]]) -> dict[str, Policy]:
    """The policies by `Scope.id`; a scope that nothing is said of has none. Raises `ConfigError`."""
    found = {
        Scope(kind, name).id: _spending(document)
        for kind in _SPENDING
        for name, document in by_kind.get(kind, {}).items()
    }
    for alias, document in by_kind.get("model", {}).items():
        found[Scope("model", alias).id] = _policy(document)
        for deployment in document.tables("deployments"):
            _add_deployment(found, deployment)
    return {scope: policy for scope, policy in found.items() if policy not in (_NOTHING, _NOTHING_IN_SHADOW)}


def read_organisation(by_kind: Mapping[str, Mapping[str, Document]]) -> str:
    """The organisation's name, `default` where none is configured.

    Raises `ConfigError` where there are two: nobody could say whose budget counts.
    """
    names = list(by_kind.get("organisation", {}))
    if len(names) > 1:
        raise ConfigError([f"organisation {names[1]}: there is one already, {names[0]}"])
    return names[0] if names else DEFAULT_ORGANISATION


def _add_deployment(found: dict[str, Policy], deployment: Document) -> None:
    policy = _policy(deployment)
    if policy in (_NOTHING, _NOTHING_IN_SHADOW):
        return
    scope = Scope("deployment", f"{canonical(deployment.need('provider', str))}:{deployment.need('model', str)}")
    if found.setdefault(scope.id, policy) != policy:
        raise deployment.fault(f"limits: {scope} has other limits elsewhere")


def _spending(document: Document) -> Policy:
    policy = _policy(document)
    if "queue_s" not in document.fields:
        return policy
    return replace(policy, queue_s=document.number("queue_s") if document.fields["queue_s"] != 0 else 0.0)


def _policy(document: Document) -> Policy:
    limits = document.table("limits")
    return Policy(
        rpm=_count(limits, "rpm"),
        tpm=_count(limits, "tpm"),
        parallel=_count(limits, "parallel"),
        budgets=tuple(_budget(each) for each in document.tables("budget")),
        shadow=document.get("shadow", bool, default=False),
        on_outage=document.choice("on_ledger_outage", OnOutage, None),
        without_maximum=document.choice("without_max_tokens", WithoutMaximum, None),
    )


def _count(limits: Document, key: str) -> int | None:
    value: int | None = limits.get(key, int)
    if value is not None and value < 1:
        raise limits.fault(f"{key}: must be at least 1")
    return value


def _budget(document: Document) -> Budget:
    document.need("period", str)
    # The zone is not looked up: only a request that spends in it pays for that.
    return Budget(
        usd=_amount(document, "usd", document.need("usd", str)),
        period=document.choice("period", Period, None),
        zone=document.get("zone", str, default="UTC"),
        hard=document.get("hard", bool, default=True),
        alerts=tuple(_amount(document, "alerts", share) for share in document.strings("alerts")),
    )


def _amount(document: Document, key: str, text: str) -> Decimal:
    try:
        amount = Decimal(text)
    except InvalidOperation:
        raise document.fault(f'{key}: "{text}" is not a decimal') from None
    if not amount.is_finite() or amount < 0:
        raise document.fault(f'{key}: "{text}" must be finite and not negative')
    return amount
