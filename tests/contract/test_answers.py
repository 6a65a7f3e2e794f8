"""The contract of `ports.AnswerStore`: of all who claim an idempotency key one gets it, and what it leaves is found."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.memory import MemoryAnswers
from llm_gateway.domain.ports import (
    AnswerClaim,
    AnswerEntry,
    AnswerStore,
    HttpClient,
    HttpRequest,
    HttpResponse,
    KeptAnswer,
)
from llm_gateway.errors import InternalFailure, Unavailable, UpstreamCut
from llm_gateway.pipeline.idempotency import LARGEST_KEPT
from tests.contract.conftest import CREDENTIALS, AwsClients, client_and_table, create_ledger_table, engine_url

AT = 1_770_000_000
UNTIL = AT + 1020
DAY = 86_400
ANSWER = KeptAnswer(
    {"content-type": "application/json", "x-gateway-model": "größe"}, b"\x78\x01\x00\xff" * 9, stream=False
)


@pytest.fixture
async def answers(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> AnswerStore:
    """An empty store on each engine."""
    if engine == "memory":
        return MemoryAnswers()
    return DynamoDBAnswers(*await client_and_table(request, engine, aws))


def claim(owner: str = "req_1", **more: object) -> AnswerClaim:
    return replace(AnswerClaim("key#one", owner, "print", AT, UNTIL), **more)  # type: ignore[arg-type]


async def test_the_first_runs_and_others_see_it(answers: AnswerStore) -> None:
    assert await answers.begin(claim()) is None
    running = AnswerEntry("req_1", "print", "running")
    assert await answers.begin(claim("req_2")) == running
    assert await answers.begin(claim("req_3", fingerprint="another")) == running


async def test_begun_twice_is_begun_once(answers: AnswerStore) -> None:
    assert await answers.begin(claim()) is None
    assert await answers.begin(claim()) is None
    assert await answers.begin(claim("req_2")) is not None


async def test_keys_are_apart(answers: AnswerStore) -> None:
    for entry in ("key#one", "key#ONE", "key#one ", "other#one", "key#one#", "ключ"):
        assert await answers.begin(claim(f"req_{entry}", entry=entry)) is None


@pytest.mark.parametrize("stream", [False, True])
async def test_a_finished_answer_is_found(answers: AnswerStore, stream: bool) -> None:
    answer = replace(ANSWER, stream=stream)
    await answers.begin(claim())
    assert await answers.finish(claim(), answer, AT + DAY) is True
    assert await answers.begin(claim("req_2", at=AT + DAY - 1)) == AnswerEntry("req_1", "print", "kept", answer)
    assert await answers.begin(claim("req_3", at=AT + DAY, until=AT + DAY + 9)) is None


async def test_one_that_is_too_large_is_remembered_without_its_answer(answers: AnswerStore) -> None:
    await answers.begin(claim())
    assert await answers.finish(claim(), None, AT + DAY) is True
    assert await answers.begin(claim("req_2", at=UNTIL + 1)) == AnswerEntry("req_1", "print", "too_large")


async def test_finished_twice_is_finished_once(answers: AnswerStore) -> None:
    await answers.begin(claim())
    assert await answers.finish(claim(), ANSWER, AT + DAY) is True
    assert await answers.finish(claim(), ANSWER, AT + DAY) is True
    assert await answers.begin(claim("req_2")) == AnswerEntry("req_1", "print", "kept", ANSWER)


async def test_a_released_entry_is_free_at_once(answers: AnswerStore) -> None:
    await answers.begin(claim())
    await answers.release(claim())
    await answers.release(claim())
    assert await answers.begin(claim("req_2", fingerprint="another")) is None
    assert await answers.begin(claim("req_3")) == AnswerEntry("req_2", "another", "running")


async def test_a_begin_that_comes_late_takes_nothing(answers: AnswerStore) -> None:
    """The attempt that was thought lost arrives when its request is over, or was given up before it was heard of."""
    await answers.begin(claim())
    await answers.release(claim())
    with pytest.raises(InternalFailure):
        await answers.begin(claim())
    assert await answers.begin(claim("req_2")) is None

    unheard = claim("req_3", entry="key#two")
    await answers.release(unheard)
    with pytest.raises(InternalFailure):
        await answers.begin(unheard)
    assert await answers.begin(claim("req_4", entry="key#two")) is None


async def test_a_late_begin_leaves_what_was_kept(answers: AnswerStore) -> None:
    await answers.begin(claim())
    await answers.finish(claim(), ANSWER, AT + DAY)
    kept = AnswerEntry("req_1", "print", "kept", ANSWER)
    assert await answers.begin(claim()) == kept
    assert await answers.begin(claim("req_2")) == kept


async def test_release_leaves_what_is_finished(answers: AnswerStore) -> None:
    await answers.begin(claim())
    await answers.finish(claim(), ANSWER, AT + DAY)
    await answers.release(claim())
    assert await answers.begin(claim("req_2")) == AnswerEntry("req_1", "print", "kept", ANSWER)


async def test_a_dead_owner_holds_until_its_time_is_up(answers: AnswerStore) -> None:
    await answers.begin(claim())
    assert await answers.begin(claim("req_2", at=UNTIL - 1)) is not None
    heir = claim("req_3", at=UNTIL, until=UNTIL + 1020)
    assert await answers.begin(heir) is None
    # The first was not dead, only slow: it changes nothing any more.
    assert await answers.finish(claim(), ANSWER, UNTIL + DAY) is False
    await answers.release(claim())
    assert await answers.begin(claim("req_4", at=UNTIL + 1)) == AnswerEntry("req_3", "print", "running")
    assert await answers.finish(heir, ANSWER, UNTIL + DAY) is True


async def test_a_slow_owner_whose_place_nobody_took_may_finish(answers: AnswerStore) -> None:
    await answers.begin(claim())
    assert await answers.finish(claim(), ANSWER, UNTIL + DAY) is True
    assert await answers.begin(claim("req_2", at=UNTIL + 5)) == AnswerEntry("req_1", "print", "kept", ANSWER)


async def test_finished_without_begin_keeps_nothing(answers: AnswerStore) -> None:
    assert await answers.finish(claim(), ANSWER, AT + DAY) is False
    assert await answers.begin(claim("req_2")) is None


@pytest.mark.parametrize("before", ["nothing", "released", "dead", "expired"])
async def test_of_fifty_one_runs(answers: AnswerStore, before: str) -> None:
    at = AT
    if before != "nothing":
        await answers.begin(claim("req_before"))
    if before == "released":
        await answers.release(claim("req_before"))
    elif before == "expired":
        await answers.finish(claim("req_before"), ANSWER, UNTIL)
    if before in ("dead", "expired"):
        at = UNTIL
    rivals = [claim(f"req_{number}", at=at, until=at + 1020) for number in range(50)]
    seen = await asyncio.gather(*(answers.begin(rival) for rival in rivals))
    assert seen.count(None) == 1
    winner = rivals[seen.index(None)]
    assert all(entry is None or (entry.owner, entry.state) == (winner.owner, "running") for entry in seen)


async def test_the_largest_answer_fits(answers: AnswerStore) -> None:
    """An item of DynamoDB holds 400 KB; what stands around the answer has its room."""
    largest = replace(ANSWER, packed=b"\xff" * LARGEST_KEPT)
    long = claim(entry=f"{'k' * 24}#{'i' * 255}", owner="req_" + "0" * 32, fingerprint="f" * 64)
    await answers.begin(long)
    assert await answers.finish(long, largest, AT + DAY) is True
    found = await answers.begin(replace(long, owner="req_2"))
    assert found is not None
    assert found.answer == largest


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    key=st.text(st.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=255),
    packed=st.binary(min_size=1, max_size=300),
    headers=st.dictionaries(st.from_regex(r"[a-z][a-z-]{0,20}", fullmatch=True), st.text(max_size=20), max_size=4),
    stream=st.booleans(),
)
async def test_any_answer_under_any_key(
    answers: AnswerStore, key: str, packed: bytes, headers: dict[str, str], stream: bool
) -> None:
    mine = claim(entry=f"{uuid4()}#{key}")
    answer = KeptAnswer(headers, packed, stream)
    assert await answers.begin(mine) is None
    assert await answers.finish(mine, answer, AT + DAY) is True
    assert await answers.begin(replace(mine, owner="req_2")) == AnswerEntry("req_1", "print", "kept", answer)


class LosesAnswers:
    """Carries every call out, and loses the answers of the first `lost`: the store did it, and nobody heard."""

    def __init__(self, http: HttpClient, lost: int) -> None:
        self._http = http
        self._lost = lost

    async def send(self, request: HttpRequest) -> HttpResponse:
        response = await self._http.send(request)
        if self._lost:
            self._lost -= 1
            await response.read(1 << 20)
            await response.close()
            raise UpstreamCut("lost")
        return response

    async def close(self) -> None:
        await self._http.close()


@pytest.mark.parametrize("engine", ["moto", pytest.param("dynamodb-local", marks=pytest.mark.dynamodb_local)])
async def test_lost_answers_do_no_harm(
    request: pytest.FixtureRequest, engine: str, aws: AwsClients, http: HttpClient
) -> None:
    url = engine_url(request, engine)
    table = await create_ledger_table(aws(url))
    lossy = LosesAnswers(http, 0)
    store = DynamoDBAnswers(
        AwsJsonClient(
            lossy, service="dynamodb", region="us-east-1", credentials=CREDENTIALS, endpoint_url=url, timeout_s=20.0
        ),
        table,
    )
    for lost in (1, 2):
        mine = claim(entry=f"key#{lost}")
        lossy._lost = lost
        assert await store.begin(mine) is None
        lossy._lost = lost
        assert await store.finish(mine, ANSWER, AT + DAY) is True
        assert await store.begin(replace(mine, owner="req_2")) == AnswerEntry("req_1", "print", "kept", ANSWER)
        other = claim(entry=f"key#other#{lost}")
        await store.begin(other)
        lossy._lost = lost
        await store.release(other)
        assert await store.begin(replace(other, owner="req_2")) is None
    lossy._lost = 3
    unheard = claim(entry="key#unheard")
    with pytest.raises(Unavailable):
        await store.begin(unheard)
    assert await store.begin(replace(unheard, owner="req_2")) is not None, "it was written all the same"
    await store.release(unheard)
    assert await store.begin(replace(unheard, owner="req_3")) is None


@pytest.mark.dynamodb_local
async def test_two_calls_and_two_write_units_a_request(real_dynamodb: AwsJsonClient) -> None:
    store = DynamoDBAnswers(real_dynamodb, await create_ledger_table(real_dynamodb))
    real_dynamodb.calls.clear()
    real_dynamodb.capacity.clear()
    await store.begin(claim())
    await store.finish(claim(), replace(ANSWER, packed=b"x" * 600), AT + DAY)
    assert real_dynamodb.calls == {"PutItem": 2}
    assert real_dynamodb.capacity == {"PutItem": 2.0}
