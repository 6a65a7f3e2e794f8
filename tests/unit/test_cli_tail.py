"""`requests tail`: each request once, by the gateway's clock, also one that began long before it ended."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx

from llm_gateway.cli.client import Gateway
from llm_gateway.cli.tail import Tail
from llm_gateway.cli.target import Target

START = datetime(2026, 11, 21, 23, 50, tzinfo=UTC)


class Ledger:
    """A gateway's list of requests, on a clock of its own that this machine's has nothing to do with."""

    def __init__(self) -> None:
        self.now = START
        self.entries: list[dict[str, Any]] = []
        self.asked = 0

    def ended(self, name: str, *, after: float = 0.1) -> None:
        """Now, after so many seconds."""
        began = self.now - timedelta(seconds=after)
        self.entries.append({"request_id": name, "at": began.isoformat(), "latency_ms": round(after * 1000)})

    def pass_(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked += 1
        params = request.url.params
        first = datetime.fromisoformat(params["from"]).replace(tzinfo=UTC)
        listed = sorted(self.entries, key=lambda each: each["at"], reverse=True)
        listed = [each for each in listed if datetime.fromisoformat(each["at"]) >= first]
        at, limit = int(params.get("next", 0)), int(params["limit"])
        more = str(at + limit) if len(listed) > at + limit else None
        return httpx.Response(
            200,
            json={"data": listed[at : at + limit], "next": more},
            headers={"date": format_datetime(self.now, usegmt=True)},
        )


def tail(ledger: Ledger, **wanted: str) -> Tail:
    return Tail(Gateway(Target("http://127.0.0.1:1", "sk-x", ""), httpx.MockTransport(ledger)), wanted)


def names(entries: list[dict[str, Any]]) -> list[str]:
    return [each["request_id"] for each in entries]


def fill(ledger: Ledger, count: int, prefix: str = "old") -> list[str]:
    made = []
    for number in range(count):
        ledger.pass_(0.01)
        ledger.ended(f"{prefix}-{number}")
        made.append(f"{prefix}-{number}")
    return made


def test_the_last_ones_oldest_first_over_several_pages() -> None:
    ledger = Ledger()
    made = fill(ledger, 250)
    assert names(tail(ledger).last(3)) == made[-3:]
    assert names(tail(ledger).last(220)) == made[-220:]
    assert names(tail(ledger).last(1000)) == made
    ledger.asked = 0
    tail(ledger).last(3)
    assert ledger.asked == 1


def test_new_ones_come_once() -> None:
    ledger = Ledger()
    fill(ledger, 30)
    following = tail(ledger)
    following.last(0)
    assert following.new() == []
    for turn in range(5):
        ledger.pass_(2)
        made = fill(ledger, turn, f"turn-{turn}")
        assert names(following.new()) == made
    ledger.asked = 0
    assert following.new() == []
    assert ledger.asked == 1


def test_a_burst_of_several_pages_is_told_whole() -> None:
    ledger = Ledger()
    following = tail(ledger)
    following.last(5)
    ledger.pass_(2)
    made = fill(ledger, 350, "burst")
    assert names(following.new()) == made


def test_one_that_ran_long_is_found_within_a_minute_though_many_began_later() -> None:
    ledger = Ledger()
    following = tail(ledger)
    following.last(0)
    ledger.pass_(600)
    fill(ledger, 300, "quick")
    assert len(following.new()) == 300
    ledger.ended("long", after=600)
    found: list[str] = []
    for _ in range(35):
        ledger.pass_(2)
        found += names(following.new())
    assert found == ["long"]


def test_midnight_is_no_gap() -> None:
    ledger = Ledger()
    following = tail(ledger)
    following.last(0)
    ledger.pass_(595)
    ledger.ended("before")
    assert names(following.new()) == ["before"]
    ledger.pass_(30)
    ledger.ended("across", after=60)
    ledger.ended("after")
    assert names(following.new()) == ["across", "after"]


def test_what_is_remembered_is_forgotten_again() -> None:
    ledger = Ledger()
    following = tail(ledger)
    following.last(0)
    for _ in range(50):
        ledger.pass_(120)
        fill(ledger, 10, f"at-{ledger.now}")
        assert len(following.new()) == 10
    assert len(following._seen) < 250


def test_filters_go_to_the_gateway() -> None:
    seen: list[httpx.URL] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.url)
        return httpx.Response(200, json={"data": [], "next": None})

    Tail(Gateway(Target("http://127.0.0.1:1", "sk-x", ""), httpx.MockTransport(answer)), {"team": "search"}).last(1)
    assert seen[0].params["team"] == "search"
