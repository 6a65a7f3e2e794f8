"""Completion of commands and options in bash, zsh and fish."""

import os
from enum import StrEnum
from typing import Annotated, Final

import typer

_PROGRAM: Final = "llm-gateway"
_VARIABLE: Final = "_LLM_GATEWAY_COMPLETE"


class Kind(StrEnum):
    bash = "bash"
    zsh = "zsh"
    fish = "fish"


def completion(
    shell: Annotated[Kind, typer.Argument(help="The shell that it is for.")],
    install: Annotated[bool, typer.Option("--install", help="Add it to the shell's own files.")] = False,
) -> None:
    """Print what a shell needs to complete commands: eval "$(llm-gateway completion bash)"."""
    from typer import completion as typers

    if install:
        # Neither is in an __all__: they are what Typer's own --install-completion calls.
        _, path = typers.install(shell=shell.value, prog_name=_PROGRAM, complete_var=_VARIABLE)  # type: ignore[attr-defined] # see above
        print(f"added to {path}; it counts in the next shell")
        return
    script = typers.get_completion_script(  # type: ignore[attr-defined] # as above
        prog_name=_PROGRAM, complete_var=_VARIABLE, shell=shell.value
    )
    print(script)


def ready_for_completion() -> None:
    """Typer's own shells instead of Click's, where a shell asks."""
    if _VARIABLE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined] # as above

        completion_init()
