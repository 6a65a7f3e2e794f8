"""`llm-gateway doctor`: looks at everything that a request needs, and says what to do about what is wrong."""

from collections.abc import Iterator
from typing import Annotated, Final

import typer

from llm_gateway.cli.doctor_findings import Finding, Status
from llm_gateway.cli.failures import ExitCode, visible
from llm_gateway.cli.shell import Shell, with_shell
from llm_gateway.cli.target import named

_MARKS: Final[dict[Status, tuple[str, str]]] = {
    "ok": ("ok", "green"),
    "warning": ("warning", "yellow"),
    "failed": ("FAILED", "red"),
    "skipped": ("skipped", "bright_black"),
}


@with_shell
def doctor(
    shell: Shell,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="The model of the live call; by default the gateway's own.")
    ] = None,
    call: Annotated[bool, typer.Option(help="Make a live call, of a few tokens, which is billed.")] = True,
) -> None:
    """Check a gateway from its AWS credentials to a live streamed call. Each failure says what to do about it."""
    findings = []
    for finding in _examined(shell, model, call=call):
        findings.append(finding)
        if not shell.out.json:
            _print(shell, finding)
    failed = [each for each in findings if each.status == "failed"]
    if shell.out.json:
        shell.out.data({"ok": not failed, "checks": [each.told() for each in findings]})
    elif not failed:
        shell.out.say("all is well")
    if failed:
        raise typer.Exit(int(failed[0].exit_code or ExitCode.FAILED))


def _examined(shell: Shell, model: str | None, *, call: bool) -> Iterator[Finding]:
    from llm_gateway.cli.doctor_aws import examine_local, examine_stack
    from llm_gateway.cli.doctor_calls import examine_gateway

    url, stack = named(shell.given, shell.environ)
    if stack is not None:
        for finding in examine_stack(shell, stack):
            yield finding
            if finding.status == "failed" and finding.name in ("credentials", "stack"):
                return  # the gateway's address is among the stack's outputs
    elif url is None:
        yield from examine_local(shell)
    else:
        yield Finding("aws", "skipped", "an address says nothing of its stack: --stack NAME looks at that too")
    yield from examine_gateway(shell, model, call=call)


def _print(shell: Shell, finding: Finding) -> None:
    mark, colour = _MARKS[finding.status]
    console = shell.out.console()
    console.print(f"{mark:<8}", style=colour, end="")
    console.print(f"{finding.name}: {visible(finding.detail)}")
    if finding.advice is not None:
        console.print(f"        -> {visible(finding.advice)}", style="bold")
