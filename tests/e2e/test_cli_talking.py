"""`chat`, `doctor`, `init` and `route explain` as processes, on a terminal and piped, against a real `llm-gateway run`."""

import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from llm_gateway.catalog.config import parse_config
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.terminal import Terminal

COMMAND = [sys.executable, "-m", "llm_gateway.local.cli"]
CONFIG = """
default_model = "fast"
[models.fast]
deployments = [{ provider = "echo", model = "demo" }]
"""
COST = re.compile(r"demo · (\d+) \+ (\d+) tokens · \$([0-9.]+)")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[GatewayProcess]:
    process = GatewayProcess(tmp_path_factory.mktemp("served"), environ=bare_environ, config=CONFIG).start()
    yield process
    process.clean_up()


@pytest.fixture
def environ(served: GatewayProcess, bare_environ: dict[str, str]) -> dict[str, str]:
    return {**bare_environ, "LLM_GATEWAY_DATA": str(served.data)}


def run(
    environ: dict[str, str], *arguments: str, stdin: str = "", directory: Path | None = None
) -> "subprocess.CompletedProcess[str]":
    done = subprocess.run(
        [*COMMAND, *arguments],
        env=environ,
        cwd=directory,
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def one_line(done: "subprocess.CompletedProcess[str]", code: int) -> str:
    """The one line that a failure tells."""
    assert done.returncode == code, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("llm-gateway: ")
    return line


def test_a_message_is_answered_with_its_tokens_and_cost(environ: dict[str, str]) -> None:
    done = run(environ, "chat", "hello there")
    assert (done.returncode, done.stdout) == (0, "echo: hello there\n")
    found = COST.search(done.stderr)
    assert found is not None, done.stderr
    assert found.groups()[:2] == ("2", "3")
    assert float(found[3]) > 0


def test_lines_of_a_pipe_are_a_conversation(environ: dict[str, str]) -> None:
    done = run(environ, "chat", stdin="one\n\ntwo\n/model echo:other\n//three\n/reset\nfour\n/quit\nnever\n")
    assert done.returncode == 0
    assert done.stdout.splitlines() == ["echo: one", "echo: two", "echo: /three", "echo: four"]
    assert re.findall(r"(\w+) · (\d+) \+", done.stderr) == [
        ("demo", "1"),
        ("demo", "4"),
        ("other", "7"),
        ("other", "1"),
    ]
    assert "so far)" in done.stderr


def test_standard_input_as_one_message(environ: dict[str, str]) -> None:
    done = run(environ, "chat", "Look:", "-", stdin="a\nb\n")
    assert done.stdout == "echo: Look:\na\nb\n"


def test_json_of_a_chat(environ: dict[str, str]) -> None:
    done = run(environ, "chat", "--json", stdin="one\ntwo\n")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert [answer["reply"] for answer in answers] == ["echo: one", "echo: two"]
    assert all(float(answer["cost_usd"]) > 0 and answer["usage"]["total_tokens"] for answer in answers)
    assert done.stderr == ""


@pytest.mark.parametrize(
    ("model", "code", "said"),
    [
        ("echo:error-in-stream", 1, "while processing your request"),
        ("echo:error-429", 1, "always fails with status 429"),
        ("nope:x", 1, "`llm-gateway models` lists"),
    ],
)
def test_an_answer_that_fails_is_told_in_one_line(environ: dict[str, str], model: str, code: int, said: str) -> None:
    done = run(environ, "chat", "-m", model, "one two three four five six")
    assert said in one_line(done, code)


def test_what_cannot_be_said_or_reached(environ: dict[str, str], tmp_path: Path) -> None:
    assert "empty" in one_line(run(environ, "chat", " "), 3)
    assert "unknown" in one_line(run(environ, "chat", "hi", "--key", "sk-wrong"), 5)
    assert "cannot reach" in one_line(run(environ, "chat", "hi", "--url", "http://127.0.0.1:9"), 4)
    alone = {**environ, "LLM_GATEWAY_DATA": str(tmp_path)}
    assert "make run" in one_line(run(alone, "chat", "hi"), 4)


def test_a_conversation_on_a_terminal(environ: dict[str, str]) -> None:
    with Terminal([*COMMAND, "chat", "--no-color"], environ) as terminal:
        terminal.wait_for("you> ")
        terminal.enter("hello\n")
        assert "echo: hello\r\ndemo · 1 + 2 tokens · $" in terminal.wait_for("you> ")
        terminal.enter("/system Be brief.\n")
        terminal.wait_for("is set")
        terminal.wait_for("you> ")
        terminal.enter("/what\n")
        terminal.wait_for("there is no command /what")
        terminal.wait_for("you> ")
        terminal.enter("again\n")
        assert "demo · 6 + 2 tokens" in terminal.wait_for("so far)")
        terminal.wait_for("you> ")
        terminal.enter("/model echo:error-500\n")
        terminal.wait_for("you> ")
        terminal.enter("fails\n")
        terminal.wait_for("llm-gateway: ")
        terminal.wait_for("you> ")
        terminal.enter("\x04")
        assert terminal.ended() == 0
    assert "Traceback" not in terminal.shown


def test_ctrl_c_stops_the_answer_and_not_the_conversation(environ: dict[str, str]) -> None:
    long = " ".join(f"word{number}" for number in range(200))
    with Terminal([*COMMAND, "chat", "-m", "echo:slow"], environ) as terminal:
        terminal.wait_for("you> ")
        terminal.enter("/model echo:slow\n")
        terminal.wait_for("you> ")
        terminal.enter(f"{long}\n")
        terminal.wait_for("echo: word0 word1 word2")
        terminal.ctrl_c()
        told = terminal.wait_for("you> ")
        assert "stopped" in told
        assert "word150" not in told.partition("word3")[2]
        terminal.enter("/model echo:demo\n")
        terminal.wait_for("you> ")
        terminal.enter("still here\n")
        terminal.wait_for("echo: still here")
        terminal.wait_for("you> ")
        terminal.ctrl_c()
        terminal.wait_for("Ctrl-C again")
        terminal.wait_for("you> ")
        terminal.ctrl_c()
        assert terminal.ended() == 130
    assert "Traceback" not in terminal.shown


def test_a_model_cannot_talk_to_the_terminal(environ: dict[str, str]) -> None:
    with Terminal([*COMMAND, "chat", "--no-color", "say \x1b]0;owned\x07 \x1b[2J ok"], environ) as terminal:
        assert terminal.ended() == 0
    assert "\\x1b]0;owned\\x07" in terminal.shown
    assert "\x1b]0;" not in terminal.shown
    assert "\x1b[2J" not in terminal.shown


def test_the_doctor_finds_all_well(environ: dict[str, str]) -> None:
    done = run(environ, "doctor")
    assert done.returncode == 0, done.stdout
    assert "FAILED" not in done.stdout
    assert done.stdout.endswith("all is well\n")
    told = json.loads(run(environ, "doctor", "--json").stdout)
    assert told["ok"] is True
    assert [check["name"] for check in told["checks"]] == [
        "tables", "address", "stores", "key", "models", "live call", "ledger",
    ]  # fmt: skip
    assert {check["status"] for check in told["checks"]} == {"ok"}


@pytest.mark.parametrize(
    ("arguments", "code", "name", "advice"),
    [
        (["--key", "sk-wrong"], 5, "key", "sk-local"),
        (["--url", "http://127.0.0.1:9"], 4, "address", "ApiUrl"),
        (["-m", "nope:x"], 1, "live call", "llm-gateway models"),
        (["-m", "echo:error-429"], 1, "live call", "in a minute"),
        (["-m", "echo:error-500"], 1, "live call", "providers test"),
        (["-m", "echo:error-in-stream"], 1, "live call", None),
    ],
)
def test_the_doctor_says_what_to_do(
    environ: dict[str, str], arguments: list[str], code: int, name: str, advice: str | None
) -> None:
    done = run(environ, "doctor", "--json", *arguments)
    assert done.returncode == code, done.stdout
    told = json.loads(done.stdout)
    (failure,) = [check for check in told["checks"] if check["status"] == "failed"]
    assert failure["name"] == name
    assert advice is None or advice in failure["advice"]
    assert told["ok"] is False


def test_the_doctor_without_a_gateway(environ: dict[str, str], tmp_path: Path) -> None:
    done = run({**environ, "LLM_GATEWAY_DATA": str(tmp_path)}, "doctor")
    assert done.returncode == 4
    assert "-> start it with `make run`" in done.stdout


@pytest.mark.parametrize("answers", ["\n\n\n", "echo, openai\n\ngpt-4.1-mini\n12.50\n"])
def test_init_asks_on_a_terminal(environ: dict[str, str], tmp_path: Path, answers: str) -> None:
    with Terminal([*COMMAND, "init"], environ, tmp_path) as terminal:
        for answer in answers.splitlines():
            terminal.wait_for("]: ")
            terminal.enter(f"{answer}\n")
        assert terminal.ended() == 0, terminal.shown
    written = (tmp_path / "gateway.toml").read_text()
    parse_config(written, "gateway.toml")
    document = tomllib.loads(written)
    assert document["models"]["fast"]["deployments"] == [{"provider": "echo", "model": "demo"}]
    if "12.50" in answers:
        assert document["organisation"] == {"budget": {"usd": "12.50", "period": "month"}}
        assert document["models"]["fast"]["fallbacks"] == ["openai:gpt-4.1-mini"]
        assert "OPENAI_API_KEY=" in terminal.shown


def test_init_with_defaults_takes_what_has_a_key(environ: dict[str, str], tmp_path: Path) -> None:
    keys = {"ANTHROPIC_API_KEY": "sk-a", "OPENAI_API_KEY": "sk-o"}
    done = run({**environ, **keys}, "init", "--yes", directory=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "#:schema" not in (tmp_path / "gateway.toml").read_text()
    document = tomllib.loads((tmp_path / "gateway.toml").read_text())
    assert document["default_provider"] == "openai"
    assert document["models"]["fast"]["fallbacks"] == ["anthropic:claude-haiku-4-5"]
    assert "organisation" not in document
    assert "sk-" not in (tmp_path / "gateway.toml").read_text() + done.stdout + done.stderr


def test_init_leaves_what_is_there(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "gateway.toml").write_text("# mine\n")
    assert "--force" in one_line(run(environ, "init", "--yes", directory=tmp_path), 3)
    assert "--yes" in one_line(run(environ, "init", "other.toml", directory=tmp_path), 3)
    assert (tmp_path / "gateway.toml").read_text() == "# mine\n"
    assert run(environ, "init", "--yes", "--force", directory=tmp_path).returncode == 0
    assert "# mine" not in (tmp_path / "gateway.toml").read_text()
    assert [each.name for each in tmp_path.iterdir()] == ["gateway.toml"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--provider", "opnai"], "openai"),
        (["--provider", "our/corp", "--base-url", "http://127.0.0.1:1/v1", "--model", "m"], "cannot be the name"),
        (["--provider", "openai", "--budget", "much"], "US dollars"),
        (["--provider", "azure_openai"], "--base-url"),
        (["--provider", "xai"], "--model"),
        (["no/such/folder.toml"], "cannot be written"),
    ],
)
def test_what_init_cannot_use(environ: dict[str, str], tmp_path: Path, arguments: list[str], said: str) -> None:
    assert said in one_line(run(environ, "init", "--yes", *arguments, directory=tmp_path), 3)
    assert list(tmp_path.iterdir()) == []


EXPLAINED: dict[str, Any] = {
    "requested": "fast",
    "strategy": "weighted",
    "candidates": [
        {"deployment": "corp:a", "group": "fast", "position": 1, "reason": "drawn", "numbers": {"weight": 3, "share": 0.75}, "circuit": "closed"},
        {"deployment": "corp:b", "group": "fast", "position": 2, "reason": "rest", "numbers": {}, "circuit": "open"},
    ],
    "dropped": [{"deployment": "off:c", "group": "fast", "reason": "disabled"}],
    "shadow": "corp:next",
    "limits": [{"scope": "key#prod", "metric": "requests", "limit": 1, "used": 1, "asked": 1, "fits": False, "enforced": True, "frees_in_s": 12.2}],
}  # fmt: skip


class Explains(BaseHTTPRequestHandler):
    """A gateway of which only this is known."""

    asked: ClassVar[list[Any]] = []

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.asked.append((self.path, body, self.headers.get("x-gateway-tag-team")))
        answer = json.dumps(EXPLAINED).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        pass


def test_a_route_is_explained(environ: dict[str, str]) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Explains)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    arguments = [
        "route",
        "explain",
        "fast",
        "--url",
        url,
        "--tag",
        "team=ads",
        "--metadata",
        "tier=gold",
        "--user",
        "ann",
    ]
    done = run(environ, *arguments)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "fast, by the strategy weighted"
    assert lines[2].split() == ["1", "corp:a", "fast", "drawn", "weight=3", "share=0.75"]
    assert "circuit open" in lines[3]
    assert lines[4:] == [
        "not off:c: disabled",
        "beside it, corp:next gets the same request, and nobody its answer",
        "would be refused: requests of key#prod is at 1 of 1; it frees in 12 s",
    ]
    assert json.loads(run(environ, *arguments, "--json").stdout) == EXPLAINED
    path, body, tag = Explains.asked[0]
    assert (path, tag) == ("/v1/routing/explain", "ads")
    assert body == {
        "model": "fast",
        "messages": [{"role": "user", "content": "Hi"}],
        "user": "ann",
        "metadata": {"tier": "gold"},
    }
    assert "NAME=VALUE" in one_line(run(environ, "route", "explain", "fast", "--tag", "x", "--url", url), 3)
    server.shutdown()
    server.server_close()
