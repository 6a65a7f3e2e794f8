"""Every command as a process, against `llm-gateway run`: on a terminal, in a pipe, and where the input is wrong."""

import csv
import io
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest
from typer.testing import CliRunner

from llm_gateway.cli.app import app
from tests.fakes.cli_process import Cli
from tests.fakes.gateway_process import GatewayProcess

CONFIG = """
[models.fast]
deployments = [{ provider = "echo", model = "demo" }]

[prices."echo:demo"]
input = "1.00"
output = "2.00"

[providers.away]
dialect = "openai_chat"
base_url = "http://127.0.0.1:9/v1"
credential = "none"

[teams.search]
description = "The search box"
budget = { usd = "50", period = "month" }
limits = { rpm = 600 }

[keys.search-prod]
team = "search"
key = "sk-search-prod-for-local-use"
models = ["fast"]

[keys.over]
key = "sk-over-since-years-for-local-use"
expires_at = 2020-01-01T00:00:00Z
"""
CALLER = "sk-search-prod-for-local-use"
ESCAPE = "\x1b["
COLOUR = re.compile(r"\x1b\[[0-9;]*3[0-9]")
"""Bold is none: https://no-color.org"""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("cli"), environ=bare_environ, config=CONFIG).start()
    try:
        for key, tag in (("sk-local", "a"), (CALLER, "b"), (CALLER, "\x1b[31mred")):
            call(process, key, tag)
        yield process
        assert process.stop() == 0
        assert not (process.data / "gateway.json").exists()
    finally:
        process.clean_up()


def call(gateway: GatewayProcess, key: str, user: str) -> str:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hello there"}], "user": user}
    answer = httpx.post(
        f"{gateway.base_url}/chat/completions", json=body, headers={"authorization": f"Bearer {key}"}, timeout=20
    )
    assert answer.status_code == 200, answer.text
    return answer.headers["x-request-id"]


@pytest.fixture(scope="module")
def cli(served: GatewayProcess, bare_environ: dict[str, str]) -> Cli:
    """Where `make run` runs: without options it is that gateway."""
    return Cli(served.directory, bare_environ)


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Cli:
    """Where nothing runs."""
    return Cli(tmp_path_factory.mktemp("elsewhere"), bare_environ)


def given(done: Any) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


# --- Every command that reads, in a pipe, on a terminal, and as JSON ----------------------------------------------

READING = {
    "models": ("models",),
    "models like that": ("models", "FAST", "--aliases"),
    "providers": ("providers", "list", "--ready"),
    "a provider": ("providers", "show", "away"),
    "a provider's test": ("providers", "test", "echo"),
    "teams": ("teams", "list"),
    "a team": ("teams", "show", "search"),
    "keys by tables": ("keys", "list"),
    "keys by the gateway": ("keys", "list", "--key", "sk-local"),
    "usage": ("usage",),
    "usage by two": ("usage", "--by", "model,team"),
    "requests": ("requests", "tail", "-n", "2"),
    "prices": ("prices", "echo:demo"),
}


@pytest.mark.parametrize("arguments", READING.values(), ids=READING.keys())
def test_in_a_pipe_it_is_plain_text(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli.run(*arguments)
    assert (done.code, done.err) == (0, ""), done.err
    assert "\x1b" not in done.out
    header, *rows = done.out.splitlines()
    assert header == header.upper()
    assert rows


@pytest.mark.parametrize("arguments", READING.values(), ids=READING.keys())
def test_on_a_terminal_it_fits(cli: Cli, arguments: tuple[str, ...]) -> None:
    done = cli.on_terminal(*arguments)
    assert done.code == 0, done.out
    assert ESCAPE in done.out
    assert max(map(len, re.sub(r"\x1b\[[0-9;]*m", "", done.out).splitlines())) <= 130


def test_colours_can_be_switched_off(elsewhere: Cli, served: GatewayProcess) -> None:
    file = elsewhere.directory / "gateway.toml"
    file.write_text(CONFIG + "[teams.new]\n")
    command = ("apply", str(file), "--dry-run", "--url", served.base_url, "--key", "sk-local")
    done = elsewhere.on_terminal(*command)
    assert COLOUR.search(done.out)
    for plain in (
        elsewhere.on_terminal("--no-color", *command),
        elsewhere.on_terminal(*command, environ={"NO_COLOR": "1"}),
        elsewhere.run(*command),
    ):
        assert plain.code == done.code == 2
        assert not COLOUR.search(plain.out)
        assert words(plain.out) == words(done.out)


def words(text: str) -> list[str]:
    return re.sub(r"\x1b\[[0-9;]*m", "", text).split()


@pytest.mark.parametrize("arguments", READING.values(), ids=READING.keys())
def test_as_json_it_is_for_programs(
    cli: Cli, served: GatewayProcess, arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In this process, which is quicker: what differs from the others is in the command alone."""
    monkeypatch.chdir(served.directory)
    nothing_named = dict.fromkeys(("LLM_GATEWAY_URL", "LLM_GATEWAY_KEY", "LLM_GATEWAY_STACK", "AWS_ENDPOINT_URL"))
    done = CliRunner().invoke(app, ["--json", *arguments], env=nothing_named)
    assert (done.exit_code, done.stderr) == (0, "")
    documents = done.stdout.splitlines() if arguments[0] == "requests" else [done.stdout]
    assert documents
    for each in documents:
        assert isinstance(json.loads(each), dict)


def test_json_on_a_terminal_has_no_colours(cli: Cli) -> None:
    assert "\x1b" not in cli.on_terminal("requests", "tail", "--json").out


def test_models_are_those_of_the_key(cli: Cli) -> None:
    assert [each["id"] for each in given(cli.run("models", "--json", "--key", CALLER))["data"]] == ["fast"]
    assert "fast" in [each["id"] for each in given(cli.run("models", "--json"))["data"]]
    assert cli.run("models", "--provider", "openai").err.startswith("none of the ")


def test_usage_adds_up(cli: Cli, served: GatewayProcess) -> None:
    rows = given(cli.run("usage", "--by", "team", "--json", "--where", "model=demo"))["data"]
    found = {row["team"]: (row["calls"], Decimal(row["cost_usd"])) for row in rows}
    assert found[None][0] >= 1
    assert found["search"][0] >= 2
    assert found["search"][1] > 0
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    table = cli.run("usage", "--by", "team", "--from", today, "--to", today).out.splitlines()
    assert table[0].split() == ["TEAM", "CALLS", "ERRORS", "INPUT", "OUTPUT", "COST", "$"]
    assert table[-1].startswith("total")
    longest = max(table[1:-1], key=lambda line: line.count("█"))
    assert longest.count("█") == 24
    text = cli.run("usage", "--by", "team,model", "--csv")
    assert text.code == 0
    read = list(csv.DictReader(io.StringIO(text.out)))
    assert {row["team"] for row in read} == {"", "search"}
    assert sum(Decimal(row["cost_usd"]) for row in read) == sum(cost for _, cost in found.values())


def test_bars_where_the_output_is_ascii(cli: Cli) -> None:
    done = cli.run("usage", "--by", "team", environ={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"})
    assert done.code == 0, done.err
    assert "####" in done.out


def test_prices_of_the_operator_win(cli: Cli) -> None:
    (price,) = given(cli.run("prices", "echo:demo", "--json"))["data"]
    assert (price["input"], price["output"], price["from"]) == ("1.00", "2.00", "operator")
    shipped = given(cli.run("prices", "openai:gpt-4.1-mini", "--json", "--offline"))["data"]
    assert [(each["model"], each["from"]) for each in shipped] == [("openai:gpt-4.1-mini", "book")]
    assert Decimal(shipped[0]["input"]) > 0
    unknown = cli.run("prices", "no-such-model")
    assert (unknown.code, unknown.out) == (1, "")
    assert "no price is known of no-such-model" in unknown.line


def test_a_provider_that_does_not_answer_fails_its_test(cli: Cli) -> None:
    done = cli.run("providers", "test", "--json")
    assert done.code == 1, done.err
    results = {each["provider_id"]: each for each in json.loads(done.out)["data"]}
    assert (results["echo"]["ok"], results["away"]["ok"]) == (True, False)
    assert results["away"]["error"]["message"]
    assert cli.run("providers", "test", "echo", "--model", "demo").code == 0
    assert cli.run("providers", "test", "--model", "demo").code == 3
    (without_key,) = json.loads(cli.run("providers", "test", "anthropic", "--json").out)["data"]
    assert without_key["error"]["message"] == "it has no key: llm-gateway secrets set anthropic"


def test_a_request_is_shown_and_what_others_wrote_does_no_harm(cli: Cli) -> None:
    lines = [json.loads(each) for each in cli.run("requests", "tail", "-n", "50", "--json").out.splitlines()]
    assert [each["at"] for each in lines] == sorted(each["at"] for each in lines)
    (hostile,) = [each for each in lines if each["user"] == "\x1b[31mred"]
    shown = cli.on_terminal("requests", "show", hostile["request_id"], "--no-color").out
    assert r"\x1b[31mred" in shown
    assert "\x1b[31m" not in shown
    assert given(cli.run("requests", "show", hostile["request_id"], "--json"))["key"] == "search-prod"


def test_tail_follows_until_ctrl_c_and_tells_each_request_once(cli: Cli, served: GatewayProcess) -> None:
    made: list[str] = []

    def enough(said: str) -> bool:
        if "REQUEST" in said and len(made) < 3:
            made.append(call(served, CALLER, "follow"))
            time.sleep(0.4)
        return len(made) == 3 and all(each in said for each in made)

    done = cli.on_terminal("requests", "tail", "--follow", "--every", "0.2", "-n", "1", until=enough)
    assert done.code == 130
    assert [done.out.count(each) for each in made] == [1, 1, 1]
    assert "Traceback" not in done.out
    piped = [json.loads(each) for each in cli.run("requests", "tail", "-n", "3", "--json").out.splitlines()]
    assert [each["request_id"] for each in piped] == made


# --- What changes something ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [(), ("--key", "sk-local")], ids=["by tables", "by the gateway"])
def test_a_keys_life(cli: Cli, served: GatewayProcess, way: tuple[str, ...]) -> None:
    name = f"life-{len(way)}"
    made = given(cli.run("keys", "create", "--name", name, "--team", "search", "--expires-in", "1d", "--json", *way))
    assert opens(served, made["key"]) == 200
    twice = cli.run("keys", "create", "--name", name, *way)
    assert twice.code == 1
    assert "already" in twice.line
    assert cli.run("keys", "disable", name, *way).out == f"{name} is disabled; it takes effect within 30 seconds\n"
    assert state(cli, name, way) == "disabled"
    assert cli.run("keys", "enable", name, *way).code == 0
    rotated = cli.run("keys", "rotate", name, "--overlap", "10m", *way)
    assert rotated.code == 0, rotated.err
    token = re.search(r"key=(sk-\S+)", rotated.out)
    assert token is not None
    assert token[1] != made["key"]
    assert re.search(r"Keys before it are good until 20\S+Z\.", rotated.err)
    unsaid = cli.run("keys", "revoke", name, *way)
    assert (unsaid.code, state(cli, name, way)) == (1, "active")
    assert "say --yes" in unsaid.line
    assert "nothing was changed" in cli.on_terminal("keys", "revoke", name, *way, typed="n\n").out
    assert state(cli, name, way) == "active"
    revoked = cli.on_terminal("keys", "revoke", name, *way, typed="y\n")
    assert revoked.code == 0
    assert "[y/N]" in revoked.out
    assert state(cli, name, way) is None
    gone = cli.run("keys", "revoke", name, "--yes", *way)
    assert gone.code == 1
    assert "there is no key" in gone.line.lower()


@pytest.mark.parametrize("way", [(), ("--key", "sk-local")], ids=["by tables", "by the gateway"])
@pytest.mark.parametrize(
    "what", [("revoke", "local", "--yes"), ("disable", "local"), ("rotate", "local", "--overlap", "0")]
)
def test_nobody_is_locked_out_unasked(cli: Cli, what: tuple[str, ...], way: tuple[str, ...]) -> None:
    done = cli.run("keys", *what, *way)
    assert (done.code, done.line) == (
        1,
        "llm-gateway: nothing was changed: local is the key that you call with; say --force",
    )
    assert "nothing was changed" in cli.on_terminal("keys", *what, *way, typed="n\n").out
    assert state(cli, "local", way) == "active"
    assert cli.run("teams", "list").code == 0


def opens(gateway: GatewayProcess, key: str) -> int:
    answer = httpx.get(f"{gateway.base_url}/models", headers={"authorization": f"Bearer {key}"}, timeout=20)
    return answer.status_code


def state(cli: Cli, name: str, way: tuple[str, ...]) -> str | None:
    """Of the token in force: the tables' list has those that were rotated, too."""
    listed = given(cli.run("keys", "list", "--json", *way))["data"]
    return next((key["state"] for key in listed if key["name"] == name and key["state"] != "rotated"), None)


def test_a_key_with_a_budget_and_limits(cli: Cli) -> None:
    done = cli.run("keys", "create", "--name", "bounded", "--budget", "5/day", "--rpm", "10", "--model", "fast")
    assert re.fullmatch(r"base_url=http://127\.0\.0\.1:\d+/v1 key=sk-\S+\n", done.out), done.err
    keys = given(cli.run("keys", "list", "--json", "--key", "sk-local"))["data"]
    (bounded,) = [key for key in keys if key["name"] == "bounded"]
    assert (bounded["budget"][0]["usd"], bounded["limits"]["rpm"], bounded["models"]) == ("5", 10, ["fast"])
    assert cli.run("keys", "revoke", "bounded", "--yes", "--key", "sk-local").code == 0


def test_a_teams_life(cli: Cli) -> None:
    made = cli.run("teams", "create", "ops", "--budget", "2.50/day", "--rpm", "5", "--description", "On call", "--json")
    assert given(made)["budget"][0]["usd"] == "2.50"
    shown = cli.run("teams", "show", "ops").out
    assert "$2.50/day" in shown
    assert "5 rpm" in shown
    assert "On call" in shown
    assert cli.run("teams", "create", "ops").code == 1
    assert cli.run("teams", "delete", "ops", "--yes").code == 0
    assert cli.run("teams", "show", "ops").code == 1
    used = cli.run("teams", "delete", "search", "--yes")
    assert used.code == 1
    assert "The team `search` cannot go: `keys.search-prod.team` names it" in used.line


def test_a_providers_key_is_stored_and_never_shown(cli: Cli, served: GatewayProcess) -> None:
    stored = cli.run("secrets", "set", "groq", "--untested", stdin="gsk-never-shown-again\n")
    assert (stored.code, stored.out) == (0, "stored as the key of groq\n"), stored.err
    assert given(cli.run("providers", "show", "groq", "--json"))["api_key"]["configured"]
    secret = served.client("secretsmanager").get_secret_value(SecretId="llm-gateway/provider/groq")["SecretString"]
    assert "gsk-never-shown-again" in secret
    assert cli.run("secrets", "set", "groq").line == "llm-gateway: the key is empty"


# --- Bad input: one line and the documented exit code -------------------------------------------------------------

WRONG: dict[str, tuple[tuple[str, ...], int, str]] = {
    "no such command": (("modles",), 3, "No such command"),
    "no such option": (("usage", "--limt"), 3, "see `llm-gateway usage --help`"),
    "a missing argument": (("teams", "show"), 3, "Missing argument"),
    "a wrong number": (("requests", "tail", "-n", "many"), 3, "--lines"),
    "a wrong date": (("usage", "--from", "yesterday"), 3, "--from"),
    "a wrong span": (("keys", "rotate", "local", "--overlap", "soon"), 3, "is no span of time"),
    "a wrong budget": (("teams", "create", "x", "--budget", "50"), 3, "is no budget"),
    "a wrong filter": (("requests", "tail", "--where", "colour=red"), 3, "write NAME=VALUE"),
    "two forms": (("usage", "--csv", "--json"), 3, "give one of them"),
    "two gateways": (("models", "--url", "http://127.0.0.1:1", "--stack", "x"), 3, "name two gateways"),
    "no address": (("models", "--url", "gateway.example"), 3, "is no address of a gateway"),
    "an address with a key in it": (("models", "--url", "http://me:sk@127.0.0.1:1"), 3, "give the key with --key"),
    "a key that is none": (("models", "--key", "sk one"), 3, "holds a space"),
    "usage's tables by address": (
        (
            "usage",
            "export",
            "--from",
            "2026-01-01",
            "--to",
            "2026-01-02",
            "--out",
            "x.csv",
            "--url",
            "http://127.0.0.1:1",
        ),
        3,
        "name the stack with --stack",
    ),
    "no server": (("models", "--url", "http://127.0.0.1:1", "--key", "sk-x"), 4, "cannot reach the gateway"),
    "no host": (("models", "--url", "http://gateway.invalid", "--key", "sk-x"), 4, "cannot reach the gateway"),
    "an unknown key": (("models", "--key", "sk-nobody"), 5, "Incorrect API key"),
    "an expired key": (("models", "--key", "sk-over-since-years-for-local-use"), 5, "expired"),
    "a caller's key": (("teams", "list", "--key", CALLER), 5, "needs the key of an admin"),
    "an unknown group": (("usage", "--by", "colour"), 3, "not grouped by `colour`"),
    "an unknown team": (("teams", "show", "nobody"), 1, "nobody"),
    "an unknown key's name": (("keys", "disable", "nobody"), 1, "there is no key named nobody"),
    "an unknown provider": (("providers", "test", "nobody"), 1, "nobody"),
    "an unknown request": (("requests", "show", "req_x"), 1, "req_x"),
    "an unknown period": (("teams", "create", "x", "--budget", "5/fortnight"), 3, "is no budget"),
    "a missing file": (("run", "--config", "missing.toml"), 3, "missing.toml"),
}


@pytest.mark.parametrize(("arguments", "code", "said"), WRONG.values(), ids=WRONG.keys())
def test_bad_input_is_one_line_and_an_exit_code(cli: Cli, arguments: tuple[str, ...], code: int, said: str) -> None:
    done = cli.run(*arguments)
    assert done.code == code, done.err
    assert said in done.line
    assert done.out == ""


def test_a_toml_error_has_its_line(elsewhere: Cli, tmp_path: Path) -> None:
    file = tmp_path / "gateway.toml"
    file.write_text("default_model = 'fast'\n\n[models.fast\n")
    for arguments in (("run", "--config", str(file)), ("apply", str(file), "--url", "http://127.0.0.1:1")):
        done = elsewhere.run(*arguments)
        assert done.code == 3
        assert "line 3" in done.err
        assert done.err.count("\n") == 1
        assert "Traceback" not in done.err


def test_no_gateway_says_what_to_do(elsewhere: Cli) -> None:
    for command in (("models",), ("usage",), ("teams", "list"), ("keys", "list"), ("requests", "tail")):
        done = elsewhere.run(*command)
        assert done.code == 4
        assert "make run" in done.line
    assert "these are the book's prices" in elsewhere.run("prices", "gpt-4.1").err


def test_the_environment_names_a_gateway(elsewhere: Cli, served: GatewayProcess) -> None:
    named = {"LLM_GATEWAY_URL": served.base_url, "LLM_GATEWAY_KEY": CALLER}
    assert [each["id"] for each in given(elsewhere.run("models", "--json", environ=named))["data"]] == ["fast"]
    admin = elsewhere.run("teams", "list", "--key", "sk-local", environ=named)
    assert admin.code == 0, admin.err
    keyless = elsewhere.run("models", environ={"LLM_GATEWAY_URL": served.base_url})
    assert keyless.code == 5
    assert "give it with --key, or in LLM_GATEWAY_KEY" in keyless.line
    lost = elsewhere.run("models", "--url", "http://127.0.0.1:1", environ=named)
    assert lost.code == 4


def test_an_address_that_is_no_gateways(elsewhere: Cli, served: GatewayProcess) -> None:
    done = elsewhere.run("models", "--url", served.aws.endpoint_url, "--key", "sk-x")
    assert done.code == 4
    assert "is not the address of a gateway" in done.line


def test_a_reader_that_leaves_is_no_failure(cli: Cli, served: GatewayProcess, bare_environ: dict[str, str]) -> None:
    command = f"{sys.executable} -m llm_gateway.local.cli prices --offline | head -1"
    done = subprocess.run(
        ["sh", "-c", command],
        cwd=served.directory,
        env=bare_environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.stdout.startswith("MODEL")
    assert done.stderr == ""


# --- Completion ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_has_a_script_for_each_shell(elsewhere: Cli, shell: str) -> None:
    done = elsewhere.run("completion", shell)
    assert done.code == 0
    assert "_LLM_GATEWAY_COMPLETE" in done.out


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("llm-gateway k", {"keys"}),
        ("llm-gateway keys r", {"rotate", "revoke"}),
        ("llm-gateway usage --c", {"--csv"}),
        ("llm-gateway completion b", {"bash"}),
        ("llm-gateway providers test ech", {"echo"}),
    ],
)
def test_completion_completes(elsewhere: Cli, typed: str, expected: set[str]) -> None:
    asked = {
        "_LLM_GATEWAY_COMPLETE": "complete_bash",
        "COMP_WORDS": typed,
        "COMP_CWORD": str(typed.count(" ")),
    }
    assert set(elsewhere.run(environ=asked).out.split()) == expected


def test_version(elsewhere: Cli) -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+\n", elsewhere.run("--version").out)
