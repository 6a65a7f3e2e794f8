"""A command on a pseudo-terminal, as a person has it: what it shows, what is typed, Ctrl-C.

with Terminal([sys.executable, "-m", "llm_gateway.local.cli", "chat"], environ) as terminal:
    terminal.wait_for("you> ")
    terminal.enter("hello\n")
    terminal.ctrl_c()
    assert terminal.ended() == 0
"""

import os
import pty
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

PATIENCE_S = 20.0


class Terminal:
    """`shown` is all that came so far, escape sequences included."""

    def __init__(self, command: Sequence[str], environ: Mapping[str, str], directory: Path | None = None) -> None:
        self.shown = ""
        self._seen = 0
        self._master, child = pty.openpty()
        self._process = subprocess.Popen(
            command,
            env={"TERM": "xterm", **environ},
            cwd=directory,
            stdin=child,
            stdout=child,
            stderr=child,
            start_new_session=True,
        )
        os.close(child)

    def enter(self, text: str) -> None:
        os.write(self._master, text.encode())

    def ctrl_c(self) -> None:
        """As the terminal tells it. It has no foreground group here: a session of its own that never took the terminal.

        A moment later than its prompt, as a person's: one that comes between the two readline notices with the next key.
        """
        time.sleep(0.3)
        self._process.send_signal(signal.SIGINT)

    def wait_for(self, text: str) -> str:
        """What came since the last wait, up to and with the text."""
        deadline = time.monotonic() + PATIENCE_S
        while (found := self.shown.find(text, self._seen)) < 0:
            assert self._read(deadline), f"{text!r} did not come: {self.shown[self._seen :]!r}"
        came = self.shown[self._seen : found + len(text)]
        self._seen = found + len(text)
        return came

    def ended(self) -> int:
        """The exit code, when everything has been read."""
        deadline = time.monotonic() + PATIENCE_S
        while self._read(deadline):
            pass
        return self._process.wait(max(0.1, deadline - time.monotonic()))

    def _read(self, deadline: float) -> bool:
        ready, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not ready:
            return False
        try:
            block = os.read(self._master, 65536)
        except OSError:  # Linux's word for the end of a terminal
            return False
        self.shown += block.decode("utf-8", "replace")
        return bool(block)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._master)
