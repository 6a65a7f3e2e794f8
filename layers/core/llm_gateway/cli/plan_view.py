"""A plan for people: what is created (+), changed (~) and deleted (-), each with its members."""

import json
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from llm_gateway.catalog.as_file import TABLE_OF
from llm_gateway.catalog.faults import where
from llm_gateway.cli.failures import visible

if TYPE_CHECKING:
    from rich.console import Console

_SIGNS: Final = {"create": ("+", "green"), "change": ("~", "yellow"), "delete": ("-", "red")}
_MOST_UNNAMED: Final = 10


def print_plan(console: "Console", plan: Mapping[str, Any], file: str, told: str) -> None:
    """`plan` as `admin.wire.Plan`; `told` is what the gateway is called."""
    for line in plan_lines(plan, file, told):
        console.print(line)


def plan_lines(plan: Mapping[str, Any], file: str, told: str) -> Iterator[Text]:
    changes = plan["changes"]
    if not changes:
        yield Text(visible(f"{told} is as {file} says (revision {plan['revision']}): nothing to change."))
        yield from _unnamed(plan)
        return
    yield Text(visible(f"{file}, applied to {told} (revision {plan['revision']}):"))
    yield Text()
    for item in changes:
        yield from _item(item, plan["new_keys"])
    counts = {action: sum(item["action"] == action for item in changes) for action in _SIGNS}
    yield Text()
    yield Text(", ".join(f"{count} to {action}" for action, count in counts.items()) + ".", "bold")
    yield from _unnamed(plan)


def _item(item: Mapping[str, Any], new_keys: list[str]) -> Iterator[Text]:
    sign, colour = _SIGNS[item["action"]]
    head = Text(f"  {sign} ", colour).append(visible(place(item["kind"], item["name"])), "bold")
    if item["kind"] == "key" and item["name"] in new_keys:
        head.append("  (its token is made, and shown once)", "dim")
    yield head
    width = max((len(each["member"]) for each in item["members"]), default=0)
    for each in item["members"]:
        yield _member(each, item["action"], width)
    if not item["members"] and item["action"] == "change":
        yield Text("      what a file does not show (defaults, tokens of before a rotation)", "dim")


def _member(member: Mapping[str, Any], action: str, width: int) -> Text:
    name = f"      {visible(member['member']).ljust(width)}  "
    if action == "create":
        return Text(name).append(_value(member["after"]), "green")
    if action == "delete":
        return Text(name).append(_value(member["before"]), "red")
    return Text(name).append(_value(member["before"]), "red").append(" -> ").append(_value(member["after"]), "green")


def _value(value: Any) -> str:
    """As the file has it, near enough; what is not there is a dash."""
    if value is None:
        return "-"
    return visible(value) if value == "***" else visible(json.dumps(value, ensure_ascii=False))


def _unnamed(plan: Mapping[str, Any]) -> Iterator[Text]:
    unnamed = [place(each["kind"], each["name"]) for each in plan["unnamed"]]
    if not unnamed:
        return
    shown = ", ".join(unnamed[:_MOST_UNNAMED]) + (", …" if len(unnamed) > _MOST_UNNAMED else "")
    yield Text(visible(f"Not in the file, and left as they are (--prune deletes them): {shown}."), "dim")


def place(kind: str, name: str | None) -> str:
    """Where a file has it: `models."gpt-4.1"`."""
    if kind == "settings":
        return name or "settings"
    if kind == "organisation":
        return kind
    return where((TABLE_OF[kind], name or ""))  # type: ignore[index] # one of its kinds
