"""`llm-gateway route …`: who would serve a request, and why. Nothing is called, and nothing is billed."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from llm_gateway.cli.failures import BadInput, Failure, Refused
from llm_gateway.cli.shell import Shell, with_shell

route = typer.Typer(help="How requests are routed.", no_args_is_help=True, rich_markup_mode="rich")

_PATH = "/v1/routing/explain"


@with_shell
def explain(
    shell: Shell,
    model: Annotated[str | None, typer.Argument(help="A model or alias; by default the gateway's own.")] = None,
    message: Annotated[str, typer.Option("--message", help="What would be said: rules may go by its length.")] = "Hi",
    user: Annotated[str | None, typer.Option("--user", help="The request's `user`.")] = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", help="NAME=VALUE; may be repeated.")] = None,
    metadata: Annotated[list[str] | None, typer.Option("--metadata", help="NAME=VALUE; may be repeated.")] = None,
    stream: Annotated[bool, typer.Option("--stream", help="As for a streamed answer.")] = False,
) -> None:
    """Show every deployment that a request could go to: in which order it would be tried, why, or why not at all."""
    body: dict[str, Any] = {"messages": [{"role": "user", "content": message}]}
    if model is not None:
        body["model"] = model
    if user is not None:
        body["user"] = user
    if metadata:
        body["metadata"] = _pairs(metadata, "--metadata")
    if stream:
        body["stream"] = True
    headers = {f"x-gateway-tag-{name}": value for name, value in _pairs(tag or [], "--tag").items()}
    with shell.gateway() as gateway:
        try:
            found, _ = gateway.call("POST", _PATH, json=body, headers=headers)
        except Refused as refused:
            if refused.status == 404 and refused.code == "unknown_url":
                raise Failure(
                    f"{gateway.target.told} cannot explain its routing: it is older than this command;"
                    " update it, and try again"
                ) from None
            raise
    shell.out.show(found, lambda: _print(shell, found))


route.command("explain")(explain)


def _pairs(given: list[str], option: str) -> dict[str, str]:
    pairs = {}
    for each in given:
        name, equals, value = each.partition("=")
        if not equals or not name or not value or not (each.isascii() and each.isprintable()):
            raise BadInput(f"{option} {each!r}: write NAME=VALUE, in plain ASCII")
        pairs[name] = value
    return pairs


def _print(shell: Shell, found: Mapping[str, Any]) -> None:
    shell.out.say(f"{found.get('requested')}, by the strategy {found.get('strategy')}")
    rows = [
        (number, each.get("deployment"), each.get("group"), _why(each), _numbers(each.get("numbers")))
        for number, each in enumerate(found.get("candidates") or (), 1)
    ]
    shell.out.table(
        ("#", "DEPLOYMENT", "OF", "WHY", "NUMBERS"), rows, right=("#",), empty="nobody could serve this request"
    )
    for each in found.get("dropped") or ():
        shell.out.say(f"not {each.get('deployment')}: {each.get('message') or each.get('reason')}")
    if (shadow := found.get("shadow")) is not None:
        shell.out.say(f"beside it, {shadow} gets the same request, and nobody its answer")
    for each in found.get("limits") or ():
        if not each.get("fits"):
            shell.out.say(_limit(each))


def _why(candidate: Mapping[str, Any]) -> str:
    circuit = candidate.get("circuit")
    return f"{candidate.get('reason')}" + (f", circuit {circuit}" if circuit not in (None, "closed") else "")


def _limit(limit: Mapping[str, Any]) -> str:
    what = f"{limit.get('period')} budget" if limit.get("metric") == "budget" else limit.get("metric")
    frees = limit.get("frees_in_s")
    waiting = "" if frees is None else f"; it frees in {frees:.0f} s"
    told = "would be refused" if limit.get("enforced") else "would go on, with a warning"
    return f"{told}: {what} of {limit.get('scope')} is at {limit.get('used')} of {limit.get('limit')}{waiting}"


def _numbers(numbers: Any) -> str:
    if not isinstance(numbers, Mapping):
        return ""
    return " ".join(f"{name}={_short(value)}" for name, value in numbers.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
