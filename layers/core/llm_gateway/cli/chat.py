"""`llm-gateway chat`: talk to a model, in a terminal or in a pipe."""

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from llm_gateway.cli.failures import BadInput, ExitCode, Failure, visible
from llm_gateway.cli.shell import Shell, with_shell

if TYPE_CHECKING:
    from llm_gateway.cli.chat_session import ChatSession

_PROMPT: Final = "you> "
_ALL_OF_STDIN: Final = "-"


@with_shell
def chat(
    shell: Shell,
    message: Annotated[
        list[str] | None,
        typer.Argument(
            help="What to say, for one answer; `-` stands for all of standard input. Without it, a conversation."
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="A model or alias; by default the gateway's `default_model`.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", help="What the model is told before all else.")
    ] = None,
) -> None:
    """Talk to a model: answers stream, and the conversation goes on until Ctrl-D.

    Ctrl-C stops an answer, not the conversation. In it: /model [NAME], /system [TEXT], /reset, /help, /quit.
    Piped, each line of standard input is a message. Tokens and cost are told on stderr, or with --json per answer.
    """
    from llm_gateway.cli.chat_session import ChatSession

    with shell.gateway() as gateway:
        session = ChatSession(gateway, shell.out, model, system)
        if message:
            session.say(_said(message))
        elif sys.stdin.isatty():
            _converse(session)
        else:
            while line := _line():
                if not _turn(session, line):
                    break


def _said(words: list[str]) -> str:
    """Words are said as on the command line; standard input stands on lines of its own."""
    said = ""
    for before, each in zip([_ALL_OF_STDIN, *words], words, strict=False):
        between = "\n" if _ALL_OF_STDIN in (before, each) else " "
        said += (between if said else "") + (_stdin() if each == _ALL_OF_STDIN else each)
    if not said.strip():
        raise BadInput("there is nothing to say: the message is empty")
    return said


def _stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError:
        raise BadInput("standard input is not UTF-8") from None


def _line() -> str:
    try:
        return sys.stdin.readline()
    except UnicodeDecodeError:
        raise BadInput("standard input is not UTF-8") from None


def _converse(session: "ChatSession") -> None:
    """Until Ctrl-D, /quit, or Ctrl-C twice in a row at the prompt."""
    session.note("Ctrl-C stops an answer, Ctrl-D ends. /help lists the commands.")
    stopped = False
    while True:
        try:
            line = _ask()
        except EOFError:
            print(file=sys.stderr)
            return
        except KeyboardInterrupt:
            if stopped:
                print(file=sys.stderr)
                raise typer.Exit(ExitCode.INTERRUPTED) from None
            stopped = True
            print("\n(Ctrl-C again, or Ctrl-D, ends the conversation)", file=sys.stderr)
            continue
        stopped = False
        try:
            if not _turn(session, line, goes_on=True):
                return
        except Failure as error:  # the conversation is as it was, and the next message may fare better
            print(f"llm-gateway: {visible(str(error))}", file=sys.stderr)


def _ask() -> str:
    """A line of a person's. Raises `EOFError`, `KeyboardInterrupt`."""
    if sys.stdout.isatty():
        import readline  # noqa: F401 - `input` then has a history, and keys to edit with

        return input(_PROMPT)
    print(_PROMPT, end="", file=sys.stderr, flush=True)
    line = _line()
    if not line:
        raise EOFError
    return line


def _turn(session: "ChatSession", line: str, *, goes_on: bool = False) -> bool:
    """One line: a message or a command. False ends the conversation. `goes_on`: Ctrl-C stops the answer alone."""
    said = line.strip()
    if not said:
        return True
    if said.startswith("/") and not said.startswith("//"):
        return session.command(said)
    session.say(said.removeprefix("/") if said.startswith("//") else said, stoppable=goes_on)
    return True
