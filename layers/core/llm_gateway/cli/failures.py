"""What goes wrong in a command: one line on stderr and an exit code that scripts can rely on; never a traceback."""

import contextlib
import re
import sys
from collections.abc import Iterator
from enum import IntEnum
from typing import NoReturn

import typer


class ExitCode(IntEnum):
    """docs/cli.md is written from these."""

    OK = 0
    FAILED = 1
    CHANGES = 2
    BAD_INPUT = 3
    UNREACHABLE = 4
    NOT_ALLOWED = 5
    INTERRUPTED = 130


MEANINGS = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "it failed, or the gateway refused it",
    ExitCode.CHANGES: "`apply --dry-run`: there are changes",
    ExitCode.BAD_INPUT: "bad input: an option, a file, a line of it, the environment",
    ExitCode.UNREACHABLE: "no gateway could be reached",
    ExitCode.NOT_ALLOWED: "not allowed: no key, a key that is not good (any more), or one that may not do this",
    ExitCode.INTERRUPTED: "interrupted (Ctrl-C)",
}


class Failure(Exception):
    """Why a command could not do its work, in one line for a person that says what to do about it."""

    exit_code = ExitCode.FAILED


class BadInput(Failure):
    """What the caller gave cannot be used: an option, a file, the environment."""

    exit_code = ExitCode.BAD_INPUT


class Unreachable(Failure):
    """Nobody answered at the address, or somebody who is no gateway."""

    exit_code = ExitCode.UNREACHABLE


class Refused(Failure):
    """The gateway's own answer: its status, and `code` and `param` of its envelope."""

    def __init__(self, text: str, status: int, code: str | None = None, param: str | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.code = code
        self.param = param


class Misasked(Refused):
    """400 of what reads or configures the gateway: an option or a name that it does not take."""

    exit_code = ExitCode.BAD_INPUT


class NotAllowed(Refused):
    """401 and 403."""

    exit_code = ExitCode.NOT_ALLOWED


@contextlib.contextmanager
def told_plainly() -> Iterator[None]:
    """What can go wrong outside of this program, in one line (a faulty file: one for each fault)."""
    try:
        yield
    except Failure as error:
        leave(error, error.exit_code)
    except BrokenPipeError:  # `… | head` has read enough
        raise
    except Exception as error:
        _tell(error)
        raise


def _tell(error: Exception) -> None:
    """Leaves, for what a person can do something about. What commands can fail with is imported once they have."""
    from llm_gateway.catalog.faults import ConfigError
    from llm_gateway.errors import GatewayError
    from llm_gateway.local.place import NoGateway, StackError
    from llm_gateway.local.run import CannotRun

    match error:
        case ConfigError():
            print(visible(str(error), lines=True), file=sys.stderr)
            raise typer.Exit(ExitCode.BAD_INPUT) from None
        case CannotRun():
            leave(error, error.exit_code)
        case NoGateway():
            leave(error, ExitCode.UNREACHABLE)
        case StackError() | GatewayError() | OSError():
            leave(error, ExitCode.FAILED)


def leave(error: BaseException | str, code: int) -> NoReturn:
    print(f"llm-gateway: {visible(str(error))}", file=sys.stderr)
    raise typer.Exit(int(code)) from None


_BREAKS = re.compile(r"\s*[\r\n\v\f\x85\u2028\u2029]\s*")


def visible(text: str, *, lines: bool = False) -> str:
    """Text of others as a terminal may have it: on one line (unless `lines`), without control characters.

    Users, tags and error messages are callers' and providers' words, and an escape sequence in them would be obeyed.

    >>> visible("a\\n\\x1b[31mb")
    'a \\\\x1b[31mb'
    """
    shown = text if lines else _BREAKS.sub(" ", text.strip())
    return "".join(each if each.isprintable() or (lines and each == "\n") else repr(each)[1:-1] for each in shown)
