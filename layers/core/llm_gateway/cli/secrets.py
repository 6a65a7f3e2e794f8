"""`llm-gateway secrets …`: keys of providers, in Secrets Manager."""

import sys
from typing import Annotated, Any

import typer

from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.target import named
from llm_gateway.cli.values import known_providers

secrets = typer.Typer(help="Keys of providers, in Secrets Manager.", no_args_is_help=True, rich_markup_mode="rich")


@secrets.command("set")
@with_shell
def set_secret(
    shell: Shell,
    provider: Annotated[
        str, typer.Argument(help="A provider's name: openai, anthropic, corp, …", autocompletion=known_providers)
    ],
    team: Annotated[str | None, typer.Option(help="A team whose calls alone use it, before the stack's own.")] = None,
    untested: Annotated[
        bool, typer.Option("--untested", help="Through the gateway: do not try it at the provider first.")
    ] = False,
) -> None:
    """Store a provider's key in Secrets Manager. It is asked for, or read from standard input.

    With --stack and no --key, with AWS credentials; else through the gateway, which tries it at the provider first.

    Several keys, by weight, are one JSON document: docs/provider-keys.md shows it.
    """
    stack = named(shell.given, shell.environ)[1]
    if stack is not None and shell.by_tables:
        name = _into_stack(shell, stack, provider, team)
        shell.out.show({"secret": name}, lambda: shell.out.say(f"stored as the secret {name}"))
        return
    stored = _through_gateway(shell, provider, team, tested=not untested)
    whose = "" if team is None else f" for team {team}"
    shell.out.show(stored, lambda: shell.out.say(f"stored as the key of {provider}{whose}"))


def _into_stack(shell: Shell, stack: str, provider: str, team: str | None) -> str:
    from llm_gateway.local.stack import find_stack, store_provider_key

    found = find_stack(stack, shell.given.region, shell.given.profile, shell.environ)
    return store_provider_key(found, provider, _asked(provider), team)


def _through_gateway(shell: Shell, provider: str, team: str | None, *, tested: bool) -> dict[str, Any]:
    from llm_gateway.catalog.providers import canonical
    from llm_gateway.cli.client import segment

    of_team = "" if team is None else f"/teams/{segment(team)}"
    with shell.gateway() as gateway:
        path = f"/admin{of_team}/providers/{segment(canonical(provider))}/key"
        stored, _ = gateway.call("PUT", path, json={"value": _asked(provider), "test": tested})
        return dict(stored)


def _asked(provider: str) -> str:
    """Raises `BadInput`."""
    if sys.stdin.isatty():
        key = str(typer.prompt(f"Key of {provider}", hide_input=True, err=True))
    else:
        try:
            key = sys.stdin.read().strip()
        except UnicodeDecodeError:
            raise BadInput("standard input is not UTF-8") from None
    if not key:
        raise BadInput("the key is empty")
    return key
