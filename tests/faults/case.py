"""What a case is: a behaviour, and what must come of it for the caller, the provider, and the bill."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from tests.faults.plays import Behaviour, spare

CONNECT_S, FIRST_TOKEN_S, IDLE_S, TOTAL_S = 1.0, 1.0, 0.6, 9.0
"""The timeouts of a case that names no others, compressed."""
MODES: tuple["Mode", ...] = ("buffered", "stream")
DIALECTS = ("openai_chat", "anthropic_messages", "gemini_generate_content", "bedrock_converse")

Mode = Literal["buffered", "stream"]
Bill = Literal["nothing", "told", "begun", "unread", "perhaps", "begun and told"]
"""What a provider's calls may cost: nothing; exactly what it told; something, for what it had begun; up to all that the
budget held for it, where it had begun and nobody read any of it; or that of what was begun, or nothing,
where it has accepted a call and nobody can know what it did; what it told of the rest, and something for what it broke off."""


@dataclass(frozen=True, slots=True)
class Times:
    """`apart_s` is the least time between two calls of one provider, the others are the caller's."""

    apart_s: float = 0.04
    at_least_s: float = 0.0
    at_most_s: float = 6.0


@dataclass(frozen=True, slots=True)
class Expect:
    """What must come of one run. Attempts are from-to."""

    what: Literal["whole", "part", "refused"]
    """The whole text; its beginning, then an error in the stream; or an error with a status."""
    status: frozenset[int]
    primary: tuple[int, int]
    spare: tuple[int, int]
    bills: tuple[Bill, Bill]
    code: str | None = None
    """Of the error; None where any will do."""
    times: Times = field(default_factory=Times)
    retry_after: int | None = None
    """The header that the caller gets."""


@dataclass(frozen=True, slots=True)
class Case:
    """One misbehaviour. `alone` where nobody else could answer, `spared` with a healthy fallback; None is not tried."""

    name: str
    play: Behaviour
    alone: Expect | None
    spared: Expect | None
    modes: Sequence[Mode] = MODES
    dialects: Sequence[str] = DIALECTS
    spare: Behaviour = spare
    chain: Literal["fallbacks", "context_window_fallbacks", "content_policy_fallbacks"] = "fallbacks"
    recovery: Literal["continue", "restart", "off"] = "continue"
    prefill: bool = True
    """Whether the providers are said to take one."""
    timeouts: Mapping[str, float] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """The caller's."""
    where: Literal["listening", "own port", "refusing", "not accepting"] = "listening"
    warm: bool = False
    """A healthy call goes before, so that there is a connection to use again."""
    heavy: bool = False
    """Its runs keep a processor busy: they are made when all others are over, one by one."""
    resent: int = 0
    """How often a call that met a dead connection is sent again: that is no attempt."""


def served(tries: int = 1, *, lost: Bill = "told", **more: float) -> Expect:
    """The primary answers in the end; `lost` where its failed tries may have cost something beside what it told."""
    return Expect("whole", frozenset({200}), (tries, tries), (0, 0), (lost, "nothing"), times=Times(**more))


def fell_back(tries: int | tuple[int, int] = 1, *, lost: Bill = "nothing", **more: float) -> Expect:
    """The spare answers, and nobody can see that it was not the first."""
    return Expect("whole", frozenset({200}), _range(tries), (1, 1), (lost, "told"), times=Times(**more))


def refused(
    status: int | set[int],
    tries: int | tuple[int, int] = 1,
    *,
    code: str | None = None,
    lost: Bill = "nothing",
    spared: int = 0,
    retry_after: int | None = None,
    **more: float,
) -> Expect:
    """An error before the first byte."""
    statuses = frozenset({status} if isinstance(status, int) else status)
    bills: tuple[Bill, Bill] = (lost, "nothing")
    return Expect(
        "refused",
        statuses,
        _range(tries),
        (spared, spared),
        bills,
        code=code,
        retry_after=retry_after,
        times=Times(**more),
    )


def continued(tries: int | tuple[int, int] = (1, 2), **more: float) -> Expect:
    """The stream goes on at the spare, and is one answer."""
    return Expect("whole", frozenset({200}), _range(tries), (1, 1), ("begun", "told"), times=Times(**more))


def continued_itself(**more: float) -> Expect:
    """The stream goes on where it broke, and is one answer."""
    return Expect("whole", frozenset({200}), (2, 2), (0, 0), ("begun and told", "nothing"), times=Times(**more))


def broke(
    code: str | None = None,
    tries: int | tuple[int, int] = 1,
    *,
    spared: int | tuple[int, int] = 0,
    lost: Bill = "nothing",
    **more: float,
) -> Expect:
    """An error in the stream, after what had come by then."""
    bills: tuple[Bill, Bill] = ("begun", lost)
    return Expect("part", frozenset({200}), _range(tries), _range(spared), bills, code=code, times=Times(**more))


def _range(tries: int | tuple[int, int]) -> tuple[int, int]:
    return (tries, tries) if isinstance(tries, int) else tries
