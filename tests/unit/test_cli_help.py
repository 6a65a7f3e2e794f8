"""The help of every command, as it is printed: what a user reads first is not changed by accident.

`WRITE_HELP=1 python -m pytest tests/unit/test_cli_help.py` writes the texts anew, to be read in the diff.
"""

import os
import re
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from llm_gateway.cli.app import app
from scripts.generate_cli_page import PAGE, main, page

HELP = Path(__file__).with_name("cli_help")
_ANSI = re.compile(r"\x1b\[[0-9;]*m")


def paths(group: Any, above: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found = [above]
    for name, command in getattr(group, "commands", {}).items():
        found += paths(command, (*above, name))
    return found


PATHS = paths(typer.main.get_command(app))


def printed(path: tuple[str, ...]) -> str:
    done = CliRunner().invoke(app, [*path, "--help"], env={"COLUMNS": "100", "TERMINAL_WIDTH": "100"})
    assert done.exit_code == 0, done.output
    return "\n".join(line.rstrip() for line in _ANSI.sub("", done.output).splitlines()).strip() + "\n"


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_help(path: tuple[str, ...]) -> None:
    file = HELP / f"{'_'.join(('llm-gateway', *path))}.txt"
    if os.environ.get("WRITE_HELP"):
        file.write_text(printed(path))
    assert printed(path) == file.read_text()


def test_no_help_is_left_over() -> None:
    assert {file.stem for file in HELP.glob("*.txt")} == {"_".join(("llm-gateway", *path)) for path in PATHS}


def test_every_option_and_argument_says_what_it_is() -> None:
    silent = [
        f"{' '.join(path)} {each.name}"
        for path in PATHS
        for each in command_at(path).params
        if not (each.help or "").strip()
    ]
    assert silent == []


def command_at(path: tuple[str, ...]) -> Any:
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return command


def test_the_page_is_what_the_commands_give() -> None:
    assert PAGE.read_text() == page()


def test_a_page_that_differs_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "cli.md"
    assert main(["--check"], file) == 1
    assert "run `python -m scripts.generate_cli_page`" in capsys.readouterr().err
    assert main([], file) == 0
    assert main(["--check"], file) == 0
    file.write_text(file.read_text() + "More.\n")
    assert main(["--check"], file) == 1


def test_the_page_has_every_command_with_its_options() -> None:
    text = page()
    for path in PATHS:
        command = command_at(path)
        if getattr(command, "commands", None) is not None and not command.invoke_without_command:
            continue
        section = text.split(f"\n### {' '.join(('llm-gateway', *path))}\n")[1].split("\n### ")[0]
        for each in command.params:
            if each.param_type_name == "option" and each.rich_help_panel is None and each.name != "help":
                assert f"`{each.opts[0]}`" in section
