"""Every fault of a request's way, one after the other: what the caller sees, what the ledger says, what is billed.

Each has a key and a team of its own, both with a hard budget, so that a request holds something in two scopes.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal

from tests.fakes.dying_stores import Step
from tests.prove.provider import INPUT_USD, OUTPUT_USD
from tests.prove.stage import Caller, Stage

_DOWN_S: Final = 30.0
_ASKED_WHILE_DOWN: Final = 6
_LATE_S: Final = 1.0
"""What an engine that was paused had in its hands is carried out by then."""


@dataclass(frozen=True, eq=False)
class Fault:
    """`billed` is `exactly` what the provider bills, or what was `reserved`, where nobody can know."""

    name: str
    what: str
    act: Callable[[Stage, str], list[str]]
    """Returns what the callers saw."""
    saw: dict[str, int]
    ledger: dict[str, int]
    billed: Literal["exactly", "reserved"] = "exactly"
    outage: Literal["allow", "deny"] = "deny"
    calls: int = 1
    """Of the provider."""


def _dies(step: Step) -> Callable[[Stage, str], list[str]]:
    def act(stage: Stage, name: str) -> list[str]:
        with stage.gateway(name, dies_at=step) as caller:
            saw = caller.ask()
            caller.gateway.wait_dead()
        return [saw]

    return act


def _killed_in_mid_stream(stage: Stage, name: str) -> list[str]:
    stream = stage.held_stream()
    with stage.gateway(name) as caller:
        asked = stage.callers.submit(caller.ask, stream=True)
        stream.gate.wait_held(20)
        time.sleep(0.2)  # its two events are with the caller
        caller.gateway.kill()
        stream.gate.release()
        return [asked.result()]


def _killed_afterwards(stage: Stage, name: str) -> list[str]:
    with stage.gateway(name) as caller:
        saw = caller.ask()
        time.sleep(_LATE_S)
        caller.gateway.kill()
    return [saw]


def _caller_leaves(stage: Stage, name: str) -> list[str]:
    stream = stage.held_stream()
    with stage.gateway(name) as caller:
        saw = caller.ask(stream=True, leave=stream.gate.release)
        time.sleep(_LATE_S)
    return [saw]


def _paused_when_asked(stage: Stage, name: str) -> list[str]:
    with stage.gateway(name) as caller:
        warm = caller.ask()
        time.sleep(_LATE_S)
        stage.engine.hang()
        try:
            saw = caller.ask()
        finally:
            stage.engine.go_on()
        time.sleep(_LATE_S)
    stage.drain()
    return [warm, saw]


def _away_at_the_settlement(
    begins: Callable[[Stage], None], ends: Callable[[Stage], None], *, proxied: bool
) -> Callable[[Stage, str], list[str]]:
    """The engine goes in mid-stream and comes back when the settlement waits in the queue."""

    def act(stage: Stage, name: str) -> list[str]:
        stream = stage.held_stream()
        with stage.gateway(name, proxied=proxied) as caller:
            asked = stage.callers.submit(caller.ask, stream=True)
            stream.gate.wait_held(20)
            begins(stage)
            try:
                stream.gate.release()
                saw = asked.result()
                stage.until_queued()
            finally:
                ends(stage)
            time.sleep(_LATE_S)
        stage.drain()
        return [saw]

    return act


def _queue_away_too(stage: Stage, name: str) -> list[str]:
    """The sweep finds the request before the operator does: it is charged what it reserved, and corrected then."""
    stream = stage.held_stream()
    with stage.gateway(name, proxied=True, queue=False) as caller:
        asked = stage.callers.submit(caller.ask, stream=True)
        stream.gate.wait_held(20)
        stage.faults.take_down()
        try:
            stream.gate.release()
            saw = asked.result()
            stage.until_logged(name)
        finally:
            stage.faults.bring_up()
    stage.sweep_in(3_600)
    stage.send_what_the_log_has(name)
    stage.drain()
    return [saw]


def _down(stage: Stage, name: str) -> list[str]:
    with stage.gateway(name, proxied=True) as caller:
        saw = [caller.ask()]
        stage.faults.take_down()
        try:
            saw += _asked_meanwhile(stage, caller)
        finally:
            stage.faults.bring_up()
        saw.append(caller.ask())
    stage.drain(_ASKED_WHILE_DOWN)
    return saw


def _asked_meanwhile(stage: Stage, caller: Caller) -> Iterator[str]:
    asked = []
    for _ in range(_ASKED_WHILE_DOWN):
        asked.append(stage.callers.submit(caller.ask))
        time.sleep(_DOWN_S / _ASKED_WHILE_DOWN)
    return (each.result() for each in asked)


def _throttles(stage: Stage) -> None:
    stage.faults.resume()


def _throttles_no_more(stage: Stage) -> None:
    stage.faults.pause()


_IS_PAUSED = _away_at_the_settlement(
    lambda stage: stage.engine.hang(), lambda stage: stage.engine.go_on(), proxied=False
)
_THROTTLES = _away_at_the_settlement(_throttles, _throttles_no_more, proxied=True)

FAULTS: Final = (
    Fault("open", "kill -9 before the open", _dies("open"), {"cut": 1}, {}, calls=0),
    Fault("opened", "kill -9 after the open, nothing held", _dies("opened"), {"cut": 1}, {"abandoned": 1}, calls=0),
    Fault(
        "held", "kill -9 before the call, all held", _dies("held"), {"cut": 1}, {"abandoned": 1}, "reserved", calls=0
    ),
    Fault("stream", "kill -9 in mid-stream", _killed_in_mid_stream, {"200, then cut": 1}, {"abandoned": 1}, "reserved"),
    Fault("settle", "kill -9 before the settlement", _dies("settle"), {"200": 1}, {"abandoned": 1}, "reserved"),
    Fault("scopes", "kill -9 between the item and its scopes", _dies("scopes"), {"200": 1}, {"settled": 1}),
    Fault("scope", "kill -9 between two scopes", _dies("one scope"), {"200": 1}, {"settled": 1}),
    Fault("after", "kill -9 after the settlement", _killed_afterwards, {"200": 1}, {"settled": 1}),
    Fault("left", "the caller leaves in mid-stream", _caller_leaves, {"200, and left": 1}, {"settled": 1}),
    Fault(
        "hang",
        "engine paused when asked",
        _paused_when_asked,
        {"200": 1, "503 ledger_unavailable": 1},
        {"settled": 1, "failed": 1},
    ),
    Fault("pause", "engine paused at the settlement", _IS_PAUSED, {"200": 1}, {"settled": 1}),
    Fault("throttle", "engine throttles at the settlement", _THROTTLES, {"200": 1}, {"settled": 1}),
    Fault("queue", "engine and SQS down at the settlement", _queue_away_too, {"200": 1}, {"settled": 1}),
    Fault(
        "deny",
        "engine down for 30 s, `deny`",
        _down,
        {"200": 2, "503 ledger_unavailable": _ASKED_WHILE_DOWN},
        {"settled": 2, "failed": _ASKED_WHILE_DOWN},
        calls=2,
    ),
    Fault(
        "allow",
        "engine down for 30 s, `allow`",
        _down,
        {"200": _ASKED_WHILE_DOWN + 2},
        {"settled": _ASKED_WHILE_DOWN + 2},
        outage="allow",
        calls=_ASKED_WHILE_DOWN + 2,
    ),
)


def config(provider_url: str) -> str:
    return "\n".join(_lines(provider_url))


def _lines(provider_url: str) -> Iterator[str]:
    yield f'[providers.corp]\ndialect = "openai_chat"\nbase_url = "{provider_url}"\ncredential = "none"'
    yield f'[prices."corp:m"]\ninput = "{INPUT_USD}"\noutput = "{OUTPUT_USD}"'
    budget = 'budget = { usd = "1", period = "total" }'
    for fault in FAULTS:
        yield f'[keys.fault-{fault.name}]\nkey = "sk-fault-{fault.name}"\nteam = "fault-{fault.name}"\n{budget}'
        yield f'on_ledger_outage = "{fault.outage}"'
        yield f"[teams.fault-{fault.name}]\n{budget}"
