"""The command `llm-gateway`: every command is registered here."""

import contextlib
import functools
import io
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from llm_gateway.cli.apply import apply
from llm_gateway.cli.chat import chat
from llm_gateway.cli.completion import completion, ready_for_completion
from llm_gateway.cli.doctor import doctor
from llm_gateway.cli.export import export
from llm_gateway.cli.failures import ExitCode, visible
from llm_gateway.cli.init import init
from llm_gateway.cli.keys import keys
from llm_gateway.cli.models import models
from llm_gateway.cli.prices import prices
from llm_gateway.cli.providers import providers
from llm_gateway.cli.requests import requests
from llm_gateway.cli.route import route
from llm_gateway.cli.secrets import secrets
from llm_gateway.cli.serving import local_aws, run
from llm_gateway.cli.shell import (
    DataOption,
    JsonOption,
    KeyOption,
    NoColorOption,
    ProfileOption,
    RegionOption,
    StackOption,
    UrlOption,
)
from llm_gateway.cli.target import Given
from llm_gateway.cli.teams import teams
from llm_gateway.cli.usage import usage
from llm_gateway.cli.usage_upkeep import export_usage, rebuild_usage

HELP: Final = """An OpenAI-compatible LLM gateway: run it here, configure it, ask it.

Commands work on the gateway that --url or --stack names, else the environment (LLM_GATEWAY_URL, LLM_GATEWAY_KEY,
LLM_GATEWAY_STACK), else the one of `make run` on this machine.
"""


class Commands(TyperGroup):
    """A Typer group that ends with the documented exit codes, and tells misuse in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        ready_for_completion()
        run = functools.partial(
            super().main,
            args,
            prog_name or "llm-gateway",
            complete_var,
            standalone_mode=False,
            windows_expand_args=windows_expand_args,
            **extra,
        )
        return sys.exit(_code_of(run)) if standalone_mode else run()


def _code_of(run: Callable[[], Any]) -> int:
    try:
        code = run()
    except typer.TyperException as misuse:
        return _told(misuse)
    except typer.Abort:
        print(file=sys.stderr)
        return ExitCode.INTERRUPTED
    return code if isinstance(code, int) else ExitCode.OK


def _told(misuse: typer.TyperException) -> int:
    ctx = getattr(misuse, "ctx", None)
    if type(misuse).__name__ == "NoArgsIsHelpError":  # the help has been printed
        return ExitCode.BAD_INPUT
    hint = f" (see `{ctx.command_path} --help`)" if ctx is not None else ""
    print(f"llm-gateway: {visible(misuse.format_message())}{hint}", file=sys.stderr)
    return ExitCode.BAD_INPUT


app = typer.Typer(
    name="llm-gateway",
    help=HELP,
    cls=Commands,
    no_args_is_help=True,
    add_completion=False,  # `completion` does it without guessing which shell this is
    pretty_exceptions_enable=False,  # its tracebacks would show local variables, keys among them
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)


def _version(wanted: bool) -> None:
    if not wanted:
        return
    from importlib.metadata import PackageNotFoundError, version

    with contextlib.suppress(PackageNotFoundError):
        print(version("llm-gateway"))
    raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: UrlOption = None,
    key: KeyOption = None,
    stack: StackOption = None,
    region: RegionOption = None,
    profile: ProfileOption = None,
    data: DataOption = None,
    json: JsonOption = None,
    no_color: NoColorOption = None,
    _shown: Annotated[
        bool | None, typer.Option("--version", callback=_version, is_eager=True, help="Show the version, and exit.")
    ] = None,
) -> None:
    ctx.obj = Given(
        url=url, key=key, stack=stack, region=region, profile=profile, data=data, json=json, no_color=no_color
    )


app.command("run")(run)
app.command("local-aws")(local_aws)
app.command("init")(init)
app.command("apply")(apply)
app.command("export")(export)
app.command("doctor")(doctor)
app.command("chat")(chat)
app.add_typer(keys, name="keys")
app.add_typer(teams, name="teams")
app.add_typer(providers, name="providers")
app.add_typer(secrets, name="secrets")
app.command("models")(models)
app.command("prices")(prices)
app.add_typer(route, name="route")
usage.command("export")(export_usage)
usage.command("rebuild")(rebuild_usage)
app.add_typer(usage, name="usage")
app.add_typer(requests, name="requests")
app.command("completion")(completion)


def main() -> None:
    _speak_plainly()
    app()


def _speak_plainly() -> None:
    """What a terminal's encoding has no sign for is escaped; bytes that are no text are told, not passed on."""
    for stream, errors in ((sys.stdin, "strict"), (sys.stdout, "backslashreplace"), (sys.stderr, "backslashreplace")):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)
