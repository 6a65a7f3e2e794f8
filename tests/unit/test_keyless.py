"""What a process knows of providers without a key: of each team, for half a minute."""

from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.keyless import BELIEVED_S, KnownKeyless
from tests.fakes.manual_clock import ManualClock


def test_a_team_is_told_its_own() -> None:
    known = KnownKeyless(Clock())
    known.note("openai", "search", has_key=False)
    assert "openai" in known.of("search")
    assert "openai" not in known.of(None)
    assert "anthropic" not in known.of("search")


def test_a_key_that_is_found_ends_it() -> None:
    known = KnownKeyless(Clock())
    known.note("openai", None, has_key=False)
    known.note("openai", None, has_key=True)
    assert "openai" not in known.of(None)


def test_it_is_believed_for_half_a_minute() -> None:
    clock = ManualClock()
    known = KnownKeyless(Clock(now=clock))
    known.note("openai", None, has_key=False)
    clock.now += BELIEVED_S - 1
    assert "openai" in known.of(None)
    clock.now += 2
    assert "openai" not in known.of(None)
