"""Specifies what a provider's secret may hold, and how secrets are named."""

import json
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.pipeline.key_secret import KeyText, UnreadableKeys, read_keys, team_secret_name

ACCOUNT = {"type": "service_account", "client_email": "a@b", "private_key": "-----BEGIN…"}


def read(document: object, *, credential_files: bool = False) -> list[KeyText]:
    text = document if isinstance(document, str) else json.dumps(document)
    return list(read_keys(text, credential_files=credential_files))


def test_a_bare_key_has_no_name() -> None:
    assert read("sk-one") == [KeyText("sk-one")]


def test_several_by_weight_and_name() -> None:
    given_keys = [{"key": "sk-1", "weight": 3, "name": "a"}, {"key": " sk-2\n"}, "sk-3"]
    assert read({"keys": given_keys}) == [KeyText("sk-1", "a", 3), KeyText("sk-2", "2"), KeyText("sk-3", "3")]


def test_a_credential_file_is_one_key() -> None:
    assert read(ACCOUNT, credential_files=True) == [KeyText(json.dumps(ACCOUNT))]


def test_several_credential_files() -> None:
    found = read({"keys": [{"key": ACCOUNT, "name": "eu"}, json.dumps({**ACCOUNT, "x": 1})]}, credential_files=True)
    assert [(key.name, json.loads(key.text)) for key in found] == [("eu", ACCOUNT), ("2", {**ACCOUNT, "x": 1})]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ('{"keys": [', "begins like JSON"),
        ("{}", "is empty"),
        (ACCOUNT, 'not {"keys"'),
        ({"keys": ["sk-secret"], "more": 1}, 'not {"keys"'),
        ({"keys": []}, "list of 1 to 100"),
        ({"keys": "sk-secret"}, "list of 1 to 100"),
        ({"keys": {"a": "sk-secret"}}, "list of 1 to 100"),
        ({"keys": [{"weight": 3}]}, "number 1 of the `keys` has no `key`"),
        ({"keys": ["sk-1", ""]}, "number 2 of the `keys` has no `key`"),
        ({"keys": [{"key": {"type": "x"}}]}, "number 1 of the `keys` has no `key`"),
        ({"keys": [{"key": "sk secret"}]}, "no header can carry"),
        ({"keys": [{"key": "sk-1", "wieght": 2}]}, "have `key`, `weight` and `name` only"),
        ({"keys": [{"key": "sk-1", "weight": 0}]}, "whole number, 1 to 1000"),
        ({"keys": [{"key": "sk-1", "weight": True}]}, "whole number, 1 to 1000"),
        ({"keys": [{"key": "sk-1", "weight": 1.5}]}, "whole number, 1 to 1000"),
        ({"keys": [{"key": "sk-1", "name": ""}]}, "1 to 40 characters"),
        ({"keys": [{"key": "sk-secret", "name": "sk-secret"}]}, "names are written to logs"),
        ({"keys": [{"key": "sk-1", "name": "a"}, {"key": "sk-2", "name": "a"}]}, "the same `name`"),
        ({"keys": ["sk-1", "sk-1"]}, "the same key"),
    ],
)
def test_what_is_not_readable_is_said_without_quoting_it(document: object, said: str) -> None:
    with pytest.raises(UnreadableKeys) as caught:
        read(document)
    assert said in str(caught.value)
    assert "sk-secret" not in str(caught.value)


@given(st.text())
def test_any_text_is_a_key_or_refused(text: str) -> None:
    try:
        assert read_keys(text, credential_files=False)
    except UnreadableKeys:
        assert text.startswith("{")


def test_a_teams_secret() -> None:
    assert team_secret_name("gw", "search", "openai") == "gw/team/search/openai"
    assert team_secret_name("gw", "Ünit 7/x", "openai") == "gw/team/=C3=9Cnit=207=2Fx/openai"
    assert team_secret_name("gw", "t" * 512, "openai") is None


TEAMS = st.text(min_size=1, max_size=20)
ALLOWED = set(string.ascii_letters + string.digits + "/_+=.@-")


@given(TEAMS, TEAMS, st.sampled_from(["a", "b"]), st.sampled_from(["a", "b"]))
def test_no_two_teams_share_a_secret(one: str, other: str, first: str, second: str) -> None:
    names = team_secret_name("gw", one, first), team_secret_name("gw", other, second)
    assert (names[0] == names[1]) == ((one, first) == (other, second))
    for name in names:
        assert name is not None
        assert set(name) <= ALLOWED
        assert name.count("/") == 3
