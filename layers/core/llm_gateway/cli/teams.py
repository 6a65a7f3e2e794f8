"""`llm-gateway teams …`: over the control plane, with an admin's key."""

from typing import Annotated, Any

import typer

from llm_gateway.cli.keys import Yes
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.values import a_name, budget

teams = typer.Typer(help="Teams: who shares a budget.", no_args_is_help=True, rich_markup_mode="rich")

Named = Annotated[str, typer.Argument(help="The team's name.", callback=a_name)]


@teams.command("list")
@with_shell
def list_all(shell: Shell) -> None:
    """List the teams with their budgets and limits."""
    with shell.gateway() as gateway:
        found = list(gateway.pages("/admin/teams"))
    columns = ("NAME", "BUDGET", "LIMITS", "MARKUP", "DESCRIPTION")
    rows = [
        (team["name"], told_budgets(team), told_limits(team), team.get("markup"), team.get("description"))
        for team in found
    ]
    empty = "no teams yet: llm-gateway teams create search --budget 50/month"
    shell.out.show({"data": found}, lambda: shell.out.table(columns, rows, empty=empty))


@teams.command("create")
@with_shell
def create(
    shell: Shell,
    name: Named,
    description: Annotated[str | None, typer.Option(help="What it is.")] = None,
    spend: Annotated[str | None, typer.Option("--budget", help="US dollars in a period: 5/day, 50/month.")] = None,
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests a minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens a minute.")] = None,
    parallel: Annotated[int | None, typer.Option(min=1, help="Requests at the same time.")] = None,
    markup: Annotated[str | None, typer.Option(help='What its cost is raised by: "20%".')] = None,
) -> None:
    """Make a team."""
    limits = {name: each for name, each in (("rpm", rpm), ("tpm", tpm), ("parallel", parallel)) if each is not None}
    given = {"description": description, "budget": budget(spend), "limits": limits or None, "markup": markup}
    body = {"name": name, **{member: value for member, value in given.items() if value is not None}}
    with shell.gateway() as gateway:
        made = gateway.post("/admin/teams", body)
    shell.out.show(made, lambda: shell.out.say(f"made the team {name}; it counts within 30 seconds"))


@teams.command("show")
@with_shell
def show(shell: Shell, name: Named) -> None:
    """Show one team, and its keys."""
    from llm_gateway.cli.client import segment

    with shell.gateway() as gateway:
        team = gateway.get(f"/admin/teams/{segment(name)}")
        keys = list(gateway.pages("/admin/keys", team=name))

    def people() -> None:
        rows = [
            ("name", team["name"]),
            ("description", team.get("description")),
            ("budget", told_budgets(team)),
            ("limits", told_limits(team)),
            ("markup", team.get("markup")),
            ("keys", [key["name"] for key in keys]),
        ]
        shell.out.table(("MEMBER", "VALUE"), rows)

    shell.out.show({**team, "keys": [key["name"] for key in keys]}, people)


@teams.command("delete")
@with_shell
def delete(shell: Shell, name: Named, yes: Yes = False) -> None:
    """Delete a team that no key belongs to. What it used stays in usage."""
    from llm_gateway.cli.client import segment

    path = f"/admin/teams/{segment(name)}"
    with shell.gateway() as gateway:
        _, headers = gateway.call("GET", path)
        shell.sure(f"Delete the team {name}?", yes=yes)
        gateway.call("DELETE", path, headers={"if-match": headers.get("etag", "*")})
    done = {"name": name, "deleted": True}
    shell.out.show(done, lambda: shell.out.say(f"{name} is deleted"))


def told_budgets(spender: dict[str, Any]) -> str | None:
    """`$50/month, $5/day`."""
    budgets = spender.get("budget")
    if not budgets:
        return None
    several = budgets if isinstance(budgets, list) else [budgets]
    return ", ".join(f"${each['usd']}/{each['period']}" for each in several)


def told_limits(spender: dict[str, Any]) -> str | None:
    """`600 rpm, 20 parallel`."""
    limits = spender.get("limits") or {}
    return ", ".join(f"{value} {name}" for name, value in limits.items() if value is not None) or None
