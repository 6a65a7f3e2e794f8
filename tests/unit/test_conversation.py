"""What a session remembers, and what `/api/chat` takes and gives."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.memory_conversations import MemoryConversations
from llm_gateway.domain.conversation import MOST_BYTES, MOST_TURNS, Conversation
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import InvalidRequest, UpstreamMalformed
from llm_gateway.pipeline.conversations import Conversations, _entry, _packed, _unpacked
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.schemas.simple_chat import SimpleChat, chat_body, read_reply, read_simple_chat

TEXT = st.text(max_size=40)
TURNS = st.lists(st.tuples(TEXT, TEXT), max_size=6)


def size(conversation: Conversation) -> int:
    said = [text for turn in conversation.turns for text in turn]
    return sum(len(text.encode()) for text in (conversation.system or "", *said))


@given(st.lists(st.tuples(st.integers(0, 30_000), st.integers(0, 30_000)), max_size=80), st.integers(0, 500))
def test_the_newest_turns_are_kept_without_a_gap_and_within_bounds(sizes: list[tuple[int, int]], prompt: int) -> None:
    conversation, every = Conversation("s" * prompt), []
    for number, (asked, answered) in enumerate(sizes):
        turn = (f"{number}" + "ä" * (asked // 2), "a" * answered)
        every.append(turn)
        conversation = conversation.with_turn(*turn)
        assert size(conversation) <= MOST_BYTES
        assert len(conversation.turns) <= MOST_TURNS
        assert conversation.turns == tuple(every[len(every) - len(conversation.turns) :])


def test_as_much_is_kept_as_there_is_room_for() -> None:
    conversation = Conversation("12")
    for _ in range(MOST_TURNS + 3):
        conversation = conversation.with_turn("a", "b")
    assert len(conversation.turns) == MOST_TURNS
    half = "x" * (MOST_BYTES // 4)
    conversation = Conversation().with_turn(half, half).with_turn(half, half)
    assert len(conversation.turns) == 2
    assert len(conversation.with_turn("", "").turns) == 3
    assert len(conversation.with_turn("y", "").turns) == 2


def test_a_turn_without_room_takes_those_before_it_along() -> None:
    assert Conversation().with_turn("a", "b").with_turn("long", "x" * MOST_BYTES).turns == ()


def test_a_message_has_room_or_not() -> None:
    prompted = Conversation("1234")
    assert prompted.room_for("x" * (MOST_BYTES - 4))
    assert not prompted.room_for("x" * (MOST_BYTES - 3))
    assert not Conversation().room_for("ä" * (MOST_BYTES // 2 + 1))


@given(st.none() | TEXT, TURNS)
def test_what_is_packed_is_unpacked(system: str | None, turns: list[tuple[str, str]]) -> None:
    conversation = Conversation(system, tuple(turns))
    assert _unpacked(_packed(conversation)) == conversation


def test_a_session_is_its_keys_own() -> None:
    def key(name: str, team: str | None = None, key_id: str = "1") -> VirtualKey:
        return VirtualKey(key_id, name, "hash", team=team)

    assert _entry(key("a"), "s") == _entry(key("a", key_id="rotated"), "s")
    assert len({_entry(key("a"), "s"), _entry(key("b"), "s"), _entry(key("a", "t"), "s"), _entry(key("a"), "t")}) == 4


@given(st.none() | TEXT, TURNS, TEXT.filter(str.strip), st.none() | st.just("fast"))
def test_the_body_is_one_for_chat_completions(
    system: str | None, turns: list[tuple[str, str]], message: str, model: str | None
) -> None:
    request = read_chat_request(chat_body(model, system, turns, message))
    assert request.model == model
    said = [(each["role"], each["content"]) for each in request.fields["messages"]]
    expected = [("system", system)] if system else []
    for asked, answered in turns:
        expected += [("user", asked), ("assistant", answered)]
    assert said == [*expected, ("user", message)]
    assert set(request.fields) == {"messages"} | ({"model"} if model else set())


def test_what_a_caller_may_say() -> None:
    assert read_simple_chat(b'{"message": "Hi"}') == SimpleChat("Hi")
    whole = b'{"message": " Hi ", "system": "", "model": "fast", "session_id": "Ann 7"}'
    assert read_simple_chat(whole) == SimpleChat(" Hi ", "", "fast", "Ann 7")
    nulls = b'{"message": "Hi", "system": null, "model": null, "session_id": null, "stream": null}'
    assert read_simple_chat(nulls) == SimpleChat("Hi")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "message"),
        ({"message": None}, "message"),
        ({"message": ""}, "message"),
        ({"message": " \n"}, "message"),
        ({"message": ["Hi"]}, "message"),
        ({"message": "Hi", "system": 1}, "system"),
        ({"message": "Hi", "model": ""}, "model"),
        ({"message": "Hi", "model": "a\nb"}, "model"),
        ({"message": "Hi", "session_id": ""}, "session_id"),
        ({"message": "Hi", "session_id": " "}, "session_id"),
        ({"message": "Hi", "session_id": "a\x00"}, "session_id"),
        ({"message": "Hi", "session_id": "s" * 129}, "session_id"),
        ({"message": "Hi", "session_id": 7}, "session_id"),
        ({"message": "Hi", "temperature": 0}, "temperature"),
        ({"message": "Hi", "stream": True}, "stream"),
        ({"message": "Hi", "messages": []}, "messages"),
        ({"message": "Hi", "x" * 500: 1}, None),
    ],
)
def test_what_a_caller_may_not_say(body: dict[str, Any], param: str | None) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_simple_chat(orjson.dumps(body))
    assert refused.value.param == param


@pytest.mark.parametrize("body", [b"", b"[]", b'"Hi"', b"{", b'{"message": "\xff"}'])
def test_what_is_no_object(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_simple_chat(body)
    assert refused.value.error_code == "invalid_json"


def test_a_reply_is_what_the_model_said() -> None:
    def reply(message: Any, **more: Any) -> Any:
        return read_reply(
            orjson.dumps({"model": "m", "choices": [{"message": message, "finish_reason": "stop"}], **more})
        )

    assert reply({"content": "Hello"}).text == "Hello"
    assert reply({"content": None, "refusal": "I will not."}).text == "I will not."
    assert reply({"content": None}).text == ""
    assert reply({"content": "x"}, usage={"total_tokens": 3}).usage == {"total_tokens": 3}
    assert reply({"content": "x"}).usage is None


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"{}", b'{"choices": []}', b'{"choices": [{"message": null}]}'])
def test_an_answer_without_a_message_is_no_reply(body: bytes) -> None:
    with pytest.raises(UpstreamMalformed):
        read_reply(body)


async def test_an_empty_reply_frees_its_session_before_it_is_given() -> None:
    store = MemoryConversations()
    warnings: list[str] = []
    stage = Conversations(store, warnings.append)
    turn = stage.turn(VirtualKey("1", "ann", "hash"), "s", "req_1")
    await turn.begin()
    assert "no reply" in (await turn.keep("Hi", "") or "")
    assert [session.running for session in store.sessions.values()] == [False]
