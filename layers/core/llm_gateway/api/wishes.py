"""What a caller wants of the way its request takes: the headers `x-gateway-timeout`, `x-gateway-stream-recovery` and
`x-gateway-queue`."""

import math
import time
from typing import Final, get_args

from starlette.types import Scope

from llm_gateway.api.envelope import STARTED
from llm_gateway.api.headers import CallerHeaders
from llm_gateway.domain.catalog import Recovery
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.waiting import LONGEST_S

_TIMEOUT: Final = b"x-gateway-timeout"
_RECOVERY: Final = b"x-gateway-stream-recovery"
_QUEUE: Final = b"x-gateway-queue"
_DEADLINE: Final = "llm_gateway.deadline"
"""The scope extension of the Lambda runtime: when it ends the invocation, in Unix milliseconds."""
_TO_SETTLE_S: Final = 3.0
"""Of an invocation's time, what is left for the last words and the ledger."""


def deadline_of(headers: CallerHeaders, scope: Scope) -> float:
    """When the answer must be whole, on the clock of `STARTED`: by the caller's word or the platform's, the sooner.

    Raises `InvalidRequest` for an `x-gateway-timeout` that is no positive number of seconds.
    """
    deadline = math.inf
    if (given := headers.get(_TIMEOUT)) is not None:
        seconds = _seconds(given)
        if not 0 < seconds < math.inf:
            raise InvalidRequest(
                "The x-gateway-timeout header must be a positive number of seconds.", param="x-gateway-timeout"
            )
        deadline = scope[STARTED] + seconds
    platform = (scope.get("extensions") or {}).get(_DEADLINE)
    if platform is not None and platform["unix_ms"]:
        left_s = platform["unix_ms"] / 1000 - time.time() - _TO_SETTLE_S
        deadline = min(deadline, time.perf_counter() + left_s)
    return deadline


def recovery_of(headers: CallerHeaders) -> Recovery | None:
    """Raises `InvalidRequest` for a word that is none of `Recovery`'s."""
    given = headers.get(_RECOVERY)
    if given is None:
        return None
    for known in get_args(Recovery):
        if given.strip().lower() == known:
            return known  # type: ignore[no-any-return]  # one of its own words
    raise InvalidRequest(
        f"The x-gateway-stream-recovery header must be one of {', '.join(get_args(Recovery))}.",
        param="x-gateway-stream-recovery",
    )


def queue_of(headers: CallerHeaders) -> float | None:
    """Seconds that the caller would wait in line. Raises `InvalidRequest` for what is no number from 0 to 60."""
    given = headers.get(_QUEUE)
    if given is None:
        return None
    seconds = _seconds(given)
    if not 0 <= seconds <= LONGEST_S:
        raise InvalidRequest(
            f"The x-gateway-queue header must be a number of seconds from 0 to {LONGEST_S:g}.", param="x-gateway-queue"
        )
    return seconds


def _seconds(text: str) -> float:
    """Not a number for what is none."""
    try:
        return float(text)
    except ValueError:
        return math.nan
