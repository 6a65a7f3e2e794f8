"""The `llm-gateway` command."""

import os
import signal
from pathlib import Path
from typing import Annotated

import typer
from dotenv import load_dotenv

app = typer.Typer(
    name="llm-gateway",
    help="An OpenAI-compatible LLM gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks would show local variables, keys among them
)

Data = Annotated[Path, typer.Option(envvar="LLM_GATEWAY_DATA", help="Where the embedded AWS keeps its data.")]


@app.command()
def run(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port on 127.0.0.1; 0 takes a free one.")] = 8000,
    config: Annotated[Path | None, typer.Option(help="A gateway.toml to apply before serving.")] = None,
    data: Data = Path(".local"),
    outlive: Annotated[bool, typer.Option(help="The embedded AWS survives a crash of the gateway.")] = False,
) -> None:
    """Run the gateway on this machine, on an AWS of its own."""
    from llm_gateway.local.run import Options
    from llm_gateway.local.run import run as run_gateway

    load_dotenv(Path(".env"), override=False)
    signal.signal(signal.SIGTERM, interrupt)
    options = Options(port=port, config=config, data=data, outlive=outlive)
    raise typer.Exit(run_gateway(options, os.environ))


@app.command("local-aws")
def local_aws(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 4566,
    host: Annotated[str, typer.Option(help="Address to listen on; another is for containers.")] = "127.0.0.1",
    data: Data = Path(".local"),
) -> None:
    """Run the embedded AWS alone: DynamoDB and Secrets Manager; its address is in DATA/aws.json."""
    from llm_gateway.local.embedded_aws import serve

    raise typer.Exit(serve(data=data, host=host, port=port, parent=None, outlive=False))


def interrupt(*_: object) -> None:
    """SIGTERM is to a supervisor what Ctrl-C is to a person."""
    raise KeyboardInterrupt


def main() -> None:
    app()


if __name__ == "__main__":
    main()
