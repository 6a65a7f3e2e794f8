"""The `llm-gateway` command."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer
from dotenv import load_dotenv

from llm_gateway.local.key_commands import keys
from llm_gateway.local.terminal import Data, Profile, Region, StackName, told_plainly
from llm_gateway.local.usage_commands import usage

app = typer.Typer(
    name="llm-gateway",
    help="An OpenAI-compatible LLM gateway.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # its tracebacks would show local variables, keys among them
)


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


secrets = typer.Typer(help="Provider keys of a deployed stack.", no_args_is_help=True)
app.add_typer(secrets, name="secrets")
app.add_typer(keys, name="keys")
app.add_typer(usage, name="usage")


@secrets.command("set")
def set_secret(
    provider: Annotated[str, typer.Argument(help="A provider's name: openai, anthropic, corp, …")],
    stack: StackName,
    team: Annotated[str | None, typer.Option(help="A team whose calls alone use it, before the stack's own.")] = None,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Store a provider's key in Secrets Manager. It is asked for, or read from standard input.

    Several keys, by weight: {"keys": [{"key": "…", "weight": 3, "name": "a"}, {"key": "…", "name": "b"}]}
    """
    from llm_gateway.local.stack import find_stack, store_provider_key

    with told_plainly():
        found = find_stack(stack, region, profile, os.environ)
        asked = sys.stdin.isatty()
        key = typer.prompt(f"Key of {provider}", hide_input=True) if asked else sys.stdin.read().strip()
        if not key:
            raise typer.BadParameter("the key is empty")
        print(f"stored as the secret {store_provider_key(found, provider, key, team)}")


@app.command()
def apply(
    config: Annotated[Path, typer.Argument(help="A gateway.toml.")],
    stack: StackName,
    region: Region = None,
    profile: Profile = None,
) -> None:
    """Make a deployed stack's configuration what the file says. Keys that it names are made and shown once."""
    from llm_gateway.catalog.config import load_config
    from llm_gateway.local.stack import apply_config, find_stack

    with told_plainly():
        loaded = load_config(config)
        made = asyncio.run(apply_config(find_stack(stack, region, profile, os.environ), loaded))
        print(f"{config} applied to {stack}; it takes effect within 30 seconds")
        print("keys that are not in the file stay as they are; `enabled = false` switches one off", file=sys.stderr)
        for name, token in made:
            print(f"key {name}, shown this once: {token}")


def interrupt(*_: object) -> None:
    """SIGTERM is to a supervisor what Ctrl-C is to a person."""
    raise KeyboardInterrupt


def main() -> None:
    app()


if __name__ == "__main__":
    main()
