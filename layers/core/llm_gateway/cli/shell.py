"""What every command has: the options that say which gateway and how to print, and errors told plainly.

@with_shell
def models(shell: Shell, pattern: Annotated[str | None, typer.Argument()] = None) -> None:
    with shell.gateway() as gateway:
        shell.out.table(("MODEL",), [(each["id"],) for each in gateway.get("/models/available")["data"]])

app.command("models")(models)
"""

import functools
import inspect
from collections.abc import Callable
from decimal import InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, Final

import typer

from llm_gateway.cli.failures import Failure, Unreachable, told_plainly
from llm_gateway.cli.output import Output
from llm_gateway.cli.target import DATA, KEY, STACK, URL, Given, Target, environment, find_place, find_target, named

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway
    from llm_gateway.local.place import Place

_WHICH: Final = "Which gateway"
_HOW: Final = "Output"
_UNREAD: Final = (KeyError, IndexError, TypeError, ValueError, AttributeError, InvalidOperation)
"""What reading a document of another shape raises."""

UrlOption = Annotated[
    str | None, typer.Option("--url", help=f"The gateway's address; or {URL}.", rich_help_panel=_WHICH)
]
KeyOption = Annotated[
    str | None, typer.Option("--key", help=f"The key to call with; or {KEY}.", rich_help_panel=_WHICH)
]
StackOption = Annotated[
    str | None,
    typer.Option(
        "--stack",
        help=f"A deployed stack's name, or {STACK}; without it and --url, the gateway of `make run`.",
        rich_help_panel=_WHICH,
    ),
]
RegionOption = Annotated[
    str | None,
    typer.Option("--region", help="The stack's AWS region; by default the profile's.", rich_help_panel=_WHICH),
]
ProfileOption = Annotated[
    str | None, typer.Option("--profile", help="A profile of the AWS CLI.", rich_help_panel=_WHICH)
]
DataOption = Annotated[
    Path | None,
    typer.Option("--data", help=f"Where `make run` keeps its data: .local, or {DATA}.", rich_help_panel=_WHICH),
]
JsonOption = Annotated[bool | None, typer.Option("--json", help="Print JSON, for programs.", rich_help_panel=_HOW)]
NoColorOption = Annotated[
    bool | None, typer.Option("--no-color", help="No colours, as with NO_COLOR set.", rich_help_panel=_HOW)
]

OPTIONS: Final[dict[str, Any]] = {
    "url": UrlOption,
    "key": KeyOption,
    "stack": StackOption,
    "region": RegionOption,
    "profile": ProfileOption,
    "data": DataOption,
    "json": JsonOption,
    "no_color": NoColorOption,
}
"""By the name of the field of `Given`; they may stand before the command or behind it."""


class Shell:
    """`given` are the options; `out` prints."""

    def __init__(self, given: Given) -> None:
        self.given = given
        self.environ = environment()
        self.out = Output(json=bool(given.json), no_color=bool(given.no_color))
        self._called: Target | None = None

    def target(self) -> Target:
        """Raises `BadInput`, `Unreachable`, `StackError`."""
        return find_target(self.given, self.environ)

    def gateway(self) -> "Gateway":
        """To be used in a `with`. Raises as `target`."""
        from llm_gateway.cli.client import Gateway

        self._called = self.target()
        return Gateway(self._called)

    def unread(self, error: Exception) -> Failure | None:
        """What to tell of an error that an answer without our members, or with others, leads to."""
        if self._called is None or type(error) not in _UNREAD:
            return None
        return Unreachable(
            f"what answers at {self._called.root} is no gateway, or one of another version:"
            f" its answer cannot be read ({type(error).__name__}: {error})"
        )

    def place(self) -> "Place":
        """The tables behind the gateway, for who has AWS credentials. Raises `StackError`, `CannotRun`."""
        return find_place(self.given, self.environ)

    def sure(self, question: str, *, yes: bool) -> None:
        """Raises `Failure` where the answer is no, or nobody can be asked."""
        if yes:
            return
        if not self.out.asks:
            raise Failure("nothing was changed: nobody is there to be asked; say --yes")
        if not self.out.confirm(question):
            raise Failure("nothing was changed")

    @property
    def local_key(self) -> str | None:
        """The token that `make run` gives its commands; None where they are about another gateway."""
        from llm_gateway.local.run import DEFAULT_KEY

        here = named(self.given, self.environ) == (None, None)
        return self.environ.get("GATEWAY_API_KEY") or DEFAULT_KEY if here else None

    @property
    def by_tables(self) -> bool:
        """Whether to work on the tables with AWS credentials: where no address was given, and no key for it."""
        url, _ = named(self.given, self.environ)
        return url is None and not (self.given.key or self.environ.get(KEY))


def with_shell(command: Callable[Concatenate[Shell, ...], None]) -> Callable[..., None]:
    """The function that Typer registers: it has the shared options too, and tells failures in one line."""
    signature = inspect.signature(command)
    own = list(signature.parameters.values())[1:]
    shared = [
        inspect.Parameter(_under(name), inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in OPTIONS.items()
    ]
    context = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)
    parameters = [context, *(each.replace(kind=inspect.Parameter.KEYWORD_ONLY) for each in own), *shared]

    @functools.wraps(command)
    def run(**values: Any) -> None:
        ctx: typer.Context = values.pop("ctx")
        given = Given(**{name: values.pop(_under(name)) for name in OPTIONS}).over(given_before(ctx))
        if ctx.invoked_subcommand is not None:  # `usage export`: this is `usage`, and only its options count
            ctx.obj = given
            return
        with told_plainly():
            shell = Shell(given)
            try:
                command(shell, **values)
            except _UNREAD as error:
                if (told := shell.unread(error)) is None:
                    raise
                raise told from None

    del run.__wrapped__  # Typer would look through it
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {each.name: each.annotation for each in parameters}
    return run


def given_before(ctx: typer.Context) -> Given:
    """The options that stand before the command."""
    return ctx.obj if isinstance(ctx.obj, Given) else Given()


def _under(name: str) -> str:
    """Apart from a command's own parameters."""
    return f"shared_{name}"
