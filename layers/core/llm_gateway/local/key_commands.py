"""`llm-gateway keys …`: with `--stack` a deployed stack's, without it those of the gateway that runs here."""

import asyncio
import re
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from llm_gateway.local.terminal import Data, OptionalStack, Profile, Region, place_named, told_plainly

if TYPE_CHECKING:
    from llm_gateway.domain.identity import VirtualKey
    from llm_gateway.local.place import Place

keys = typer.Typer(help="Keys for callers: of a deployed stack, or of `make run`.", no_args_is_help=True)

Models = Annotated[list[str] | None, typer.Option("--model", help="A model or pattern it may use; may be repeated.")]
Providers = Annotated[list[str] | None, typer.Option("--provider", help="A provider it may reach; may be repeated.")]
Named = Annotated[str, typer.Argument(help="The key's name.")]

_LONGEST_OVERLAP_S = 30 * 86400
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(text: str) -> int:
    """`1h`, `30m`, `45s`, `7d` or `0`, in seconds. Raises `typer.BadParameter`."""
    found = re.fullmatch(r"([0-9]{1,8})([smhd])|0", text.strip())
    if found is None:
        raise typer.BadParameter(f"{text!r} is no span of time: write it such as 45s, 30m, 1h, 7d, or 0")
    length = int(found[1]) * _UNITS[found[2]] if found[1] else 0
    if length > _LONGEST_OVERLAP_S:
        raise typer.BadParameter("two keys of one name may overlap for 30 days at most")
    return length


@keys.command("create")
def create(
    stack: OptionalStack = None,
    name: Annotated[str, typer.Option(help="What the key is called in usage and logs.")] = "first",
    team: Annotated[str | None, typer.Option(help="The team that it belongs to.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    models: Models = None,
    providers: Providers = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Make a key for callers, and show it once."""
    from llm_gateway.catalog.config import PendingKey
    from llm_gateway.catalog.providers import canonical
    from llm_gateway.local.key_life import create_key
    from llm_gateway.local.place import with_registry

    pending = PendingKey(
        name,
        team=team,
        owner=owner,
        models=tuple(models) if models else None,
        providers=tuple(map(canonical, providers)) if providers else None,
    )
    with told_plainly():
        place = place_named(stack, region, profile, data)
        token = asyncio.run(with_registry(place, lambda registry: create_key(registry, pending)))
        _show(place, token)


@keys.command("rotate")
def rotate(
    name: Named,
    overlap: Annotated[str, typer.Option(help="How long the old key stays good: 30m, 1h, 7d; 0 ends it now.")] = "1h",
    stack: OptionalStack = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Make another key of the same name, with its limits and its budget, and show it once. The old one ends later."""
    from llm_gateway.local.key_life import rotate_key
    from llm_gateway.local.place import with_registry

    overlap_s, now = seconds(overlap), time.time()
    with told_plainly():
        place = place_named(stack, region, profile, data)
        made = asyncio.run(with_registry(place, lambda registry: rotate_key(registry, name, overlap_s, now)))
        _show(place, made.token)
        if made.others_end_at > now:
            print(f"Keys before it are good until {_time(made.others_end_at)}.", file=sys.stderr)
        else:
            print("Keys before it are refused within 30 seconds.", file=sys.stderr)


@keys.command("disable")
def disable(
    name: Named,
    stack: OptionalStack = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Switch a key off, with every token of its name."""
    with told_plainly():
        _switch(place_named(stack, region, profile, data), name, enabled=False)
        print(f"{name} is disabled; it takes effect within 30 seconds")


@keys.command("enable")
def enable(
    name: Named,
    stack: OptionalStack = None,
    region: Region = None,
    profile: Profile = None,
    data: Data = Path(".local"),
) -> None:
    """Switch a key on again. What was rotated stays as it is."""
    with told_plainly():
        _switch(place_named(stack, region, profile, data), name, enabled=True)
        print(f"{name} is enabled; it takes effect within 30 seconds")


@keys.command("list")
def list_all(
    stack: OptionalStack = None, region: Region = None, profile: Profile = None, data: Data = Path(".local")
) -> None:
    """List the keys: names and what they may do, never the keys themselves."""
    from llm_gateway.local.key_life import list_keys
    from llm_gateway.local.place import with_registry

    with told_plainly():
        place = place_named(stack, region, profile, data)
        found = asyncio.run(with_registry(place, lambda registry: list_keys(registry, time.time())))
        rows: list[tuple[str, ...]] = [
            ("NAME", "STATE", "ROLE", "TEAM", "USER", "OWNER", "UNTIL", "MODELS", "PROVIDERS")
        ]
        rows += [_row(key, state) for key, state in found]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _switch(place: "Place", name: str, *, enabled: bool) -> None:
    from llm_gateway.local.key_life import switch_key
    from llm_gateway.local.place import with_registry

    asyncio.run(with_registry(place, lambda registry: switch_key(registry, name, enabled=enabled)))


def _show(place: "Place", token: str) -> None:
    print(f"key={token}" if place.base_url is None else f"base_url={place.base_url} key={token}")
    print("The key is shown this once: only its hash is stored.", file=sys.stderr)


def _row(key: "VirtualKey", state: str) -> tuple[str, ...]:
    until = "-" if key.expires_at is None else _time(key.expires_at)
    people = (each or "-" for each in (key.team, key.user, key.owner))
    return (key.name, state, key.role, *people, until, _all_or(key.models), _all_or(key.providers))


def _all_or(allowed: tuple[str, ...] | None) -> str:
    return "all" if allowed is None else ",".join(allowed) or "none"


def _time(at: int) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
