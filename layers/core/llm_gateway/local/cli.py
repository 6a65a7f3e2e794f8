"""Where `llm-gateway` starts; its commands are in `llm_gateway.cli`."""

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from llm_gateway.cli.app import app

__all__ = ["app", "main"]


def main() -> None:
    try:
        from llm_gateway.cli.app import main as run_command

        run_command()
    except KeyboardInterrupt:  # before a command was there to be interrupted
        sys.exit(130)


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(name)
    from llm_gateway.cli.app import app

    return app


if __name__ == "__main__":
    main()
