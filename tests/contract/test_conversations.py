"""The contract of `ConversationStore`: of all who want a session's turn one gets it, and what it leaves is found."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_conversations import DynamoDBConversations
from llm_gateway.adapters.memory_conversations import MemoryConversations
from llm_gateway.domain.conversation import MOST_BYTES, ConversationStore, TurnClaim
from llm_gateway.errors import SessionBusy
from tests.contract.conftest import AwsClients, client_and_table, create_ledger_table

AT = 1_770_000_000
UNTIL = AT + 320
DAY = 86_400
SAID = b"\x78\x01\x00\xff" * 9


@pytest.fixture
async def conversations(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> ConversationStore:
    """An empty store on each engine."""
    if engine == "memory":
        return MemoryConversations()
    return DynamoDBConversations(*await client_and_table(request, engine, aws))


def claim(owner: str = "req_1", **more: object) -> TurnClaim:
    return replace(TurnClaim("key#one", owner, AT, UNTIL), **more)  # type: ignore[arg-type]


async def said(store: ConversationStore, kept: bytes, owner: str, at: int = AT) -> None:
    turn = claim(owner, at=at, until=at + 320)
    await store.begin(turn)
    assert await store.finish(turn, kept, at + DAY) is True


async def test_what_was_said_is_found(conversations: ConversationStore) -> None:
    assert await conversations.begin(claim()) is None
    assert await conversations.finish(claim(), SAID, AT + DAY) is True
    second = claim("req_2", at=AT + 5, until=AT + 325)
    assert await conversations.begin(second) == SAID
    assert await conversations.finish(second, SAID * 2, AT + 5 + DAY) is True
    assert await conversations.begin(claim("req_3", at=AT + 9)) == SAID * 2


async def test_a_running_turn_keeps_others_out(conversations: ConversationStore) -> None:
    await said(conversations, SAID, "req_0")
    assert await conversations.begin(claim()) == SAID
    for number in range(3):
        with pytest.raises(SessionBusy):
            await conversations.begin(claim(f"req_other_{number}"))
    assert await conversations.finish(claim(), SAID * 2, AT + DAY) is True
    assert await conversations.begin(claim("req_2")) == SAID * 2


async def test_begun_and_finished_twice_is_once(conversations: ConversationStore) -> None:
    assert await conversations.begin(claim()) is None
    assert await conversations.begin(claim()) is None
    assert await conversations.finish(claim(), SAID, AT + DAY) is True
    assert await conversations.finish(claim(), SAID, AT + DAY) is True
    assert await conversations.begin(claim("req_2")) == SAID


async def test_a_released_turn_leaves_what_was_said_before(conversations: ConversationStore) -> None:
    await said(conversations, SAID, "req_0")
    await conversations.begin(claim())
    await conversations.release(claim())
    await conversations.release(claim())
    assert await conversations.begin(claim("req_2")) == SAID


async def test_a_begin_that_comes_late_takes_nothing(conversations: ConversationStore) -> None:
    """The attempt that was thought lost arrives when its request is over, or was given up before it was heard of."""
    for end in (conversations.release, lambda turn: conversations.finish(turn, SAID, AT + DAY)):
        turn = claim(f"req_{uuid4()}")
        await conversations.begin(turn)
        await end(turn)
        with pytest.raises(SessionBusy):
            await conversations.begin(turn)
        other = claim(f"req_{uuid4()}")
        await conversations.begin(other)
        await conversations.release(other)
    unheard = claim("req_3", entry="key#two")
    await conversations.release(unheard)
    with pytest.raises(SessionBusy):
        await conversations.begin(unheard)
    assert await conversations.begin(claim("req_4", entry="key#two")) is None


async def test_a_dead_turn_holds_until_its_time_is_up(conversations: ConversationStore) -> None:
    await said(conversations, SAID, "req_0")
    await conversations.begin(claim())
    with pytest.raises(SessionBusy):
        await conversations.begin(claim("req_2", at=UNTIL - 1))
    heir = claim("req_3", at=UNTIL, until=UNTIL + 320)
    assert await conversations.begin(heir) == SAID, "what was said before it is not lost with it"
    # The first was not dead, only slow: it changes nothing any more.
    assert await conversations.finish(claim(), b"late", UNTIL + DAY) is False
    await conversations.release(claim())
    with pytest.raises(SessionBusy):
        await conversations.begin(claim("req_4", at=UNTIL + 1))
    assert await conversations.finish(heir, SAID * 2, UNTIL + DAY) is True


async def test_a_conversation_ends_a_day_after_its_last_turn(conversations: ConversationStore) -> None:
    await said(conversations, SAID, "req_0")
    last = claim("req_1", at=AT + DAY - 1, until=AT + DAY + 319)
    assert await conversations.begin(last) == SAID
    await conversations.release(last)
    # DynamoDB clears items away days later: what is over is over before that, and a failed turn does not prolong it.
    assert await conversations.begin(claim("req_2", at=AT + DAY, until=AT + DAY + 320)) is None


async def test_sessions_are_apart(conversations: ConversationStore) -> None:
    for entry in ("key#one", "key#ONE", "key#one ", "other#one", "key#one#", "ключ#🙂"):
        turn = claim(f"req_{entry}", entry=entry)
        assert await conversations.begin(turn) is None
        assert await conversations.finish(turn, entry.encode(), AT + DAY) is True
    assert await conversations.begin(claim("req_again")) == b"key#one"


@pytest.mark.hears_every_answer
@pytest.mark.parametrize("before", ["nothing", "released", "dead", "said"])
async def test_of_fifty_one_gets_the_turn(conversations: ConversationStore, before: str) -> None:
    first, at = claim("req_before"), AT
    if before != "nothing":
        await conversations.begin(first)
    if before == "released":
        await conversations.release(first)
    elif before == "said":
        await conversations.finish(first, SAID, AT + DAY)
    elif before == "dead":
        at = UNTIL
    rivals = [claim(f"req_{number}", at=at, until=at + 320) for number in range(50)]
    seen = await asyncio.gather(*(conversations.begin(rival) for rival in rivals), return_exceptions=True)
    assert sum(isinstance(each, SessionBusy) for each in seen) == 49
    assert [each for each in seen if not isinstance(each, SessionBusy)] == [SAID if before == "said" else None]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(session=st.text(min_size=1, max_size=128), kept=st.binary(min_size=1, max_size=300))
async def test_any_conversation_under_any_name(conversations: ConversationStore, session: str, kept: bytes) -> None:
    session = session.encode("utf-8", "replace").decode()
    mine = claim(f"req_{uuid4()}", entry=f"{uuid4()}#{session}")
    assert await conversations.begin(mine) is None
    assert await conversations.finish(mine, kept, AT + DAY) is True
    assert await conversations.begin(replace(mine, owner="req_2")) == kept


@pytest.mark.dynamodb_local
async def test_two_calls_a_turn_and_a_unit_for_each_kb(real_dynamodb: AwsJsonClient) -> None:
    store = DynamoDBConversations(real_dynamodb, await create_ledger_table(real_dynamodb))
    largest = b"\xff" * MOST_BYTES
    for number, (kept, units) in enumerate(((b"x" * 600, 2.0), (b"x" * 600, 2.0), (largest, 66.0), (largest, 130.0))):
        real_dynamodb.calls.clear()
        real_dynamodb.capacity.clear()
        turn = claim(f"req_{number}")
        await store.begin(turn)
        await store.finish(turn, kept, AT + DAY)
        assert real_dynamodb.calls == {"UpdateItem": 2}
        assert real_dynamodb.capacity["UpdateItem"] == pytest.approx(units, abs=2)
