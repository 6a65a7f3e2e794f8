"""`llm-gateway models`: what a key may use now."""

from fnmatch import fnmatchcase
from typing import Annotated, Any

import typer

from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.values import known_providers


@with_shell
def models(
    shell: Shell,
    pattern: Annotated[str | None, typer.Argument(help="Only names with this in them; * stands for anything.")] = None,
    provider: Annotated[
        str | None, typer.Option(help="Only those that this provider would serve.", autocompletion=known_providers)
    ] = None,
    aliases: Annotated[bool, typer.Option("--aliases", help="Only aliases of gateway.toml.")] = False,
) -> None:
    """List the models that the key may use now, and who would serve them."""
    with shell.gateway() as gateway:
        every = gateway.get("/models/available")["data"]
    found = [each for each in every if _wanted(each, pattern, provider, aliases=aliases)]
    columns = ("MODEL", "ALIAS", "SERVED BY")
    rows = [(each["id"], each["alias"], ", ".join(map(_served, each["deployments"]))) for each in found]
    if every:
        empty = f"none of the {len(every)} models is like that"
    else:
        empty = "this key can use no model now: no provider that it may reach has a key"
    shell.out.show({"object": "list", "data": found}, lambda: shell.out.table(columns, rows, empty=empty))


def _wanted(model: dict[str, Any], pattern: str | None, provider: str | None, *, aliases: bool) -> bool:
    if aliases and not model["alias"]:
        return False
    if provider is not None and not any(each["provider"] == provider for each in model["deployments"]):
        return False
    return pattern is None or matches(model["id"], pattern)


def matches(name: str, pattern: str) -> bool:
    """Upper and lower case are one. A pattern without `*` may stand anywhere.

    >>> matches("openai:GPT-4.1-mini", "gpt-4.1"), matches("openai:gpt-4.1-mini", "gpt*")
    (True, False)
    """
    name, pattern = name.lower(), pattern.lower()
    return fnmatchcase(name, pattern.replace("[", "[[]")) if "*" in pattern else pattern in name


def _served(deployment: dict[str, Any]) -> str:
    region = f" ({deployment['region']})" if deployment["region"] else ""
    return f"{deployment['provider']}:{deployment['model']}{region}"
