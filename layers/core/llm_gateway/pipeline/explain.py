"""Why a request would go where it goes: its plan and its limits as they are now, and nothing done about them.

The plan is made by what sends requests (`Journey`), from the same facts, so that it is the plan that would be followed.
No provider is called, and nothing written or held; what is read are the scopes' counters, and keys that are not known.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from decimal import Decimal

from llm_gateway.domain.catalog import Catalog, Deployment
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Breach, Hold, Level, Metric, Scope, breaches
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.admission import queue_s
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.gateway import Gateway
from llm_gateway.pipeline.journey import Journey
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.outcome import Outcome
from llm_gateway.pipeline.reservations import Limited
from llm_gateway.routing.features import Features
from llm_gateway.routing.health import CircuitState
from llm_gateway.routing.ordering import Planned
from llm_gateway.routing.plan import Plan
from llm_gateway.routing.route import Route
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request


@dataclass(frozen=True, slots=True)
class LimitNow:
    """One limit of a scope as it is now, and what the request would ask of it.

    `frees_in_s` is when waiting helps where it does not fit: None where it does, or where waiting never will.
    """

    scope: Scope
    metric: Metric
    period: str | None
    """Of a budget."""
    limit: Decimal
    used: Decimal | None
    """None where it is nobody's business who asks: how much others have used."""
    asked: Decimal
    fits: bool
    enforced: bool
    frees_in_s: float | None = None


@dataclass(frozen=True, slots=True)
class Unfit:
    """A deployment that the plan has and that is skipped, since its wire or a limit cannot take the request."""

    deployment: Deployment
    group: str
    message: str


@dataclass(frozen=True, slots=True)
class Explanation:
    request_id: str
    """Whose draws these are."""
    route: Route
    features: Features
    plan: Plan
    candidates: tuple[tuple[Planned, CircuitState], ...]
    unfit: tuple[Unfit, ...]
    limits: tuple[LimitNow, ...]
    queue_s: float


class Explainer:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def explain(self, call: Call) -> Explanation:
        """Of a chat request. Raises what the request itself would meet before it is sent, but for its limits."""
        gateway = self._gateway
        key = await gateway.auth.identify(call.token)
        request = read_chat_request(call.body)
        catalog = await gateway.catalog.current()
        route = await gateway.choice.choose(call.path_model or request.model, catalog, key, request.models)
        for name in sorted({each.provider for each in route.everybody}):
            await gateway.dispatcher.is_configured(catalog.providers[name], key.team)
        return await _Explaining(gateway, call, key, catalog, request, route).explanation()


class _Explaining:
    """One request's."""

    def __init__(
        self, gateway: Gateway, call: Call, key: VirtualKey, catalog: Catalog, request: ModelRequest, route: Route
    ) -> None:
        self._gateway = gateway
        self._call = call
        self._key = key
        self._catalog = catalog
        self._request = request
        self._route = route
        self._features = gateway.features_of(call, key, request, route, catalog)
        self._journey = Journey(gateway, call, key, catalog, request, route, self._features, Outcome(call.started))
        self._limits: dict[Scope, tuple[LimitNow, ...]] = {}

    async def explanation(self) -> Explanation:
        plan = self._journey.attempts.plan
        candidates: list[tuple[Planned, CircuitState]] = []
        unfit: list[Unfit] = []
        for planned in plan.candidates:
            try:
                await self._look_at(self._journey.leg_at(planned.candidate))
            except InvalidRequest as error:
                unfit.append(Unfit(planned.deployment, planned.candidate.group.name, error.message))
            else:
                candidates.append((planned, self._gateway.circuits.state(planned.deployment.name)))
        if self._key.role != "admin":
            plan = replace(plan, dropped=tuple(each for each in plan.dropped if each.reason != "not_allowed"))
        return Explanation(
            self._call.request_id,
            self._route,
            self._features,
            plan,
            tuple(candidates),
            tuple(unfit),
            tuple(limit for limits in self._limits.values() for limit in limits),
            self._queue_s(),
        )

    async def _look_at(self, leg: Leg) -> None:
        """Its limits, and the caller's. Raises `InvalidRequest` for a request whose cost has no bound there."""
        accounts, admission, call = self._gateway.accounts, self._gateway.admission, self._call
        limited = self._scopes(leg.deployment)
        if not limited:
            return
        requested, total_s = self._route.requested, self._route.timeouts.total_s
        record = accounts.record_of(call, self._key, self._request, requested, leg.deployment, total_s)
        asked = self._request, len(leg.parts), leg.deployment, self._catalog
        for each, hold, level in await admission.look(call.endpoint, record, limited, *asked, known=self._limits):
            limits = _limits(each, hold, level, admission.now())
            known = self._may_know(each.scope)
            self._limits[each.scope] = tuple(each if known else replace(each, used=None) for each in limits)

    def _may_know(self, scope: Scope) -> bool:
        """As with usage: a key its own, a team's admin the team's, an admin everybody's."""
        key = self._key
        if key.role == "admin" or scope == Scope("key", key.name):
            return True
        if key.user is not None and scope == Scope("user", key.user):
            return True
        return key.role == "team-admin" and key.team is not None and scope == Scope("team", key.team)

    def _scopes(self, deployment: Deployment | None) -> tuple[Limited, ...]:
        user, requested = self._request.user, self._route.requested
        return self._gateway.admission.scopes_of(self._catalog, self._key, user, requested, deployment)

    def _queue_s(self) -> float:
        alias = self._route.alias
        return queue_s(self._scopes(None), self._call.queue_s, None if alias is None else alias.queue_s)


def _limits(limited: Limited, hold: Hold, level: Level, now: float) -> Iterator[LimitNow]:
    policy = limited.policy
    broken = {(each.metric, each.budget): each for each in breaches(policy, level, hold, now)}
    counted: tuple[tuple[Metric, int | None, int, int], ...] = (
        ("requests", policy.rpm, level.requests, 1),
        ("tokens", policy.tpm, level.tokens, hold.tokens),
        ("parallel", policy.parallel, level.in_flight, 1),
    )
    for metric, limit, used, asked in counted:
        if limit is not None:
            numbers = Decimal(limit), Decimal(used), Decimal(asked)
            yield _limit(limited, metric, None, numbers, broken.get((metric, None)), binds=True)
    for budget in policy.budgets:
        committed = sum((level.committed_in(label) for label in hold.labels if budget.counts_in(label)), Decimal(0))
        numbers = budget.usd, committed, hold.usd
        yield _limit(limited, "budget", budget.period, numbers, broken.get(("budget", budget)), binds=budget.hard)


def _limit(
    limited: Limited,
    metric: Metric,
    period: str | None,
    numbers: tuple[Decimal, Decimal, Decimal],
    breach: Breach | None,
    *,
    binds: bool,
) -> LimitNow:
    frees_in_s = None if breach is None else breach.frees_in_s
    is_enforced = binds and not limited.policy.shadow
    return LimitNow(limited.scope, metric, period, *numbers, breach is None, is_enforced, frees_in_s)
