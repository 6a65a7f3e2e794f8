"""What follows a failed attempt: the same deployment again, the next one, or the end. Why it is our own: docs/adr/0008.

| fault            | the same deployment again                       | then                                         |
|------------------|-------------------------------------------------|----------------------------------------------|
| `passing`        | `retries` times, with full jitter               | the next, or the end                         |
| `limited`        | once, if the provider asks for 2 s at most      | the next; without one, as `passing`          |
| `silent`         | never                                           | the next, or the end                         |
| `denied`         | never                                           | the next, or the end                         |
| `context_length` | never                                           | the next of its own chain, else of the others |
| `content_policy` | never                                           | the next of its own chain, or the end        |
| `request`        | never                                           | the end                                      |
| `gateway`        | never                                           | the end                                      |
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from llm_gateway.routing.faults import Fault

Chain = Literal["general", "context", "content"]

RETRIES_WITH_OTHERS: Final = 1
RETRIES_ALONE: Final = 2
LONGEST_HINT_S: Final = 2.0
"""A provider that asks for more is left alone: a fallback takes over, or the caller hears how long it takes."""
SHORTEST_WAIT_S: Final = 0.05
LONGEST_BACKOFF_S: Final = 8.0
FIRST_BACKOFF_S: Final = 0.5
SPACED_FROM: Final = 3
"""From the third repeat on, the wait is a second at least: nobody is called more than three times in one."""
SPACED_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Decision:
    kind: Literal["again", "next", "stop"]
    wait_s: float = 0.0
    """For `again`: seconds to wait before."""
    chain: Chain = "general"
    """For `next`: the chain to change to; `general` changes nothing, whichever chain the request is on."""


def decide(
    fault: Fault,
    *,
    tries_here: int,
    retries: int | None,
    others_left: bool,
    left_s: float,
    random: Callable[[], float],
    context_left: bool = False,
    content_left: bool = False,
) -> Decision:
    """What to do after a try at a deployment failed.

    `tries_here` counts the tries at it so far, this one included; `retries` is the group's, None for the default.
    `others_left`, `context_left` and `content_left` say whether the chains have an untried candidate. `left_s` is the
    time that the request has left, in seconds; what is decided fits into it. `random` gives numbers from 0 to 1.
    """
    onwards = _onwards(fault, others_left=others_left, context_left=context_left, content_left=content_left)
    if left_s <= 0:
        return _STOP
    if _is_repeated(fault, tries_here, retries, onwards is not None):
        wait_s = _wait_s(fault, tries_here, left_s, random)
        if wait_s < left_s:
            return Decision("again", wait_s)
    return onwards or _STOP


_STOP: Final = Decision("stop")


def _onwards(fault: Fault, *, others_left: bool, context_left: bool, content_left: bool) -> Decision | None:
    """The way to another deployment, where the fault allows one."""
    if fault.kind in ("request", "gateway"):
        return None
    if fault.kind == "content_policy":
        return Decision("next", chain="content") if content_left else None
    if fault.kind == "context_length" and context_left:
        return Decision("next", chain="context")
    return Decision("next") if others_left else None


def _is_repeated(fault: Fault, tries_here: int, retries: int | None, others_left: bool) -> bool:
    """Whether the same deployment is worth another try, its wait apart."""
    if fault.kind not in ("passing", "limited"):
        return False
    hint_s = fault.retry_after or 0.0
    if hint_s > LONGEST_HINT_S:
        return False
    most = retries if retries is not None else RETRIES_WITH_OTHERS if others_left else RETRIES_ALONE
    if fault.kind == "limited" and others_left:
        # The others have room, as far as anybody knows: a limit without a time is left alone.
        most = 0 if fault.retry_after is None else min(most, 1)
    return tries_here <= most


def _wait_s(fault: Fault, tries_here: int, left_s: float, random: Callable[[], float]) -> float:
    """Full jitter, on top of what the provider asked for; the jitter takes half of the remaining time at most.

    Source: https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/
    """
    hint_s = fault.retry_after or 0.0
    longest = min(LONGEST_BACKOFF_S, FIRST_BACKOFF_S * 2.0 ** (tries_here - 1), max(0.0, left_s - hint_s) / 2)
    return max(hint_s + random() * longest, SHORTEST_WAIT_S if tries_here < SPACED_FROM else SPACED_S)
