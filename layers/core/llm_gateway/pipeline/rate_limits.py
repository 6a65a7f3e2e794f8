"""What callers are told of limits: the `x-ratelimit-*` headers, and the 429 that names the limit and when it frees.

Headers and their spelling of times: https://platform.openai.com/docs/guides/rate-limits#rate-limits-in-headers
"""

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal

from llm_gateway.domain.limits import MINUTE_S, Breach, Hold, breaches, enforced
from llm_gateway.errors import DeploymentLimited, GatewayError, QuotaExceeded, RateLimited, Unavailable
from llm_gateway.metering.cost import format_usd
from llm_gateway.pipeline.reservations import Limited, Refused, Reservation
from llm_gateway.pipeline.waiting import Reason

_METRICS = {"requests": "requests per minute", "tokens": "tokens per minute", "parallel": "parallel requests"}


def rate_headers(reservation: Reservation, now: float) -> dict[str, str]:
    """The scope with the least left, for requests and for tokens, each as it is with this request in it."""
    levels = [
        (limited.policy, hold, grant.level)
        for limited, hold, grant in zip(reservation.limited, reservation.holds, reservation.grants, strict=True)
        if grant is not None and not limited.policy.shadow
    ]
    requests = [(policy.rpm, policy.rpm - level.requests) for policy, _, level in levels if policy.rpm is not None]
    tokens = [(policy.tpm, policy.tpm - level.tokens) for policy, _, level in levels if policy.tpm is not None]
    headers: dict[str, str] = {}
    for name, limits in (("requests", requests), ("tokens", tokens)):
        if limits:
            limit, left = min(limits, key=lambda pair: pair[1])
            headers |= _of_metric(name, limit, left, (levels[0][1].minute + 1) * MINUTE_S - now)
    return headers


def over_limits(reservation: Reservation, now: float) -> tuple[str, ...]:
    """Limits that the request is over and that are not enforced: `team#search requests`."""
    found = []
    for limited, hold, grant in zip(reservation.limited, reservation.holds, reservation.grants, strict=True):
        if grant is None:
            continue
        over = breaches(limited.policy, grant.level.without(hold), hold, now)
        found += [f"{limited.scope.id} {breach.metric}" for breach in over]
    return tuple(found)


def refusal_of(refused: Refused, now: float) -> GatewayError:
    """The limit that keeps the request out for longest: one that time does not help with, else the last to free."""
    found = max(_enforced(refused, now), key=lambda each: _wait(each[2]), default=None)
    if found is None:
        # Its own hold is in the way: of an attempt that was given back and carried out late.
        return Unavailable(
            "The gateway's ledger cannot be written for this request. Try again.",
            code="ledger_unavailable",
            retry_after=1,
        )
    error = _refusal(*found, now)
    if not of_deployment(refused):
        return error
    return DeploymentLimited(
        error.message,
        type=error.error_type,
        code=error.error_code,
        retry_after=error.retry_after,
        headers=error.headers,
    )


def room_for_output(refused: Refused, now: float) -> Decimal | None:
    """US dollars left in the tightest hard budget that refused; None where anything but money refused."""
    left: list[Decimal] = []
    for _, _, breach in _enforced(refused, now):
        if breach.budget is None:
            return None
        left.append(breach.limit - breach.used)
    return min(left, default=None)


def held_by_others(refused: Refused, now: float) -> bool:
    """Whether nothing but what other requests hold is in the way: perhaps of one that is just being settled."""
    return all(
        breach.metric in ("parallel", "budget") and breach.frees_in_s is not None
        for _, _, breach in _enforced(refused, now)
    )


def room_for_tokens(refused: Refused, now: float) -> int | None:
    """Tokens left in the tightest minute that refused; None where anything but tokens refused."""
    left: list[int] = []
    for _, _, breach in _enforced(refused, now):
        if breach.metric != "tokens":
            return None
        left.append(int(breach.limit - breach.used))
    return min(left, default=None)


def reason_to_wait(refused: Refused, now: float) -> Reason | None:
    """None where waiting in line is no help: money, more than a whole limit, or limits that are a deployment's own."""
    found = [(each, breach) for each, _, breach in _enforced(refused, now) if each.scope.kind != "deployment"]
    if not found or any(breach.budget is not None or breach.frees_in_s is None for _, breach in found):
        return None
    minutes = [breach.frees_in_s or 0.0 for _, breach in found if breach.metric != "parallel"]
    return Reason(
        tuple(dict.fromkeys(each.scope for each, _ in found)),
        max(minutes, default=None),
        ends=all(breach.metric != "requests" for _, breach in found),
    )


def of_deployment(refused: Refused) -> bool:
    """Whether another deployment may have room."""
    return all(limited.scope.kind == "deployment" for limited, _, _ in refused.refusals)


def _enforced(refused: Refused, now: float) -> Iterator[tuple[Limited, Hold, Breach]]:
    for limited, hold, refusal in refused.refusals:
        for breach in breaches(limited.policy, refusal.level, hold, now):
            if enforced(limited.policy, breach):
                yield limited, hold, breach


def _refusal(limited: Limited, hold: Hold, breach: Breach, now: float) -> RateLimited:
    headers: dict[str, str] = {}
    if breach.metric in ("requests", "tokens"):
        left = max(0, int(breach.limit - breach.used))
        headers |= _of_metric(breach.metric, int(breach.limit), left, (hold.minute + 1) * MINUTE_S - now)
    if breach.frees_in_s is None:
        headers["x-should-retry"] = "false"
    if breach.budget is not None:
        return QuotaExceeded(_budget_message(limited, breach, now), headers=headers, retry_after=breach.frees_in_s)
    what = _METRICS[breach.metric]
    message = (
        f"Rate limit reached for {limited.scope}: {breach.limit} {what}, {breach.used} used, {breach.asked} wanted."
    )
    if breach.frees_in_s is None:
        return RateLimited(f"{message} The request is larger than the whole limit.", headers=headers)
    wait = max(1.0, breach.frees_in_s)
    return RateLimited(f"{message} Try again in {wait:.0f} s.", retry_after=wait, headers=headers)


def _wait(breach: Breach) -> float:
    return float("inf") if breach.frees_in_s is None else breach.frees_in_s


def _of_metric(name: str, limit: int, left: int, reset_s: float) -> dict[str, str]:
    return {
        f"x-ratelimit-limit-{name}": str(limit),
        f"x-ratelimit-remaining-{name}": str(max(0, left)),
        f"x-ratelimit-reset-{name}": f"{max(0.0, reset_s):.3f}s",
    }


def _budget_message(limited: Limited, breach: Breach, now: float) -> str:
    assert breach.budget is not None
    period = "in total" if breach.budget.period == "total" else f"a {breach.budget.period}"
    ends = breach.budget.ends_at(now)
    renewed = "" if ends is None else f" It is renewed at {datetime.fromtimestamp(ends, UTC):%Y-%m-%dT%H:%M:%SZ}."
    return (
        f"The budget of {limited.scope}, ${format_usd(breach.limit)} {period}, does not hold this request: "
        f"${format_usd(breach.used)} is spent or reserved, and it may cost up to ${format_usd(breach.asked)}.{renewed}"
    )
