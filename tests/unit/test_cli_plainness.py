"""Whatever a command meets, it ends with one line and the documented exit code: never with a traceback."""

import io
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from llm_gateway.catalog.config import parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.cli import app as cli
from llm_gateway.cli.chat import _said as said
from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.target import Given, environment, named
from llm_gateway.domain.identity import lookup_id
from llm_gateway.local import cli as entry

NAMES = ("LLM_GATEWAY_URL", "LLM_GATEWAY_KEY", "LLM_GATEWAY_STACK", "LLM_GATEWAY_DATA")


@pytest.fixture(autouse=True)
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in NAMES:
        monkeypatch.setenv(name, "")  # so that what a `.env` adds is taken away again
        monkeypatch.delenv(name)


def run(*arguments: str, stdin: bytes | str | None = None) -> Result:
    return CliRunner().invoke(cli.app, arguments, input=stdin)


def told(result: Result, code: int) -> str:
    """The one line of a failure."""
    assert result.exit_code == code, (result.exit_code, result.stderr, result.exception)
    assert result.stderr.startswith("llm-gateway: "), result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


class Foreign:
    """A server that answers everything with JSON of its own."""

    def __init__(self) -> None:
        self.answers: dict[str, Any] = {}
        self.otherwise: Any = {}
        self.asked: list[str] = []
        foreign = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                self.rfile.read(int(self.headers.get("content-length") or 0))
                path = self.path.partition("?")[0]
                foreign.asked.append(f"{self.command} {path}")
                body = json.dumps(foreign.answers.get(path, foreign.otherwise)).encode()
                self.send_response(200)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_DELETE = answer  # noqa: N815 - the base's names

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def foreign() -> Iterator[Foreign]:
    made = Foreign()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        thread.join()
        made.server.server_close()


@pytest.mark.parametrize("answer", [{}, {"data": None}, {"data": [1]}, {"data": "text"}, {"data": [{"id": 1}]}])
@pytest.mark.parametrize("command", [("models",), ("usage",), ("keys", "list"), ("teams", "list"), ("export",)])
def test_answers_without_our_members(foreign: Foreign, command: tuple[str, ...], answer: Any) -> None:
    foreign.otherwise = answer
    assert foreign.url in told(run(*command, "--url", foreign.url, "--key", "sk-x"), 4)


def test_doctor_goes_on_to_say_what_is_wrong(foreign: Foreign) -> None:
    result = run("doctor", "--url", foreign.url, "--key", "sk-x", "--json")
    assert (result.exit_code, result.stderr) == (4, "")
    assert [each["status"] for each in json.loads(result.stdout)["checks"]] == ["skipped", "ok", "ok", "failed"]


@pytest.mark.parametrize(
    "text", [f"a = {'[' * 5000}{']' * 5000}", f"a = {'9' * 5000}", f"a = {'{a=' * 5000}1{'}' * 5000}"]
)
def test_toml_past_the_bounds_of_its_reader(text: str) -> None:
    with pytest.raises(ConfigError, match=r"gateway\.toml: holds a number that is too long, or is nested too deeply"):
        parse_config(text, "gateway.toml")


def test_an_address_of_a_file_and_a_key_of_the_environment_are_a_conflict(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LLM_GATEWAY_URL=http://127.0.0.1:1\n")
    monkeypatch.setenv("LLM_GATEWAY_KEY", "sk-own")
    line = told(run("models"), 3)
    assert "LLM_GATEWAY_URL" in line
    assert "LLM_GATEWAY_KEY" in line
    environ = environment()
    assert named(Given(url="http://127.0.0.1:2"), environ) == ("http://127.0.0.1:2", None)
    assert named(Given(stack="shop"), environ) == (None, "shop")
    monkeypatch.delenv("LLM_GATEWAY_KEY")
    assert named(Given(), environment()) == ("http://127.0.0.1:1", None)


def test_a_key_that_is_given_is_for_the_address_of_the_file(monkeypatch: pytest.MonkeyPatch) -> None:
    Path(".env").write_text("LLM_GATEWAY_URL=http://127.0.0.1:1\n")
    monkeypatch.setenv("LLM_GATEWAY_KEY", "sk-own")
    assert named(Given(key="sk-given"), environment()) == ("http://127.0.0.1:1", None)


@pytest.mark.parametrize("command", [("models",), ("run", "--port", "0")])
def test_a_dotenv_that_is_no_text(command: tuple[str, ...]) -> None:
    Path(".env").write_bytes(b"LLM_GATEWAY_URL=\xff\n")
    assert ".env is not UTF-8" in told(run(*command), 3)


@pytest.mark.parametrize("command", [("chat",), ("chat", "-"), ("secrets", "set", "openai")])
def test_standard_input_that_is_no_text(command: tuple[str, ...]) -> None:
    result = run(*command, "--url", "http://127.0.0.1:1", "--key", "sk-x", stdin=b"\xff\xfe\n")
    assert "not UTF-8" in told(result, 3)


def test_what_a_terminal_has_no_sign_for_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    streams = [io.TextIOWrapper(io.BytesIO(), encoding="ascii") for _ in range(3)]
    for name, stream in zip(("stdin", "stdout", "stderr"), streams, strict=True):
        monkeypatch.setattr(sys, name, stream)
    monkeypatch.setattr(cli, "app", lambda: print("größe €"))
    cli.main()
    streams[1].flush()
    assert streams[1].buffer.getvalue() == b"gr\\xf6\\xdfe \\u20ac\n"
    assert [each.errors for each in streams] == ["strict", "backslashreplace", "backslashreplace"]


def test_ctrl_c_before_there_is_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "main", interrupted)
    with pytest.raises(SystemExit) as left:
        entry.main()
    assert left.value.code == 130


def test_the_words_of_a_message_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    assert said(["hello", "there"]) == "hello there"
    monkeypatch.setattr(sys, "stdin", io.StringIO("a text"))
    assert said(["sum", "up:", "-"]) == "sum up:\na text"
    with pytest.raises(BadInput):
        said(["", ""])


@pytest.mark.parametrize(
    "arguments",
    [
        ("init", ".", "--yes", "--force"),
        ("init", "--yes", "--base-url", "http://127.0.0.1:1/v1"),
        ("keys", "create", "--name", " "),
        ("keys", "create", "--budget", "5/fortnight"),
        ("keys", "revoke", ""),
        ("teams", "create", ""),
        ("models", "--data", "a-file"),
        ("keys", "list", "--data", "a-file"),
    ],
)
def test_bad_input(arguments: tuple[str, ...]) -> None:
    Path("a-file").touch()
    told(run(*arguments), 3)
    assert not Path("gateway.toml").exists()


def test_the_address_that_is_given_is_written() -> None:
    arguments = ("--provider", "vllm", "--model", "small", "--base-url", "http://127.0.0.1:1/v1")
    run("init", "--yes", *arguments)
    text = Path("gateway.toml").read_text()
    assert "http://127.0.0.1:1/v1" in text
    assert "small" in text


def test_the_key_that_one_calls_with_is_not_revoked_by_the_way(foreign: Foreign) -> None:
    foreign.answers["/admin/keys/boss"] = {"name": "boss", "tokens": [{"key_id": lookup_id("sk-mine")}]}
    given = ("keys", "revoke", "boss", "--yes", "--url", foreign.url, "--key")
    assert "--force" in told(run(*given, "sk-mine"), 1)
    assert "DELETE /admin/keys/boss" not in foreign.asked
    assert run(*given, "sk-mine", "--force").exit_code == 0
    assert run(*given, "sk-of-another").exit_code == 0
    assert foreign.asked.count("DELETE /admin/keys/boss") == 2


@pytest.mark.parametrize(
    ("action", "member", "refused"),
    [
        ("delete", {"member": "owner", "before": "ann", "after": None}, True),
        ("change", {"member": "enabled", "before": True, "after": False}, True),
        ("change", {"member": "role", "before": "admin", "after": None}, True),
        ("change", {"member": "owner", "before": "ann", "after": "bob"}, False),
    ],
)
def test_a_file_does_not_lock_out_who_applies_it(
    foreign: Foreign, action: str, member: dict[str, Any], refused: bool
) -> None:
    Path("gateway.toml").touch()
    change = {"action": action, "kind": "key", "name": "boss", "members": [member]}
    foreign.answers = {
        "/admin/plan": {"revision": 1, "changes": [change], "new_keys": [], "unnamed": []},
        "/admin/apply": {"revision": 2, "keys": []},
        "/admin/keys/boss": {"name": "boss", "tokens": [{"key_id": lookup_id("sk-mine")}]},
    }
    result = run("apply", "gateway.toml", "--yes", "--url", foreign.url, "--key", "sk-mine")
    if refused:
        assert "boss" in told(result, 1)
    else:
        assert result.exit_code == 0
    assert ("POST /admin/apply" in foreign.asked) is not refused
