"""Specifies when a stream is ended, to the moment: what comes too late, what only drips, what is left open."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Timeouts
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamTimeout
from llm_gateway.pipeline.clock import read_until
from llm_gateway.pipeline.relay import GRACE_S, StreamRelay
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.fakes.scripted_response import Coming, ScriptedResponse
from tests.fakes.virtual_time import in_virtual_time, run_in_virtual_time, virtual_clock

REQUEST = read_chat_request(b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}')
TIMEOUTS = Timeouts(first_token_s=10, idle_s=30, total_s=600)
Script = list[tuple[float, Coming]]


def chunk(delta: dict[str, Any], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [choice]}).encode() + b"\n\n"


def usage_chunk() -> bytes:
    usage = {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}
    return b"data: " + json.dumps({"id": "c", "model": "m", "choices": [], "usage": usage}).encode() + b"\n\n"


ROLE = chunk({"role": "assistant", "content": ""})
EMPTY = chunk({"content": ""})
COMMENT = b": ping\n\n"
WORD = chunk({"content": "word"})
FINISH = chunk({}, "stop")
DONE = b"data: [DONE]\n\n"
PINGS = [
    pytest.param(piece, id=name)
    for name, piece in {
        "the role": ROLE,
        "empty text": EMPTY,
        "comment": COMMENT,
        "empty delta": chunk({}),
        "line end": b"\n",
        "usage": usage_chunk(),
    }.items()
]


def every(seconds: float, piece: bytes, *, first: float = 0.0, until: float = 2000.0) -> Script:
    return [(first + at * seconds, piece) for at in range(int((until - first) / seconds))]


class Watched:
    """A relay over a script, read by a caller who is as quick as can be; `said` is what they got."""

    def __init__(self, script: Script, timeouts: Timeouts = TIMEOUTS, *, began_before: float = 0.0) -> None:
        clock = virtual_clock()
        self.start = clock.now()
        self.response = ScriptedResponse(script)
        splitter, split_events = FRAMINGS["sse"]
        self.translator = Dialects()["openai_chat"].translator(REQUEST, "m", split_events)
        began = self.start - began_before
        self.relay = StreamRelay(
            self.response,
            self.translator,
            splitter(),
            timeouts,
            began=began,
            total_until=began + timeouts.total_s,
            clock=clock,
        )
        self.said = b""

    @property
    def after(self) -> float:
        """Seconds since the beginning."""
        return asyncio.get_running_loop().time() - self.start

    async def run(self, *, pause_s: float = 0.0) -> UpstreamError | None:
        """What it failed with. The caller takes `pause_s` for every block."""
        try:
            await self.relay.open()
            async for block in self.relay.stream():
                self.said += block
                await asyncio.sleep(pause_s)
        except UpstreamError as error:
            return error
        else:
            return None
        finally:
            assert timers_of_the_relay() == 0

    async def fails(self, kind: type[UpstreamError], after: float, match: str) -> None:
        error = await self.run()
        assert type(error) is kind
        assert match in error.message
        assert self.after == pytest.approx(after, abs=1e-6)
        assert DONE not in self.said
        await self.relay.close()
        assert self.response.closed

    async def completes(self, after: float) -> None:
        assert await self.run() is None
        assert self.after == pytest.approx(after, abs=1e-6)
        assert self.said.endswith(DONE)
        assert self.said.count(DONE) == 1
        await self.relay.close()
        assert self.response.closed


def timers_of_the_relay() -> int:
    scheduled = asyncio.get_running_loop()._scheduled  # type: ignore[attr-defined]
    callbacks = [handle._callback for handle in scheduled if not handle.cancelled()]
    return sum(isinstance(getattr(callback, "__self__", None), StreamRelay) for callback in callbacks)


class TestTheFirstContent:
    @pytest.mark.parametrize("ping", PINGS)
    @pytest.mark.parametrize("seconds", [0.01, 0.7, 9.99])
    @in_virtual_time
    async def test_whatever_drips_it_is_late_at_the_very_moment(self, ping: bytes, seconds: float) -> None:
        await Watched(every(seconds, ping, until=12)).fails(UpstreamTimeout, 10, "no content within 10 s")

    @in_virtual_time
    async def test_nothing_at_all(self) -> None:
        await Watched([]).fails(UpstreamTimeout, 10, "no content within 10 s")

    @in_virtual_time
    async def test_its_time_runs_from_the_beginning_and_not_from_the_head(self) -> None:
        await Watched([], began_before=7.5).fails(UpstreamTimeout, 2.5, "no content within 10 s")
        await Watched([], began_before=99).fails(UpstreamTimeout, 0, "no content within 10 s")

    @in_virtual_time
    async def test_the_time_between_contents_does_not_count_before_it(self) -> None:
        watched = Watched([(9, WORD), (9, FINISH), (9, DONE)], Timeouts(first_token_s=10, idle_s=1))
        await watched.completes(9)

    @in_virtual_time
    async def test_in_the_last_moment(self) -> None:
        watched = Watched([(0, ROLE), (9.999, WORD), (39.998, FINISH), (39.998, DONE)])
        await watched.completes(39.998)
        assert watched.relay.first_content_at == pytest.approx(watched.start + 9.999)

    @in_virtual_time
    async def test_an_event_in_pieces_is_content_when_it_is_whole(self) -> None:
        drip = [(at * 0.5, WORD[at : at + 1]) for at in range(len(WORD))]
        await Watched([*drip]).fails(UpstreamTimeout, 10, "no content within 10 s")

    @in_virtual_time
    async def test_the_total_comes_first_where_it_is_shorter(self) -> None:
        watched = Watched(every(1, COMMENT, until=9), Timeouts(first_token_s=10, total_s=4))
        await watched.fails(UpstreamTimeout, 4, "in total")


class TestBetweenContents:
    @pytest.mark.parametrize("ping", PINGS)
    @pytest.mark.parametrize("seconds", [0.01, 11.0, 29.99])
    @in_virtual_time
    async def test_only_content_restarts_the_clock(self, ping: bytes, seconds: float) -> None:
        script = [(1, WORD), (2, WORD), *every(seconds, ping, first=2.001, until=40)]
        await Watched(script).fails(UpstreamTimeout, 32, "no content for 30 s")

    @in_virtual_time
    async def test_what_is_silent_between_slow_contents_is_not_late(self) -> None:
        script: Script = [(at * 29.9, WORD) for at in range(1, 15)]
        script = [(0, WORD), *script, (440, FINISH), (440, DONE)]
        await Watched(script).completes(440)

    @pytest.mark.parametrize("delta", [{"reasoning_content": "hm"}, {"refusal": "no"}, {"audio": {"data": "QQ=="}}])
    @in_virtual_time
    async def test_all_that_a_model_writes_is_content(self, delta: dict[str, Any]) -> None:
        script = [(0, WORD), *every(20, chunk(delta), first=20, until=200), (200, FINISH), (200, DONE)]
        await Watched(script).completes(200)

    @in_virtual_time
    async def test_a_slow_caller_is_not_the_providers_silence(self) -> None:
        script: Script = [(at, WORD) for at in range(5)]
        watched = Watched([*script, (5, FINISH), (5, DONE)])
        assert await watched.run(pause_s=100) is None
        assert watched.said.endswith(DONE)

    @in_virtual_time
    async def test_after_a_slow_caller_the_provider_has_its_time_again(self) -> None:
        watched = Watched([(0, WORD), (0.5, WORD)])
        error = await watched.run(pause_s=100)
        assert isinstance(error, UpstreamTimeout)
        assert watched.after == pytest.approx(230)


class TestTheWhole:
    @in_virtual_time
    async def test_it_is_over_when_its_time_is_up_though_content_flows(self) -> None:
        await Watched(every(0.25, WORD)).fails(UpstreamTimeout, 600, "in total")

    @in_virtual_time
    async def test_the_provider_is_let_go_then_though_the_caller_reads_nothing(self) -> None:
        watched = Watched(every(0.25, WORD), Timeouts(total_s=40))
        await watched.relay.open()
        stream = watched.relay.stream()
        await anext(stream)
        await asyncio.sleep(100)
        assert watched.response.ended_at == pytest.approx(watched.start + 40)
        with pytest.raises(UpstreamTimeout, match="in total"):
            async for _ in stream:
                pass
        await stream.aclose()

    @in_virtual_time
    async def test_it_is_over_then_though_the_provider_was_waited_for_in_between(self) -> None:
        watched = Watched(every(0.25, WORD), Timeouts(idle_s=5, total_s=40))
        await watched.relay.open()
        stream = watched.relay.stream()
        await anext(stream)
        await asyncio.sleep(20)
        await anext(stream)
        await asyncio.sleep(100)
        assert watched.response.ended_at == pytest.approx(watched.start + 40)
        await stream.aclose()
        assert timers_of_the_relay() == 0

    @in_virtual_time
    async def test_a_caller_who_was_slow_has_the_provider_watched_again(self) -> None:
        watched = Watched([(0, WORD), (0.5, WORD)], Timeouts(idle_s=5, total_s=400))
        error = await watched.run(pause_s=100)
        assert isinstance(error, UpstreamTimeout)
        assert "no content for 5 s" in error.message
        assert watched.after == pytest.approx(205)

    @in_virtual_time
    async def test_a_buffered_body_has_an_end_too(self) -> None:
        clock = virtual_clock()
        response = ScriptedResponse(every(1, b"x", until=50))
        with pytest.raises(UpstreamTimeout, match="in total"):
            await read_until(response, 1000, clock.now() + 20, clock)
        assert response.ended_at == pytest.approx(clock.now())
        assert await read_until(ScriptedResponse([(1, b"a"), (3, None)]), 1000, clock.now() + 4, clock) == b"a"


class TestTheEnd:
    @in_virtual_time
    async def test_what_is_left_open_after_the_last_event_is_over_at_once(self) -> None:
        watched = Watched([(0, WORD), (1, FINISH), (1, DONE), *every(0.1, COMMENT, first=2, until=9)])
        assert await watched.run() is None
        assert watched.after == 1
        await watched.relay.close()
        assert watched.after < 2.5, "whoever settles does not wait for what never comes"

    @pytest.mark.parametrize("ping", [*PINGS, pytest.param(b"data: {oops}\n\n", id="no JSON")])
    @in_virtual_time
    async def test_a_whole_answer_that_is_left_open_ends_after_a_grace(self, ping: bytes) -> None:
        await Watched([(0, WORD), (5, FINISH), *every(0.3, ping, first=5.1, until=20)]).completes(5 + GRACE_S)
        await Watched([(0, WORD), (5, FINISH)]).completes(5 + GRACE_S)

    @in_virtual_time
    async def test_usage_may_come_in_the_grace(self) -> None:
        watched = Watched([(0, WORD), (5, FINISH), (6.9, usage_chunk())])
        await watched.completes(7)
        assert watched.translator.usage is not None
        assert watched.translator.usage.output_tokens == 5

    @in_virtual_time
    async def test_the_grace_is_not_cut_short_by_the_total(self) -> None:
        await Watched([(0, WORD), (5, FINISH), (6, usage_chunk())], Timeouts(total_s=5.5)).completes(7)

    @pytest.mark.parametrize("rest", [b"", b'data: {"id"', b'data: {"choices":[]}\n', b"garbage"])
    @pytest.mark.parametrize("end", [None, UpstreamCut("cut"), UpstreamTimeout("silent")])
    @in_virtual_time
    async def test_nothing_is_lost_that_breaks_off_behind_a_whole_answer(self, rest: bytes, end: Coming) -> None:
        watched = Watched([(0, WORD), (1, FINISH), *([(1.2, rest)] if rest else []), (1.5, end)])
        await watched.completes(1.5)
        assert watched.translator.finish_reason == "stop"

    @pytest.mark.parametrize("end", [None, UpstreamCut("cut"), UpstreamTimeout("silent")])
    @in_virtual_time
    async def test_what_breaks_off_before_is_never_a_success(self, end: Coming) -> None:
        watched = Watched([(0, WORD), (1, WORD), (1.5, end)])
        assert isinstance(await watched.run(), UpstreamError)
        assert watched.said.count(b"word") == 2
        assert DONE not in watched.said

    @in_virtual_time
    async def test_an_error_behind_a_whole_answer_is_told(self) -> None:
        error = b'data: {"error":{"message":"overloaded","code":500}}\n\n'
        watched = Watched([(0, WORD), (1, FINISH), (1.1, error)])
        assert isinstance(await watched.run(), UpstreamError)
        assert DONE not in watched.said

    @in_virtual_time
    async def test_nothing_is_awaited_of_a_stream_that_failed(self) -> None:
        error = b'data: {"error":{"message":"overloaded","code":500}}\n\n'
        watched = Watched([(0, WORD), (1, WORD + error)])
        assert isinstance(await watched.run(), UpstreamError)
        await watched.relay.close()
        assert watched.after == 1


Step = tuple[int, str]
KINDS = {"word": WORD, "role": ROLE, "comment": COMMENT, "empty": EMPTY, "finish": FINISH, "done": DONE}
steps = st.lists(st.tuples(st.integers(0, 6), st.sampled_from([*KINDS, "word", "comment"])), max_size=12)
LIMITS = Timeouts(first_token_s=9.5, idle_s=5.25, total_s=30.125)


def expected(story: Sequence[Step], end: str) -> tuple[str, float]:
    """How a stream ends and when, said once more and as plainly as can be."""
    now, started, whole_at, last = 0.0, False, None, 0.0
    for gap, kind in [*story, (1, end)]:
        if whole_at is not None:
            due, outcome = whole_at + GRACE_S + 1e-3, "complete"  # a tie is the event's: it comes first
        else:
            late = last + LIMITS.idle_s if started else LIMITS.first_token_s
            due, outcome = min(late, LIMITS.total_s), "timeout"
        if kind == "open" or now + gap > due:
            return outcome, min(due, whole_at + GRACE_S) if whole_at is not None else due
        now += gap
        if kind == "done":
            return ("complete" if whole_at is not None else "failed"), now
        if kind in ("eof", "cut"):
            return ("complete" if whole_at is not None else "failed"), now
        if kind in ("word", "finish"):
            started, last = True, now
        if kind == "finish" and whole_at is None:
            whole_at = now
    raise AssertionError(story)


@given(story=steps, end=st.sampled_from(["eof", "cut", "open"]))
def test_any_story_ends_as_it_must_and_when_it_must(story: list[Step], end: str) -> None:
    async def told() -> tuple[str, float]:
        script: Script = []
        at = 0.0
        for gap, kind in story:
            at += gap
            script.append((at, KINDS[kind]))
        if end != "open":
            script.append((at + 1, None if end == "eof" else UpstreamCut("cut")))
        watched = Watched(script, LIMITS)
        error = await watched.run()
        after = watched.after
        outcome = "complete" if error is None else "timeout" if isinstance(error, UpstreamTimeout) else "failed"
        assert (DONE in watched.said) == (outcome == "complete")
        await watched.relay.close()
        return outcome, after

    outcome, after = run_in_virtual_time(told())
    wanted, when = expected(story, end)
    assert (outcome, round(after, 6)) == (wanted, round(when, 6))
