"""Specifies how a vendor's quirks change a request: only what they name, in the caller's own bytes."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.providers import provider_rows
from llm_gateway.dialects.openai_quirks import adapt
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest


def adapted(body: bytes, **quirks: Any) -> tuple[bytes, tuple[str, ...]]:
    return adapt(body, json.loads(body), Provider("corp", "openai_chat", "https://x", quirks=Quirks(**quirks)))


@pytest.mark.parametrize(
    ("name", "unasked", "asked"),
    [
        ("n", 1, 2),
        ("logprobs", False, True),
        ("top_logprobs", 0, 3),
        ("frequency_penalty", 0, 0.1),
        ("presence_penalty", 0.0, -1),
        ("logit_bias", {}, {"1": 5}),
        ("modalities", ["text"], ["text", "audio"]),
        ("parallel_tool_calls", True, False),
        ("tool_choice", "auto", "required"),
        ("store", False, True),
        ("audio", None, {"voice": "alloy"}),
    ],
)
def test_what_happens_anyway_is_not_refused(name: str, unasked: Any, asked: Any) -> None:
    body = json.dumps({name: unasked, "model": "m"}).encode()
    assert adapted(body, refuse=(name,)) == (b'{"model": "m"}', ())
    assert adapted(body, drop=(name,)) == (b'{"model": "m"}', ())
    asking = json.dumps({name: asked, "model": "m"}).encode()
    assert adapted(asking, drop=(name,)) == (b'{"model": "m"}', (f"{name} is not supported by corp and was left out",))
    with pytest.raises(InvalidRequest) as caught:
        adapted(asking, refuse=(name,))
    assert (caught.value.http_status, caught.value.param) == (400, name)


@pytest.mark.parametrize(
    ("body", "wanted"),
    [
        (b'{"max_completion_tokens": 5}', b'{"max_tokens": 5}'),
        (b'{"max_completion_tokens":5,"max_tokens":null}', b'{"max_tokens":5}'),
        (b'{"max_completion_tokens":null,"max_tokens":7}', b'{"max_tokens":7}'),
        (b'{"max_completion_tokens":7,"max_tokens":7}', b'{"max_tokens":7}'),
        (b'{"max_tokens":7}', b'{"max_tokens":7}'),
    ],
)
def test_a_limit_is_not_lost_in_renaming(body: bytes, wanted: bytes) -> None:
    assert adapted(body, rename={"max_completion_tokens": "max_tokens"}) == (wanted, ())


def test_of_two_names_openais_counts() -> None:
    body = b'{"seed":1,"max_completion_tokens":5,"max_tokens":7,"random_seed":1}'
    rename = {"max_completion_tokens": "max_tokens", "seed": "random_seed"}
    changed, warnings = adapted(body, rename=rename)
    assert changed == b'{"random_seed":1,"max_tokens":5}'
    assert warnings == ("max_tokens was left out: max_completion_tokens says otherwise",)


def test_instructions_of_a_developer_go_as_those_of_the_system() -> None:
    body = b'{"messages":[{"content":"\\u00e9 \\"role\\":\\"developer\\"","role" : "developer"}, {"role":"user","content":"developer"}],"big":12345678901234567890}'
    changed, warnings = adapted(body, developer_role=False)
    assert json.loads(changed)["messages"][0] == {"content": 'é "role":"developer"', "role": "system"}
    assert json.loads(changed)["messages"][1] == {"role": "user", "content": "developer"}
    assert b'{"content":"\\u00e9 \\"role\\":\\"developer\\"","role" : "system"}' in changed
    assert changed.endswith(b'"big":12345678901234567890}')
    assert warnings == ()


def test_members_of_messages_are_left_out_with_one_warning() -> None:
    body = b'{"messages":[{"role":"user","name":"Ann","content":"1"},{"role":"user","name":"Bob","content":"name"}]}'
    changed, warnings = adapted(body, drop_from_messages=("name", "reasoning_content"))
    assert changed == b'{"messages":[{"role":"user","content":"1"},{"role":"user","content":"name"}]}'
    assert warnings == ("name of messages is not supported by corp and was left out",)


def test_a_null_in_a_message_is_left_out_without_a_word() -> None:
    changed, warnings = adapted(b'{"messages":[{"role":"user","name":null}]}', drop_from_messages=("name",))
    assert (changed, warnings) == (b'{"messages":[{"role":"user"}]}', ())


def test_the_nulls_of_a_clients_model_go_where_messages_are_closed_and_nowhere_else() -> None:
    body = b'{"messages":[{"role":"assistant","content":null,"refusal":null,"tool_calls":[{"id":"a","x":null}]}]}'
    changed, warnings = adapted(body, drop_from_messages=("reasoning_content",))
    assert changed == b'{"messages":[{"role":"assistant","content":null,"tool_calls":[{"id":"a","x":null}]}]}'
    assert warnings == ()
    assert adapted(body, developer_role=False) == (body, ())


def test_a_member_may_be_refused_of_one_role_alone() -> None:
    body = b'{"messages":[{"role":"developer","name":"a"},{"role":"tool","name":"f"}]}'
    changed, warnings = adapted(body, drop_from_messages=("system.name",), developer_role=False)
    assert changed == b'{"messages":[{"role":"system"},{"role":"tool","name":"f"}]}'
    assert warnings == ("name of messages is not supported by corp and was left out",)


MESSAGES = st.lists(
    st.fixed_dictionaries(
        {"role": st.sampled_from(["user", "system", "assistant", "developer"]), "content": st.text() | st.none()},
        optional={"name": st.text(min_size=1), "reasoning_content": st.text(min_size=1)},
    ),
    min_size=1,
    max_size=5,
)


@given(MESSAGES, st.booleans(), st.booleans())
def test_whatever_the_messages_hold_only_the_named_changes_are_made(
    messages: list[dict[str, Any]], ascii_only: bool, spaced: bool
) -> None:
    separators = (", ", ": ") if spaced else (",", ":")
    body = json.dumps({"a": 1, "messages": messages, "z": [2]}, ensure_ascii=ascii_only, separators=separators)
    changed, _ = adapted(body.encode("utf-8", "surrogatepass"), developer_role=False, drop_from_messages=("name",))
    wanted = [{key: value for key, value in message.items() if key != "name"} for message in messages]
    for message in wanted:
        message["role"] = "system" if message["role"] == "developer" else message["role"]
    assert json.loads(changed) == {"a": 1, "messages": wanted, "z": [2]}


def with_calls(*ids: Any, spaced: bool = False) -> bytes:
    """A turn of calls with these ids, and a result for each."""
    calls = [
        {"id": each, "type": "function", "function": {"name": "id", "arguments": '{"id":"toolu_01ABC"}'}}
        for each in ids
    ]
    results = [{"role": "tool", "tool_call_id": each, "content": "toolu_01ABC"} for each in ids]
    messages = [{"role": "user", "content": "toolu_01ABC"}, {"role": "assistant", "tool_calls": calls}, *results]
    return json.dumps({"messages": messages}, separators=(", ", ": ") if spaced else (",", ":")).encode()


def ids_in(body: bytes) -> tuple[list[Any], list[Any]]:
    messages = json.loads(body)["messages"]
    return [call["id"] for call in messages[1]["tool_calls"]], [each["tool_call_id"] for each in messages[2:]]


@pytest.mark.parametrize(
    "foreign",
    ["toolu_01ABC", "gwcall_r1_0_0", "functions.f:0", "call_" + "a" * 80, "abc", "abcdefghi\n", "ábcdefghi", "\ud800"],
)
@pytest.mark.parametrize("spaced", [True, False])
def test_ids_of_tool_calls_from_elsewhere_go_as_nine_letters_and_digits(foreign: str, spaced: bool) -> None:
    body = with_calls("Own3rsId9", foreign, spaced=spaced)
    changed, warnings = adapted(body, tool_call_ids="alnum9")
    called, answered = ids_in(changed)
    assert called == answered
    assert called[0] == "Own3rsId9"
    assert re.fullmatch("[A-Za-z0-9]{9}", called[1])
    assert warnings == ()
    # Nothing else of the body is another, and the same id is told alike on the next turn.
    restored = changed.replace(called[1].encode(), json.dumps(foreign)[1:-1].encode())
    assert json.loads(restored) == json.loads(body)
    assert spaced or restored == body
    assert ids_in(adapted(with_calls(foreign), tool_call_ids="alnum9")[0])[0] == [called[1]]


def test_an_id_as_a_body_spells_it_is_told_as_the_id_that_it_is() -> None:
    """Names and ids may be written with escapes, and a member may stand twice: the last one counts."""
    body = (
        b'{"messages":[{"role":"assistant","tool_calls":[{"\\u0069d":"to\\u006flu_1","function":{"id":"toolu_1"}},'
        b'{"id":"x","id":"toolu_1"}]},{"role":"tool","tool_call_\\u0069d":"toolu_1","content":"[]"}]}'
    )
    messages = json.loads(adapted(body, tool_call_ids="alnum9")[0])["messages"]
    told = {call["id"] for call in messages[0]["tool_calls"]} | {messages[1]["tool_call_id"]}
    assert len(told) == 1
    assert "toolu_1" not in told
    assert messages[0]["tool_calls"][0]["function"] == {"id": "toolu_1"}


@given(st.lists(st.text(min_size=1), min_size=2, max_size=8, unique=True), st.booleans())
def test_different_ids_stay_different_and_results_find_their_calls(ids: list[str], spaced: bool) -> None:
    called, answered = ids_in(adapted(with_calls(*ids, spaced=spaced), tool_call_ids="alnum9")[0])
    assert called == answered
    assert len(set(called)) == len(ids)
    assert all(re.fullmatch("[A-Za-z0-9]{9}", each) for each in called)


@pytest.mark.parametrize("junk", [None, "", 3, [], {"id": "toolu_01ABC"}, True])
def test_what_is_no_id_is_the_vendors_to_judge(junk: Any) -> None:
    for body in (
        with_calls(junk),
        json.dumps({"messages": [{"role": "assistant", "tool_calls": junk}]}).encode(),
        json.dumps({"messages": [{"role": "assistant", "tool_calls": [junk]}]}).encode()
        if junk != {"id": "toolu_01ABC"}
        else b'{"messages":[]}',
    ):
        assert adapted(body, tool_call_ids="alnum9") == (body, ())


def test_ids_are_left_alone_where_any_will_do() -> None:
    assert adapted(with_calls("toolu_01ABC"), developer_role=False) == (with_calls("toolu_01ABC"), ())
    assert adapted(with_calls("Own3rsId9"), tool_call_ids="alnum9") == (with_calls("Own3rsId9"), ())


def test_embeddings_have_no_messages_to_change() -> None:
    body = b'{"input":["a"],"model":"m"}'
    assert adapted(body, developer_role=False, drop_from_messages=("name",), tool_call_ids="alnum9") == (body, ())


def test_no_row_says_two_things_of_a_member() -> None:
    for row in provider_rows().values():
        named = [*row.quirks.rename, *row.quirks.drop, *row.quirks.refuse]
        assert len(named) == len(set(named)), row.name
