"""`llm-gateway keys …`: over HTTP where an address or a key is given, else on the tables with AWS credentials."""

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from llm_gateway.cli.failures import Failure
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.values import a_name, budget, span

if TYPE_CHECKING:
    from llm_gateway.cli.key_ways import Keys, Made

keys = typer.Typer(
    help="Keys for callers. Without --url and --key: on the tables, with AWS credentials, or of `make run`.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Models = Annotated[list[str] | None, typer.Option("--model", help="A model or pattern it may use; may be repeated.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="A provider it may reach; may be repeated.")]
Named = Annotated[str, typer.Argument(help="The key's name.", callback=a_name)]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Force = Annotated[bool, typer.Option("--force", help="Even if it is the key that you call with.")]
Role = Literal["caller", "team-admin", "admin"]

_LONGEST_OVERLAP_S = 30 * 86400


@keys.command("create")
@with_shell
def create(
    shell: Shell,
    name: Annotated[str, typer.Option(help="What the key is called in usage and logs.", callback=a_name)] = "first",
    team: Annotated[str | None, typer.Option(help="The team that it belongs to.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    role: Annotated[Role, typer.Option(help="What it may do beside calling models.")] = "caller",
    models: Models = None,
    providers: Providers = None,
    expires_in: Annotated[str | None, typer.Option(help="How long it is good: 12h, 90d; for ever without.")] = None,
    spend: Annotated[str | None, typer.Option("--budget", help="US dollars in a period: 5/day, 50/month.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
) -> None:
    """Make a key for callers, and show it once."""
    from llm_gateway.catalog.providers import canonical
    from llm_gateway.cli.key_ways import NewKey

    limits = {name: each for name, each in (("rpm", rpm), ("tpm", tpm), ("parallel", parallel)) if each is not None}
    spending: dict[str, Any] = {"limits": limits} if limits else {}
    if (amount := budget(spend)) is not None:
        spending["budget"] = amount
    wanted = NewKey(
        name=name,
        role=role,
        team=team,
        owner=owner,
        models=tuple(models) if models else None,
        providers=tuple(map(canonical, providers)) if providers else None,
        expires_at=None if expires_in is None else int(time.time()) + span(expires_in),
        spending=spending,
    )
    with _keys(shell, by_gateway=bool(spending)) as way:
        _show(shell, way.create(wanted))


@keys.command("rotate")
@with_shell
def rotate(
    shell: Shell,
    name: Named,
    overlap: Annotated[str, typer.Option(help="How long the old key stays good: 30m, 1h, 7d; 0 ends it now.")] = "1h",
    force: Force = False,
) -> None:
    """Make another key of the same name, with its limits and its budget, and show it once. The old one ends later."""
    from llm_gateway.cli.key_ways import told_time

    overlap_s = span(overlap)
    if overlap_s > _LONGEST_OVERLAP_S:
        raise typer.BadParameter("two keys of one name may overlap for 30 days at most")
    with _keys(shell) as way:
        if not overlap_s:
            _not_locked_out(shell, way, name, force=force)
        made = way.rotate(name, overlap_s)
    _show(shell, made)
    if made.others_end_at is not None and made.others_end_at > time.time():
        shell.out.note(f"Keys before it are good until {told_time(made.others_end_at)}.")
    else:
        shell.out.note("Keys before it are refused within 30 seconds.")


@keys.command("disable")
@with_shell
def disable(shell: Shell, name: Named, force: Force = False) -> None:
    """Switch a key off, with every token of its name."""
    with _keys(shell) as way:
        _not_locked_out(shell, way, name, force=force)
        _switch(shell, way, name, enabled=False)


@keys.command("enable")
@with_shell
def enable(shell: Shell, name: Named) -> None:
    """Switch a key on again. What was rotated stays as it is."""
    with _keys(shell) as way:
        _switch(shell, way, name, enabled=True)


@keys.command("revoke")
@with_shell
def revoke(
    shell: Shell,
    name: Named,
    yes: Yes = False,
    force: Force = False,
) -> None:
    """End a key for good, with its limits and every token of its name. What it used stays in usage."""
    with _keys(shell) as way:
        yes = _not_locked_out(shell, way, name, force=force) or yes
        shell.sure(f"Revoke the key {name}? Callers with it are refused within 30 seconds.", yes=yes)
        way.revoke(name)
    done = {"name": name, "revoked": True}
    shell.out.show(done, lambda: shell.out.say(f"{name} is revoked; it takes effect within 30 seconds"))


@keys.command("list")
@with_shell
def list_all(shell: Shell) -> None:
    """List the keys: names and what they may do, never the keys themselves."""
    with _keys(shell) as way:
        found = sorted(way.all(), key=lambda key: str(key["name"]))
    columns = ("NAME", "STATE", "ROLE", "TEAM", "USER", "OWNER", "UNTIL", "MODELS", "PROVIDERS")
    rows = [_row(key) for key in found]
    shell.out.show({"data": found}, lambda: shell.out.table(columns, rows))


@contextlib.contextmanager
def _keys(shell: Shell, *, by_gateway: bool = False) -> "Iterator[Keys]":
    """Limits and budgets are the control plane's to check: `by_gateway`."""
    from llm_gateway.cli.key_ways import KeysByGateway, KeysByTables

    if shell.by_tables and not by_gateway:
        yield KeysByTables(shell.place(), shell.local_key)
        return
    with shell.gateway() as gateway:
        yield KeysByGateway(gateway)


def _not_locked_out(shell: Shell, way: "Keys", name: str, *, force: bool) -> bool:
    """Whether a person said that it may be the key that the commands call with. Raises `Failure`."""
    if force or not way.is_own(name):
        return False
    if not shell.out.confirm(f"{name} is the key that you call with: end it, and be locked out?"):
        raise Failure(f"nothing was changed: {name} is the key that you call with; say --force")
    return True


def _switch(shell: Shell, way: "Keys", name: str, *, enabled: bool) -> None:
    way.switch(name, enabled=enabled)
    state = "enabled" if enabled else "disabled"
    done = {"name": name, "enabled": enabled}
    shell.out.show(done, lambda: shell.out.say(f"{name} is {state}; it takes effect within 30 seconds"))


def _show(shell: Shell, made: "Made") -> None:
    shown = {"name": made.name, "key": made.token, "base_url": made.base_url}
    address = "" if made.base_url is None else f"base_url={made.base_url} "
    shell.out.show(shown, lambda: shell.out.say(f"{address}key={made.token}"))
    shell.out.note("The key is shown this once: only its hash is stored. It is good everywhere within 30 seconds.")


def _row(key: dict[str, Any]) -> tuple[object, ...]:
    plain = [key.get(name) for name in ("name", "state", "role", "team", "user", "owner", "expires_at")]
    allowed = ["all" if key.get(name) is None else key[name] for name in ("models", "providers")]
    return (*plain, *allowed)
