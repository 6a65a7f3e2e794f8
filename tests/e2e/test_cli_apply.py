"""`llm-gateway apply` and `export` as processes, on a terminal and piped, against a real `make run`."""

import json
import os
import pty
import select
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.fakes.gateway_process import GatewayProcess

FILE = """\
default_model = "fast"

[providers.corp]
base_url = "https://llm.corp.example/v1"
headers = { X-Title = "canary-4711" }
api_key_env = "CORP_API_KEY"

[models.fast]
deployments = [{ provider = "echo", model = "demo", weight = 3 }]

[teams.search]
budget = { usd = "50", period = "month", alerts = [0.80] }

[keys.ci]
team = "search"
key = "sk-ci-for-a-laptop-alone"
expires_at = 2030-01-31T00:00:00Z
"""


@dataclass
class Place:
    gateway: GatewayProcess
    environ: dict[str, str]

    def run(self, *arguments: str, **environ: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "llm_gateway.local.cli", *arguments],
            env={**self.environ, **environ},
            cwd=self.gateway.directory,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[Place]:
    gateway = GatewayProcess(tmp_path_factory.mktemp("apply"), environ=bare_environ).start()
    root = gateway.base_url.removesuffix("/v1")
    yield Place(gateway, {**bare_environ, "LLM_GATEWAY_URL": root, "LLM_GATEWAY_KEY": gateway.key})
    gateway.clean_up()


@pytest.fixture
def file(place: Place, tmp_path: Path) -> Iterator[Path]:
    """A gateway.toml for a gateway that has nothing."""
    written = tmp_path / "gateway.toml"
    written.write_text(FILE)
    yield written
    nothing = tmp_path / "nothing.toml"
    nothing.write_text("")
    assert place.run("apply", str(nothing), "--prune", "--yes").returncode == 0


def on_a_terminal(place: Place, answer: str, *arguments: str) -> tuple[int, str]:
    """What a person sees who types `answer` once asked, and the exit code."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "llm_gateway.local.cli", *arguments],
        env={**place.environ, "TERM": "xterm-256color", "COLUMNS": "100"},
        cwd=place.gateway.directory,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    seen, answered, until = b"", False, time.monotonic() + 60
    while time.monotonic() < until:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            seen += part
        if b"[y/N]" in seen and not answered:
            answered = True
            os.write(ours, answer.encode() + b"\n")
    code = process.wait(timeout=10)
    os.close(ours)
    return code, seen.decode().replace("\r\n", "\n")


def config_of(place: Place) -> dict[str, Any]:
    shown = place.run("export", "--json")
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = json.loads(shown.stdout)
    return found


def test_a_plan_by_itself_changes_nothing_and_says_so_by_its_exit_code(place: Place, file: Path) -> None:
    before = config_of(place)
    plan = place.run("apply", str(file), "--dry-run")
    assert plan.returncode == 2, plan.stderr
    assert "  + models.fast\n" in plan.stdout
    assert "      deployments[0].weight    3\n" in plan.stdout
    assert "  + keys.ci  (its token is made, and shown once)\n" in plan.stdout
    assert plan.stdout.endswith("4 to create, 1 to change, 0 to delete.\n"), "the key that asks is not told of"
    assert "canary-4711" not in plan.stdout
    assert "\x1b" not in plan.stdout, "no colours where nobody sees them"
    assert config_of(place) == before
    assert place.run("apply", str(file), "--yes").returncode == 0
    again = place.run("apply", str(file), "--dry-run")
    assert (again.returncode, again.stderr) == (0, "")
    assert "nothing to change" in again.stdout


def test_nobody_to_ask_is_a_no(place: Place, file: Path) -> None:
    before = config_of(place)
    refused = place.run("apply", str(file))
    assert refused.returncode == 1
    assert refused.stderr == "llm-gateway: nothing was applied: nobody to ask; say --yes\n"
    assert config_of(place) == before


def test_a_person_is_asked_in_colours(place: Place, file: Path) -> None:
    code, seen = on_a_terminal(place, "n", "apply", str(file))
    assert (code, "Apply these changes? [y/N]" in seen) == (1, True), seen
    assert "nothing was applied" in seen
    assert "\x1b[32m  + \x1b[0m" in seen
    assert "models" not in config_of(place)
    code, seen = on_a_terminal(place, "y", "apply", str(file))
    assert code == 0, seen
    assert config_of(place)["models"] == tomllib.loads(FILE)["models"]
    code, seen = on_a_terminal(place, "y", "--no-color", "apply", str(file), "--dry-run", "--prune")
    assert (code, "\x1b" in seen) == (0, False), seen


def test_keys_are_shown_once_and_those_of_providers_are_told_how_to_store(place: Place, file: Path) -> None:
    done = place.run("apply", str(file), "--yes", CORP_API_KEY="sk-canary-of-corp")
    assert done.returncode == 0, done.stderr
    token = done.stdout.splitlines()[-1].removeprefix("key ci, shown this once: ")
    assert token.startswith("sk-")
    assert token != "sk-ci-for-a-laptop-alone"
    root = place.environ["LLM_GATEWAY_URL"]
    assert done.stderr.splitlines() == [
        f"the key of corp is not in the file, and CORP_API_KEY was not read; to store it: PUT {root}/admin/providers/corp/key",
        "the token that the file gives key ci is for `make run`: here it has one of its own",
    ]
    assert "canary" not in done.stdout + done.stderr
    models = place.run("models", LLM_GATEWAY_KEY=token)
    assert models.returncode == 0, "the key that was shown opens the door"
    changed = file.read_text().replace("weight = 3", "weight = 1").replace('default_model = "fast"\n', "")
    file.write_text(changed)
    shown = place.run("apply", str(file), "--yes")
    assert "  ~ models.fast\n      deployments[0].weight  3 -> -\n" in shown.stdout
    assert "default_model" in shown.stdout.splitlines()[-2], "it is not named any more, and stays"
    assert "shown this once" not in shown.stdout
    pruned = place.run("apply", str(file), "--yes", "--prune", "--json")
    (change,) = json.loads(pruned.stdout)["changes"]
    assert change["members"] == [{"member": "default_model", "before": "fast", "after": None}]


def test_export_writes_a_file_that_changes_nothing_and_that_make_run_takes(
    place: Place, file: Path, tmp_path: Path, bare_environ: dict[str, str]
) -> None:
    assert place.run("apply", str(file), "--yes").returncode == 0
    out = tmp_path / "exported.toml"
    written = place.run("export", "--output", str(out))
    assert (written.returncode, written.stdout) == (0, ""), written.stderr
    assert place.run("export").stdout == out.read_text()
    for more in ((), ("--prune",)):
        again = place.run("apply", str(out), "--dry-run", *more)
        assert again.returncode == 0, again.stdout
    (tmp_path / "other").mkdir()
    other = GatewayProcess(tmp_path / "other", environ=bare_environ, config=out.read_text()).start()
    try:
        root = other.base_url.removesuffix("/v1")
        same = place.run("apply", str(out), "--dry-run", "--prune", LLM_GATEWAY_URL=root, LLM_GATEWAY_KEY=other.key)
        assert same.returncode == 0, same.stdout
        assert "key local" not in other.log, "the run's own key is no other than the run's"
    finally:
        other.clean_up()


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (None, "missing.toml: cannot be read: No such file or directory"),
        ("a = ", "gateway.toml: is not TOML: Invalid value (at end of document)"),
        (
            "[models.fast]\ndeployments = 3\nx x\n",
            "gateway.toml: is not TOML: Expected '=' after a key in a key/value pair (at line 3, column 3)",
        ),
        (
            '[models.f]\ndeployments = [{ provider = "crop", model = "m" }]',
            'gateway.toml: models.f.deployments[0].provider: "crop" is not a provider',
        ),
    ],
)
@pytest.mark.parametrize("json_wanted", [(), ("--json",)])
def test_a_faulty_file_is_one_line(
    place: Place, tmp_path: Path, text: str | None, line: str, json_wanted: tuple[str, ...]
) -> None:
    file = tmp_path / ("missing.toml" if text is None else "gateway.toml")
    if text is not None:
        file.write_text(text)
    refused = place.run("apply", str(file), "--yes", *json_wanted)
    assert refused.returncode == 3
    (said,) = refused.stderr.splitlines()
    assert line in said
    assert refused.stdout == ""


def test_who_may_not_and_who_is_not_there(place: Place, file: Path) -> None:
    for command in (("apply", str(file), "--yes"), ("export",)):
        denied = place.run(*command, "--key", "sk-wrong-one")
        assert denied.returncode == 5
        assert len(denied.stderr.splitlines()) == 1
    nobody = place.run("apply", str(file), "--yes", "--url", "http://127.0.0.1:9")
    assert nobody.returncode == 4
    assert len(nobody.stderr.splitlines()) == 1
    unwritable = place.run("export", "--output", "/nowhere/gateway.toml")
    assert unwritable.returncode == 3
