"""The processes of the bench, each spoken to by lines of JSON."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.bench.registry import stored_answers

ROOT = Path(__file__).parents[2]


class Process:
    """A module of the bench as a process. Leaving the `with` block ends it by closing its input."""

    def __init__(self, module: str, *arguments: str, **environ: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}", *arguments],
            cwd=ROOT,
            env=bare_environ() | environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._name = " ".join((module, *arguments))

    def tell(self, message: Any) -> None:
        assert self._process.stdin is not None
        print(json.dumps(message), file=self._process.stdin, flush=True)

    def hear(self) -> Any:
        """Raises `RuntimeError` where the process ended instead; its traceback is on standard error."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._name} ended with {self._process.wait()}")
        return json.loads(line)

    def ask(self, message: Any) -> Any:
        self.tell(message)
        return self.hear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()


@dataclass(frozen=True, slots=True)
class StandIns:
    """Where the fake provider and AWS listen, as `http://host:port`."""

    provider: str
    aws: str


@contextmanager
def stand_ins() -> Iterator[StandIns]:
    with Process("stand_ins") as process:
        addresses = {name: f"http://127.0.0.1:{port}" for name, port in process.hear().items()}
        process.tell(asyncio.run(stored_answers(addresses["provider"])))
        yield StandIns(**addresses)


@contextmanager
def workers(names: tuple[str, ...], at: StandIns, **environ: str) -> Iterator[dict[str, Process]]:
    with ExitStack() as stack:
        yield {name: stack.enter_context(Process("worker", name, at.provider, at.aws, **environ)) for name in names}


def bare_environ() -> dict[str, str]:
    """What a process of the bench gets of the developer's environment: no keys, no settings."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    return {**kept, "PYTHONPATH": f"{ROOT / 'layers' / 'core'}:{ROOT}"}
