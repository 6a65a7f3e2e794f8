"""Specifies the stage behind `Idempotency-Key`: what is a key, what is the same request, what is kept, and what frees it."""

import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import replace
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.memory import MemoryAnswers
from llm_gateway.domain.catalog import Alias, Catalog, Deployment, Timeouts
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import AnswerClaim, KeptAnswer
from llm_gateway.errors import GatewayError, IdempotencyConflict, IdempotencyKeyReused, InvalidRequest, Unavailable
from llm_gateway.pipeline.call import Answer, Call
from llm_gateway.pipeline.idempotency import (
    LARGEST_BODY,
    LARGEST_KEPT,
    Idempotency,
    IdempotentRun,
    PackedBody,
    fingerprint,
)
from tests.fakes.manual_clock import ManualClock

NOTHING = Catalog({}, {})
ALICE, BOB = (VirtualKey(name, name, "hash") for name in ("alice", "bob"))
CALL = Call("req_1", "chat.completions", b'{"model":"x"}', None, 0.0, idempotency_key="one")
HEADERS = {
    "content-type": "application/json",
    "x-gateway-provider": "corp",
    "x-gateway-cost-usd": "0.5",
    "x-gateway-overhead-ms": "1.00",
    "x-ratelimit-remaining-requests": "7",
}


class Stage:
    """The stage over a store in memory, and what it warned of."""

    def __init__(self) -> None:
        self.store = MemoryAnswers()
        self.clock = ManualClock()
        self.warnings: list[str] = []
        self.pauses: list[float] = []
        self.meanwhile: Callable[[], Awaitable[None]] | None = None
        self.stage = Idempotency(self.store, self.warnings.append, self.clock, self.pause)

    async def pause(self, seconds: float) -> None:
        self.pauses.append(seconds)
        if self.meanwhile is not None:
            await self.meanwhile()

    def run(self, call: Call = CALL, key: VirtualKey = ALICE, catalog: Catalog = NOTHING) -> IdempotentRun:
        return self.stage.run_of(call, key, catalog)

    async def refused(self, call: Call, key: VirtualKey = ALICE) -> GatewayError:
        with pytest.raises((IdempotencyConflict, IdempotencyKeyReused)) as caught:
            await self.run(call, key).begin()
        return caught.value


@pytest.fixture
def stage() -> Stage:
    return Stage()


def again(request_id: str = "req_2", **more: object) -> Call:
    return replace(CALL, request_id=request_id, **more)  # type: ignore[arg-type]


async def blocks_of(*blocks: bytes, fails: Exception | None = None) -> AsyncGenerator[bytes, None]:
    for block in blocks:
        yield block
    if fails is not None:
        raise fails


async def read(answer: Answer | None) -> bytes:
    assert answer is not None
    return answer.body if answer.stream is None else b"".join([block async for block in answer.stream])


# --- What is a key, and what is the same request ----------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", "x" * 256, "ä", "a\tb", "a\x7f", "a\nb", "模型", "\xa0"])
def test_what_is_no_key(stage: Stage, key: str) -> None:
    with pytest.raises(InvalidRequest, match="1 to 255 printable ASCII"):
        stage.run(again(idempotency_key=key))


@given(st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255))
async def test_any_other_is_one(key: str) -> None:
    stage = Stage()
    assert await stage.run(again(idempotency_key=key)).begin() is None


@given(st.binary(), st.binary())
def test_another_body_is_another_request(first: bytes, second: bytes) -> None:
    one, other = (fingerprint(replace(CALL, body=body)) for body in (first, second))
    assert (one == other) == (first == second)


def test_where_it_was_sent_counts_and_who_asked_does_not() -> None:
    assert fingerprint(CALL) == fingerprint(again("req_9", token="sk-rotated", started=5.0))
    others = (again(endpoint="embeddings"), again(path_model="x"), again(path_model="y"))
    assert len({fingerprint(call) for call in (CALL, *others)}) == 4


async def test_keys_of_two_callers_are_two(stage: Stage) -> None:
    assert await stage.run().begin() is None
    assert await stage.run(again(body=b"{}"), BOB).begin() is None


async def test_the_lease_outlasts_the_longest_run(stage: Stage) -> None:
    await stage.run().begin()
    (_, until), *_ = stage.store.entries.values()
    assert until == 1000 + 900 + 120
    patient = Catalog({}, {"slow": Alias("slow", (Deployment("p", "m"),), timeouts=Timeouts(total_s=3600.5))})
    await stage.run(again(idempotency_key="two"), catalog=patient).begin()
    assert max(until for _, until in stage.store.entries.values()) == 1000 + 3600 + 120


# --- What others are told ---------------------------------------------------------------------------------------------


async def test_while_it_runs(stage: Stage) -> None:
    await stage.run().begin()
    error = await stage.refused(again())
    assert (error.http_status, error.error_code) == (409, "idempotency_in_progress")
    assert "req_1" in error.message
    assert error.response_headers() == {"retry-after": "1", "x-gateway-original-request-id": "req_1"}


async def test_one_that_is_just_being_kept_is_waited_for(stage: Stage) -> None:
    """The caller has its last byte before the store has the answer: asking in that moment is no 409."""
    run = stage.run()
    await run.begin()
    run.keep(Answer(HEADERS, b"{}"))
    stage.meanwhile = run.close
    assert await read(await stage.run(again()).begin()) == b"{}"
    assert stage.pauses == [0.1]


async def test_one_that_has_just_failed_is_waited_for(stage: Stage) -> None:
    run = stage.run()
    await run.begin()
    stage.meanwhile = run.close
    second = stage.run(again())
    assert await second.begin() is None
    assert second.held


async def test_the_wait_is_short_and_only_for_the_same_request(stage: Stage) -> None:
    await stage.run().begin()
    assert not stage.pauses
    await stage.refused(again(body=b"{}"))
    assert not stage.pauses
    await stage.refused(again())
    assert stage.pauses == [0.1, 0.3]


@pytest.mark.parametrize("kept", [False, True])
async def test_another_body_under_the_key(stage: Stage, kept: bool) -> None:
    run = stage.run()
    await run.begin()
    if kept:
        run.keep(Answer(HEADERS, b"{}"))
        await run.close()
    error = await stage.refused(again(body=b'{"model":"y"}'))
    assert (error.http_status, error.error_code) == (422, "idempotency_key_reused")
    assert error.response_headers()["x-gateway-original-request-id"] == "req_1"


async def test_a_whole_answer_is_kept_for_a_day(stage: Stage) -> None:
    run = stage.run()
    await run.begin()
    assert run.held
    assert run.keep(Answer(HEADERS, b'{"id":1}')) == Answer(HEADERS, b'{"id":1}')
    await run.close()
    assert not run.held
    stage.clock.now += 86_399
    other = stage.run(again())
    answer = await other.begin()
    assert answer == Answer(
        {
            "content-type": "application/json",
            "x-gateway-provider": "corp",
            "x-gateway-idempotent-replay": "true",
            "x-gateway-original-request-id": "req_1",
        },
        b'{"id":1}',
    )
    assert (other.replay_of, other.held) == ("req_1", False)
    await other.close()
    stage.clock.now += 1
    assert await stage.run(again("req_3")).begin() is None


async def test_a_stream_is_kept_as_one(stage: Stage) -> None:
    run = stage.run()
    await run.begin()
    blocks = [b"data: 1\n\n", b"data: 2\n\ndata: 3", b"\n\ndata: [DONE]\n\n"]
    sent = run.keep(Answer({"content-type": "text/event-stream; charset=utf-8"}, stream=blocks_of(*blocks)))
    assert sent.stream is not None
    assert [block async for block in sent.stream] == blocks, "what goes out is not held up, nor joined"
    await run.close()
    answer = await stage.run(again()).begin()
    assert answer is not None
    assert answer.stream is not None
    assert await read(answer) == b"".join(blocks)


# --- What frees the entry ---------------------------------------------------------------------------------------------


async def test_a_failure_frees_it(stage: Stage) -> None:
    run = stage.run()
    await run.begin()
    await run.close()
    assert await stage.run(again(body=b"{}")).begin() is None


@pytest.mark.parametrize("how", ["fails", "is left"])
async def test_a_stream_that_did_not_end_frees_it(stage: Stage, how: str) -> None:
    run = stage.run()
    await run.begin()
    fails = ValueError("cut") if how == "fails" else None
    sent = run.keep(Answer({}, stream=blocks_of(b"1", b"2", fails=fails)))
    assert sent.stream is not None
    if how == "fails":
        with pytest.raises(ValueError, match="cut"):
            await read(sent)
    else:
        assert await anext(sent.stream) == b"1"
        await sent.stream.aclose()
    await run.close()
    assert await stage.run(again()).begin() is None


async def test_released_before_its_end_and_then_closed(stage: Stage) -> None:
    """The next try has the entry by then: closing must not take it away."""
    run = stage.run()
    await run.begin()
    await run.release()
    assert not run.held
    assert await stage.run(again()).begin() is None
    await run.close()
    assert (await stage.refused(again("req_3"))).headers == {"x-gateway-original-request-id": "req_2"}


async def test_one_that_was_refused_frees_nothing(stage: Stage) -> None:
    await stage.run().begin()
    run = stage.run(again())
    with pytest.raises(IdempotencyConflict):
        await run.begin()
    await run.close()
    assert (await stage.refused(again("req_3"))).headers == {"x-gateway-original-request-id": "req_1"}


class Away(MemoryAnswers):
    """Does what it is asked, and then does not answer, where `begins` or `finishes` says so."""

    def __init__(self, *, begins: bool = True, finishes: bool = True) -> None:
        super().__init__()
        self._begins = begins
        self._finishes = finishes

    async def begin(self, claim: AnswerClaim) -> None:
        await super().begin(claim)
        if not self._begins:
            raise Unavailable("away")

    async def finish(self, claim: AnswerClaim, answer: KeptAnswer | None, until: int) -> bool:
        if not self._finishes:
            raise Unavailable("away")
        return await super().finish(claim, answer, until)


async def test_without_the_store_nothing_runs(stage: Stage) -> None:
    store = Away(begins=False)
    run = Idempotency(store, stage.warnings.append, stage.clock).run_of(CALL, ALICE, NOTHING)
    with pytest.raises(Unavailable, match="not sent") as caught:
        await run.begin()
    assert caught.value.http_status == 503
    assert store.entries, "the entry may have been written"
    await run.close()
    assert not store.entries


async def test_an_answer_that_cannot_be_stored_frees_it(stage: Stage) -> None:
    store = Away(finishes=False)
    run = Idempotency(store, stage.warnings.append, stage.clock).run_of(CALL, ALICE, NOTHING)
    await run.begin()
    run.keep(Answer(HEADERS, b"{}"))
    await run.close()
    assert not store.entries
    (warning,) = stage.warnings
    assert "req_1" in warning


async def test_an_answer_after_its_lease_is_not_kept(stage: Stage) -> None:
    run = stage.run()
    await run.begin()
    stage.clock.now += 1020
    assert await stage.run(again()).begin() is None
    run.keep(Answer(HEADERS, b"{}"))
    await run.close()
    (warning,) = stage.warnings
    assert "req_1" in warning
    assert (await stage.refused(again("req_3"))).headers["x-gateway-original-request-id"] == "req_2"


# --- Size -------------------------------------------------------------------------------------------------------------


def test_a_body_is_packed_as_it_passes() -> None:
    chunk = b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":" word"}}]}\n\n'
    body = PackedBody()
    for _ in range(5000):
        body.add(chunk)
    packed = body.packed()
    assert packed is not None
    assert len(packed) < 20_000
    assert zlib.decompress(packed) == chunk * 5000


@pytest.mark.parametrize("content", ["does not shrink", "shrinks"])
def test_a_body_past_the_bound_is_given_up(content: str) -> None:
    block = Random(1).randbytes(1 << 16) if content == "does not shrink" else bytes(1 << 16)  # noqa: S311 - noise
    bound = LARGEST_KEPT if content == "does not shrink" else LARGEST_BODY
    body = PackedBody()
    for _ in range(bound // len(block) + 2):
        body.add(block)
    assert body.packed() is None
    assert not body._pieces, "what is not kept takes no memory"


@pytest.mark.parametrize("stream", [False, True])
async def test_one_that_is_too_large_is_told_so(stage: Stage, stream: bool) -> None:
    noise = Random(1).randbytes(LARGEST_KEPT)  # noqa: S311 - noise
    run = stage.run()
    await run.begin()
    sent = run.keep(Answer({}, stream=blocks_of(noise)) if stream else Answer({}, noise))
    assert await read(sent) == noise
    await run.close()
    error = await stage.refused(again())
    assert (error.http_status, error.error_code) == (409, "idempotency_answer_too_large")
    assert "req_1" in error.message
    assert error.response_headers() == {"x-gateway-original-request-id": "req_1", "x-should-retry": "false"}
