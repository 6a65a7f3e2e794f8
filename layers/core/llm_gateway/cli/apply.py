"""`llm-gateway apply`: makes a configuration what a gateway.toml says, once somebody has seen what that changes."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from llm_gateway.cli.failures import ExitCode, Failure
from llm_gateway.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from llm_gateway.cli.configuration import Applied, Configuration, Planned
    from llm_gateway.cli.gateway_toml import GatewayToml


@with_shell
def apply(
    shell: Shell,
    file: Annotated[Path, typer.Argument(help="A gateway.toml.", show_default=False)],
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Delete what the file does not name.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the plan alone; exit code 2 where there are changes.")
    ] = False,
) -> None:
    """Make the configuration what a file says: shows what changes, asks, and does all of it or nothing.

    Keys that the file names and that are not there yet are made, and shown once. Keys of providers are not in a file:
    `api_key_env` is for `make run`, and what is told in the end is how they get to this gateway.
    """
    from llm_gateway.cli.gateway_toml import read_gateway_toml

    wanted = read_gateway_toml(file)
    with open_configuration(shell) as configuration:
        plan = configuration.plan(wanted.document, prune=prune)
        if dry_run or not plan["changes"]:
            _show(shell, plan, file, configuration.told)
            raise typer.Exit(ExitCode.CHANGES if plan["changes"] else ExitCode.OK)
        if not shell.out.json:
            _show(shell, plan, file, configuration.told)
        if (own := configuration.own_key(_weakened(plan))) is not None:
            raise Failure(f"nothing was applied: it would take {own} away, disable or demote it: the key you call with")
        if not (yes or shell.out.confirm("Apply these changes?")):
            raise Failure("nothing was applied" if shell.out.asks else "nothing was applied: nobody to ask; say --yes")
        applied = configuration.apply(wanted.document, prune=prune, revision=plan["revision"])
        shell.out.show(applied, lambda: _tell(shell, applied))
        _tell_secrets(shell, configuration, wanted)
        _tell_given(shell, applied, wanted)


@contextmanager
def open_configuration(shell: Shell) -> "Iterator[Configuration]":
    """Through the control plane; on the tables of a stack whose key nobody gave."""
    from llm_gateway.cli.configuration import OnTables, ThroughAdminPlane
    from llm_gateway.cli.target import named

    stack = named(shell.given, shell.environ)[1]
    if stack is not None and shell.by_tables:
        yield OnTables(shell.place(), stack)
        return
    with shell.gateway() as gateway:
        yield ThroughAdminPlane(gateway)


def _weakened(plan: "Planned") -> list[str]:
    """The keys that can do less once it is applied: deleted, disabled, or of another role."""
    of_keys = [each for each in plan["changes"] if each["kind"] == "key"]
    return [each["name"] for each in of_keys if each["action"] == "delete" or any(map(_weakens, each["members"]))]


def _weakens(member: Mapping[str, Any]) -> bool:
    match member["member"]:
        case "enabled":
            return bool(member["after"] is False)
        case "role":
            return bool(member["before"] == "admin" != member["after"])
        case _:
            return False


def _show(shell: Shell, plan: "Planned", file: Path, told: str) -> None:
    from llm_gateway.cli.plan_view import print_plan

    shell.out.show(plan, lambda: print_plan(shell.out.console(), plan, file.name, told))


def _tell(shell: Shell, applied: "Applied") -> None:
    shell.out.say(f"applied as revision {applied['revision']}; it takes effect within 30 seconds")
    for made in applied["keys"]:
        shell.out.say(f"key {made['name']}, shown this once: {made['key']}")
    for name in applied.get("secrets_left", ()):
        shell.out.say(f"the secret {name} of what was deleted may still be there: delete it in Secrets Manager")


def _tell_secrets(shell: Shell, configuration: "Configuration", wanted: "GatewayToml") -> None:
    """Whatever goes wrong here, the configuration is applied."""
    for (team, provider), variable in wanted.secrets.items():
        how = configuration.how_to_store(team, provider)
        if how is not None:
            whose = provider if team is None else f"{provider} for team {team}"
            shell.out.note(f"the key of {whose} is not in the file, and {variable} was not read; to store it: {how}")


def _tell_given(shell: Shell, applied: "Applied", wanted: "GatewayToml") -> None:
    made: Mapping[str, Any] = {each["name"]: each for each in applied["keys"]}
    for name in wanted.given:
        if name in made:
            shell.out.note(f"the token that the file gives key {name} is for `make run`: here it has one of its own")
