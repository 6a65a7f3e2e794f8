"""Where the gateway of `llm-gateway run` listens: told to the other commands by a file beside its data."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_gateway.local.embedded_address import is_locked

ADDRESS_FILE = "gateway.json"
RUN_LOCK = "run.lock"


@contextmanager
def told_address(data: Path, base_url: str) -> Iterator[None]:
    """Writes the address for as long as it is served. `data` must be this process's own: it holds `RUN_LOCK`."""
    path = data / ADDRESS_FILE
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps({"base_url": base_url, "pid": os.getpid()}))
    beside.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def running_gateway(data: Path) -> str | None:
    """Its base URL for SDKs; None where none runs on `data`. A crash leaves the file, but not the lock."""
    if not is_locked(data / RUN_LOCK):
        return None
    try:
        said = json.loads((data / ADDRESS_FILE).read_text())
        return str(said["base_url"])
    except (OSError, ValueError, KeyError, TypeError):
        return None
