"""Which gateway is meant: options before the environment, and the environment before the one that runs here."""

import json
from pathlib import Path

import pytest

from llm_gateway.cli.failures import BadInput, Unreachable
from llm_gateway.cli.target import Given, Target, environment, find_place, find_target, named, read_root
from llm_gateway.local.embedded_address import lock
from llm_gateway.local.running import ADDRESS_FILE, RUN_LOCK, running_gateway, told_address

URL = "https://gateway.example/prod"


@pytest.mark.parametrize(
    ("text", "root"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000"),
        (
            "https://abc.execute-api.eu-central-1.amazonaws.com/prod/v1/",
            "https://abc.execute-api.eu-central-1.amazonaws.com/prod",
        ),
        ("https://gateway.example/v1/v1", "https://gateway.example/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_an_address_with_or_without_v1(text: str, root: str) -> None:
    assert read_root(text) == root
    assert Target(root, None, "").base_url == f"{root}/v1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "gateway.example",
        "ftp://gateway.example",
        "https://",
        "https://a b",
        "https://gateway.example:port",
        "https://gateway.example:99999",
        "https://me:sk-x@gateway.example",
        "https://gateway.example/?key=sk-x",
        "https://gateway.example/#a",
        "https://gateway.example/\x1b[31m",
        "http://[::1",
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(BadInput):
        read_root(text)


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        (Given(), {}, (None, None)),
        (Given(), {"LLM_GATEWAY_URL": URL}, (URL, None)),
        (Given(), {"LLM_GATEWAY_STACK": "shop"}, (None, "shop")),
        (Given(), {"LLM_GATEWAY_URL": URL, "LLM_GATEWAY_STACK": "shop"}, (URL, None)),
        (Given(), {"LLM_GATEWAY_URL": "", "LLM_GATEWAY_STACK": ""}, (None, None)),
        (Given(stack="shop"), {"LLM_GATEWAY_URL": URL}, (None, "shop")),
        (Given(url=URL), {"LLM_GATEWAY_STACK": "shop"}, (URL, None)),
    ],
)
def test_options_win(given: Given, environ: dict[str, str], expected: tuple[str | None, str | None]) -> None:
    assert named(given, environ) == expected


def test_two_gateways_are_none() -> None:
    with pytest.raises(BadInput, match="two gateways"):
        named(Given(url=URL, stack="shop"), {})


def test_what_stands_behind_the_command_wins() -> None:
    behind, before = Given(key="sk-behind"), Given(url=URL, key="sk-before", json=True)
    assert behind.over(before) == Given(url=URL, key="sk-behind", json=True)


def test_the_key_of_an_address() -> None:
    environ = {"LLM_GATEWAY_KEY": "sk-environment", "GATEWAY_API_KEY": "sk-of-make-run"}
    assert find_target(Given(url=URL, key="sk-option"), environ).key == "sk-option"
    assert find_target(Given(url=URL), environ).key == "sk-environment"
    # That of `make run` is sent nowhere else.
    assert find_target(Given(url=URL), {"GATEWAY_API_KEY": "sk-of-make-run"}).key is None


def test_the_gateway_that_runs_here(tmp_path: Path) -> None:
    given = Given(data=tmp_path)
    with pytest.raises(Unreachable, match="make run"):
        find_target(given, {})
    held = lock(tmp_path / RUN_LOCK)
    assert held is not None
    with held, told_address(tmp_path, "http://127.0.0.1:4711/v1"):
        found = find_target(given, {})
        assert (found.root, found.key) == ("http://127.0.0.1:4711", "sk-local")
        assert find_target(given, {"GATEWAY_API_KEY": "sk-own"}).key == "sk-own"
        assert find_target(Given(data=tmp_path, key="sk-mine"), {"GATEWAY_API_KEY": "sk-own"}).key == "sk-mine"
        assert find_target(Given(), {"LLM_GATEWAY_DATA": str(tmp_path)}) == found
    assert running_gateway(tmp_path) is None
    assert not (tmp_path / ADDRESS_FILE).exists()


def test_a_crash_leaves_an_address_that_nobody_believes(tmp_path: Path) -> None:
    (tmp_path / RUN_LOCK).touch()
    (tmp_path / ADDRESS_FILE).write_text(json.dumps({"base_url": "http://127.0.0.1:4711/v1", "pid": 1}))
    assert running_gateway(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", "{}"])
def test_an_address_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    held = lock(tmp_path / RUN_LOCK)
    assert held is not None
    with held:
        (tmp_path / ADDRESS_FILE).write_text(text)
        assert running_gateway(tmp_path) is None


def test_tables_are_not_those_of_this_machine_where_an_address_was_meant() -> None:
    for given, environ in ((Given(url=URL), {}), (Given(), {"LLM_GATEWAY_URL": URL})):
        with pytest.raises(BadInput, match="name the stack"):
            find_place(given, environ)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, ("https://of.dotenv", "sk-of-dotenv")),
        ({"LLM_GATEWAY_URL": URL}, (URL, "sk-of-dotenv")),
        ({"LLM_GATEWAY_URL": URL, "LLM_GATEWAY_KEY": "sk-own"}, (URL, "sk-own")),
        # The key is for another gateway, and the file may be anybody's.
        ({"LLM_GATEWAY_KEY": "sk-own"}, (None, "sk-own")),
    ],
)
def test_a_key_is_not_sent_to_an_address_that_a_file_names(
    own: dict[str, str], expected: tuple[str | None, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("LLM_GATEWAY_URL=https://of.dotenv\nLLM_GATEWAY_KEY=sk-of-dotenv\n")
    monkeypatch.chdir(tmp_path)
    for name in ("LLM_GATEWAY_URL", "LLM_GATEWAY_KEY"):
        monkeypatch.setenv(name, "")  # so that what the file adds is taken away again
        monkeypatch.delenv(name)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    found = environment()
    assert (found.get("LLM_GATEWAY_URL"), found.get("LLM_GATEWAY_KEY")) == expected
