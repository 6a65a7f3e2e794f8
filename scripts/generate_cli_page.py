"""Writes docs/cli.md from the commands themselves: their help, arguments, options and exit codes.

python -m scripts.generate_cli_page            # writes the page
python -m scripts.generate_cli_page --check    # exits 1 when the page is not what they give
"""

import argparse
import sys
from collections.abc import Iterator
from enum import Enum
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import typer

from llm_gateway.cli.app import app
from llm_gateway.cli.failures import MEANINGS
from llm_gateway.cli.shell import OPTIONS

ROOT: Final = Path(__file__).resolve().parent.parent
PAGE: Final = ROOT / "docs" / "cli.md"
PROGRAM: Final = "llm-gateway"
WORDS: Final = {"str": "TEXT", "int": "N", "float": "N", "Path": "FILE", "datetime": "YYYY-MM-DD"}
"""What stands behind an option, by its type."""

PROSE: Final = """\
<!-- Written by scripts/generate_cli_page.py from the commands: `make check` compares. -->
# The command line

`llm-gateway` runs a gateway on this machine, configures one, and asks it what happened. In a clone it is
`.venv/bin/llm-gateway`; `make setup` installs it. Every command has `--help`.

```console
$ llm-gateway models
$ llm-gateway usage --by model,team
$ llm-gateway usage --by day --csv > usage.csv
$ llm-gateway requests tail -n 5
$ llm-gateway prices gpt-4.1
```

## Which gateway

Every command that works on a gateway takes these options, before the command or behind it. Without them it is the one
that the environment or `.env` names (`LLM_GATEWAY_URL`, else `LLM_GATEWAY_STACK`), and without those the one that
`make run` runs on this machine, with its own key. An address in `.env` is not called with a key of the environment: the
command ends, with 3; put both in one place, or say `--url`.

"""

REST_OF_PROSE: Final = """
An address is the one for SDKs, with `/v1` or without. With `--stack` it is read from the stack's outputs, with the
credentials that the AWS CLI uses. Some commands need no key then, and work on the stack's tables: `apply`, `export`,
`keys`, `secrets set`, `usage export` and `usage rebuild`. That is how the first key of a stack is made; with a key they
go through the gateway (but for the last two). Everything else calls the gateway, and what is under `/admin` needs an
admin's key ([who may](admin.md#who-may)).

## What is printed

Results go to stdout, everything else to stderr. `--json` prints the gateway's own JSON: a document, and with
`requests tail` one on each line. On a terminal tables fit its width and have colours (`--no-color` and `NO_COLOR`
switch them off); in a pipe they are plain text, and nothing is cut off. A failure is one line on stderr that begins
with `llm-gateway:` (a faulty file: a line for each fault), and an exit code:

"""

COMPLETION: Final = """
## Completion

```console
$ eval "$(llm-gateway completion bash)"
$ llm-gateway completion zsh > ~/.llm-gateway.zsh
$ llm-gateway completion fish > ~/.llm-gateway.fish
```

`completion SHELL --install` adds it to the shell's own files, for good.

"""


def page() -> str:
    root: Any = typer.main.get_command(app)
    return "".join(_page(root)).rstrip() + "\n"


def _page(root: Any) -> Iterator[str]:
    yield PROSE
    yield from _options([each for each in root.params if each.name in OPTIONS])
    yield REST_OF_PROSE
    yield "| code | when |\n|---|---|\n"
    yield from (f"| {int(code)} | {meaning} |\n" for code, meaning in MEANINGS.items())
    yield COMPLETION
    yield "## Commands\n\n"
    commands = list(_commands(root, PROGRAM))
    for path, command in commands:
        yield f"- [`{path}`](#{path.replace(' ', '-')}): {_first_sentence(command)}\n"
    for path, command in commands:
        yield from _command(path, command)


def _commands(group: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Those that do something, by their names in full."""
    for name, command in group.commands.items():
        here = f"{path} {name}"
        nested = getattr(command, "commands", None)
        if nested is None or command.invoke_without_command:
            yield here, command
        if nested is not None:
            yield from _commands(command, here)


def _command(path: str, command: Any) -> Iterator[str]:
    own = [each for each in command.params if each.rich_help_panel is None and not each.hidden and each.name != "help"]
    arguments = [each for each in own if each.param_type_name == "argument"]
    options = [each for each in own if each.param_type_name == "option"]
    shared = any(each.rich_help_panel for each in command.params)
    yield f"\n### {path}\n\n{_text(command)}\n\n```text\n{path}"
    yield from (f" {_argument(each)}" for each in arguments)
    yield f"{' [OPTIONS]' if options or shared else ''}\n```\n"
    if arguments:
        yield "\n| argument | what |\n|---|---|\n"
        yield from (f"| `{_argument(each)}` | {_cell(each.help)} |\n" for each in arguments)
    if options:
        yield "\n"
        yield from _options(options)


def _options(options: list[Any]) -> Iterator[str]:
    yield "| option | what |\n|---|---|\n"
    for option in options:
        names = ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))
        value = "" if option.is_flag else f" {_value(option)}"
        yield f"| {names}{value} | {_cell(option.help)}{_default(option)} |\n"


def _argument(argument: Any) -> str:
    several = "…" if argument.multiple or argument.nargs == -1 else ""
    name = f"{argument.name.upper().rstrip('S') if several else argument.name.upper()}{several}"
    return name if argument.required else f"[{name}]"


def _value(option: Any) -> str:
    kind = option.type_descriptor.annotation
    if get_origin(kind) is list:
        kind = get_args(kind)[0]
    if get_origin(kind) is Literal:
        return " or ".join(f"`{each}`" for each in get_args(kind))
    if isinstance(kind, type) and issubclass(kind, Enum):
        return " or ".join(f"`{each.value}`" for each in kind)
    return f"`{WORDS.get(kind.__name__, 'TEXT')}`"


def _default(option: Any) -> str:
    if option.required:
        return " Required."
    if option.default is None or callable(option.default):
        return ""
    if option.is_flag:
        return f" By default `{option.opts[0]}`." if option.default and option.secondary_opts else ""
    default = option.default.value if isinstance(option.default, Enum) else option.default
    return f" By default `{default}`."


def _text(command: Any) -> str:
    return "\n\n".join(" ".join(each.split()) for each in (command.help or "").split("\n\n"))


def _first_sentence(command: Any) -> str:
    """Up to the first colon or stop that ends one."""
    text = _text(command).split("\n\n", maxsplit=1)[0]
    return text.split(". ")[0].rstrip(".")


def _cell(text: str | None) -> str:
    return (text or "").replace("|", "\\|")


def main(arguments: list[str] | None = None, file: Path = PAGE) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="only compare, and exit 1 where the page differs")
    wanted = page()
    if parser.parse_args(arguments).check:
        if file.is_file() and file.read_text() == wanted:
            return 0
        print(f"{file.name} is not what the commands give: run `python -m scripts.generate_cli_page`", file=sys.stderr)
        return 1
    file.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
