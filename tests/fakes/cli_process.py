"""The command `llm-gateway` as a process: in a pipe, or on a terminal of its own.

done = Cli(directory, environ).run("models", "--json")
done.code, done.out, done.err
"""

import contextlib
import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 60.0


@dataclass(frozen=True)
class Done:
    """On a terminal `out` has everything, and `err` nothing."""

    code: int
    out: str
    err: str

    @property
    def line(self) -> str:
        """The one line that a failure is told in."""
        assert "Traceback" not in self.err
        assert self.err.startswith("llm-gateway: "), self.err
        assert self.err.count("\n") == 1, self.err
        return self.err.strip()


class Cli:
    """`directory` is where it runs, `environ` is the whole environment."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self.directory = directory
        self._environ = {**environ, "COLUMNS": "120"}

    def run(self, *arguments: str, stdin: str = "", environ: Mapping[str, str] | None = None) -> Done:
        done = subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env={**self._environ, **(environ or {})},
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=TIMEOUT_S,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def on_terminal(
        self,
        *arguments: str,
        typed: str = "",
        environ: Mapping[str, str] | None = None,
        until: Callable[[str], bool] | None = None,
    ) -> Done:
        """On a pseudo-terminal of 120 columns, where `typed` is typed at once; Ctrl-C is typed once `until` is true."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.directory,
            env={**self._environ, "TERM": "xterm-256color", **(environ or {})},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        os.write(ours, typed.encode())
        said, deadline = b"", time.monotonic() + TIMEOUT_S
        try:
            while time.monotonic() < deadline:
                if select.select([ours], [], [], 0.05)[0]:
                    # At the end Linux says EIO, and macOS nothing.
                    with contextlib.suppress(OSError):
                        if chunk := os.read(ours, 65536):
                            said += chunk
                            continue
                    break
                if until is not None and until(said.decode(errors="replace")):
                    process.send_signal(signal.SIGINT)
                    until = None
            return Done(process.wait(TIMEOUT_S), said.decode().replace("\r\n", "\n"), "")
        finally:
            os.close(ours)
            if process.poll() is None:
                process.kill()
                process.wait()


COMMAND = [sys.executable, "-m", "llm_gateway.local.cli"]
