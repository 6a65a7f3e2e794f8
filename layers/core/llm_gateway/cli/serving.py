"""`llm-gateway run` and `local-aws`: a gateway on this machine."""

import signal
from pathlib import Path
from typing import Annotated

import typer

Data = Annotated[Path, typer.Option(envvar="LLM_GATEWAY_DATA", help="Where the embedded AWS keeps its data.")]


def run(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8000,
    config: Annotated[Path | None, typer.Option(help="A gateway.toml to apply before serving.")] = None,
    data: Data = Path(".local"),
    outlive: Annotated[
        bool, typer.Option("--outlive", help="The embedded AWS survives a crash of the gateway.")
    ] = False,
) -> None:
    """Run the gateway on this machine, on an AWS of its own."""
    from llm_gateway.cli.failures import told_plainly
    from llm_gateway.cli.target import environment
    from llm_gateway.local.run import Options
    from llm_gateway.local.run import run as run_gateway

    with told_plainly():
        environ = environment()
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
    options = Options(port=port, config=config, data=data, outlive=outlive)
    raise typer.Exit(run_gateway(options, environ))


def local_aws(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 4566,
    host: Annotated[str, typer.Option(help="Address to listen on; another is for containers.")] = "127.0.0.1",
    data: Data = Path(".local"),
) -> None:
    """Run the embedded AWS alone: DynamoDB and Secrets Manager; its address is in DATA/aws.json."""
    from llm_gateway.local.embedded_aws import serve

    raise typer.Exit(serve(data=data, host=host, port=port, parent=None, outlive=False))


class _Stopped(KeyboardInterrupt):
    """A KeyboardInterrupt proper that passes through an `exec`, which any dataclass is made by, has CPython end the
    process by SIGINT in the end, even where it was caught; one of another class does not."""


def _interrupt(*_: object) -> None:
    """SIGTERM is to a supervisor what Ctrl-C is to a person."""
    raise _Stopped
