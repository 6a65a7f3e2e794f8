"""`llm-gateway export`: a gateway's configuration as a gateway.toml."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from llm_gateway.cli.apply import open_configuration
from llm_gateway.cli.failures import BadInput
from llm_gateway.cli.shell import Shell, with_shell


@with_shell
def export(
    shell: Shell,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write it to a file; by default it is printed.")
    ] = None,
) -> None:
    """Write the configuration as a gateway.toml: applied again, it changes nothing.

    No key of a caller or of a provider is in it. With --json it is the same as JSON.
    """
    from llm_gateway.admin.rendering import as_json
    from llm_gateway.cli.toml_text import gateway_toml

    with open_configuration(shell) as configuration:
        tables = configuration.export()
    if shell.out.json and output is None:
        shell.out.data(as_json(tables))
        return
    text = gateway_toml(tables)
    if output is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(text.encode())  # TOML is UTF-8, whatever the terminal's encoding
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise BadInput(f"{output} cannot be written: {error.strerror or error}") from None
    shell.out.note(f"written to {output}")
