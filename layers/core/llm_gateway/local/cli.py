"""Where `llm-gateway` starts; its commands are in `llm_gateway.cli`."""

from llm_gateway.cli.app import app, main

__all__ = ["app", "main"]

if __name__ == "__main__":
    main()
