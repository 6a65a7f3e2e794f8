"""Somebody who does what a page says: in a clone of their own, without an account, on this machine alone."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.docs.shell_blocks import ADDRESS, FILE, ROOT, Block, Command, read_blocks, shows
from tests.fakes.gateway_process import READY

START_S = 60.0
COMMAND_S = 30.0
STOP_S = 30.0
PROGRAM = "example.py"

_NOT_CLONED = frozenset({".git", ".venv", ".local", ".env", FILE, "build", ".aws-sam"})
_REQUEST = re.compile(r"req_[0-9a-f]{32}")
_NOWHERE = "http://127.0.0.1:9"


class WrongPage(AssertionError):
    """What a page says is not so."""


class Reader:
    """`directory` becomes the clone. The gateway that pages have on port 8000 is on a free one here."""

    def __init__(self, directory: Path, environ: Mapping[str, str]) -> None:
        self._clone = directory / "llm-gateway"
        self._port = _free_port()
        self._printed = directory / "gateway.txt"
        self._gateway: subprocess.Popen[bytes] | None = None
        self._last_request: str | None = None
        self._usual = "make run"
        _clone(self._clone)
        (directory / "home").mkdir()
        self._curl = directory / "curl"
        self._curl.mkdir()
        (self._curl / ".curlrc").write_text("fail-with-body\n", encoding="utf-8")
        self._environ = {
            **environ,
            "PATH": f"{self._clone / '.venv' / 'bin'}{os.pathsep}{environ['PATH']}",
            "HOME": str(directory / "home"),
            "PORT": str(self._port),
            "COLUMNS": "160",
            "HTTP_PROXY": _NOWHERE,
            "HTTPS_PROXY": _NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost",
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stop()

    def follow(self, blocks: list[Block]) -> None:
        """Does all that a page's blocks say, from top to bottom. Raises `WrongPage`."""
        for block in blocks:
            if block.is_file:
                (self._clone / FILE).write_text(block.text, encoding="utf-8")
                self._usual = f"make run CONFIG={FILE}"
            elif block.is_program:
                (self._clone / PROGRAM).write_text(self._here(block.text), encoding="utf-8")
                self._do(block, Command(f"python -W error {PROGRAM}"))
            elif block.is_shell and not block.excused:
                for command in block.commands():
                    self._do(block, command)

    def _do(self, block: Block, command: Command) -> None:
        text = self._here(command.text)
        if _serves(text):
            exit_code, printed = 0, self._start(block, text)
        else:
            if self._gateway is None:
                self._start(block, self._usual)
            strict = not command.output  # where an answer is shown, it may be an error; else it is none
            exit_code, printed = self._run(block, self._with_request(text), strict)
        if exit_code != command.exit_code:
            raise WrongPage(f"{block}: `{text}` exits with {exit_code}, not {command.exit_code}:\n{printed}")
        shown = self._here(command.output)
        if not shows(shown, printed):
            raise WrongPage(f"{block}: `{text}` prints\n{printed}\nand not\n{shown}")
        if ids := _REQUEST.findall(printed):
            self._last_request = ids[-1]

    def _here(self, text: str) -> str:
        return text.replace(ADDRESS, f"127.0.0.1:{self._port}")

    def _run(self, block: Block, text: str, strict: bool) -> tuple[int, str]:
        command = ["bash", "-o", "pipefail", "-euc", text]
        # A session of its own: what a command leaves running ends with it.
        with subprocess.Popen(
            command,
            cwd=self._clone,
            env={**self._environ, "CURL_HOME": str(self._curl)} if strict else self._environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        ) as process:
            try:
                printed, _ = process.communicate(timeout=COMMAND_S)
            except subprocess.TimeoutExpired:
                raise WrongPage(
                    f"{block}: `{text}` takes more than {COMMAND_S:.0f} s: mark its block <!-- takes minutes -->"
                ) from None
            finally:
                _kill(process)
        return process.returncode, printed.decode(errors="replace")

    def _start(self, block: Block, text: str) -> str:
        self._stop()
        if "llm-gateway run" in text and "--port" not in text:
            text += f" --port {self._port}"
        with self._printed.open("wb") as printed:
            self._gateway = subprocess.Popen(
                ["bash", "-c", text],
                cwd=self._clone,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_S
        while not READY.search(self._printed.read_text()):
            if self._gateway.poll() is not None or time.monotonic() > deadline:
                raise WrongPage(f"{block}: `{text}` serves nothing:\n{self._printed.read_text()}")
            time.sleep(0.05)
        return self._printed.read_text()

    def _stop(self) -> None:
        gateway, self._gateway = self._gateway, None
        if gateway is None:
            return
        if gateway.poll() is None:
            os.killpg(gateway.pid, signal.SIGINT)
        try:
            gateway.wait(STOP_S)
        finally:
            _kill(gateway)

    def _with_request(self, text: str) -> str:
        """`req_…` is the last request of the page; where there is none yet, one is made."""
        if "req_…" not in text:
            return text
        if self._last_request is None:
            body = {"model": "echo:demo", "messages": [{"role": "user", "content": "Hello, gateway!"}]}
            asked = urllib.request.Request(
                f"http://127.0.0.1:{self._port}/v1/chat/completions",
                json.dumps(body).encode(),
                {"Authorization": "Bearer sk-local", "Content-Type": "application/json"},
            )
            with urllib.request.urlopen(asked, timeout=COMMAND_S) as answer:  # noqa: S310 - our own loopback
                self._last_request = answer.headers["x-request-id"]
        assert self._last_request is not None
        return text.replace("req_…", self._last_request)


def _serves(text: str) -> bool:
    words = shlex.split(text, comments=True)
    return words[:2] in (["make", "run"], ["llm-gateway", "run"], [".venv/bin/llm-gateway", "run"])


def _clone(directory: Path) -> None:
    """Links to all that git has, an environment that is set up, and the README's gateway.toml."""
    directory.mkdir(parents=True)
    for entry in ROOT.iterdir():
        if entry.name not in _NOT_CLONED:
            (directory / entry.name).symlink_to(entry)
    (directory / ".venv").mkdir()
    for name in ("bin", "include", "lib", "pyvenv.cfg"):
        (directory / ".venv" / name).symlink_to(Path(sys.prefix) / name)
    (directory / ".venv" / ".installed").touch()
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (file,) = (block for block in read_blocks("README.md", readme) if block.is_file)
    (directory / FILE).write_text(file.text, encoding="utf-8")


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _kill(process: "subprocess.Popen[bytes]") -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    process.wait()
