"""The real `llm-gateway run`, as a process that a test starts, talks to and ends.

gateway = GatewayProcess(tmp_path, environ=bare_environ, config='default_model = "echo:demo"').start()
OpenAI(base_url=gateway.base_url, api_key=gateway.key)
gateway.client("dynamodb").get_item(...)
gateway.stop()      # 0, or gateway.kill() for a crash
"""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from llm_gateway.local.embedded_address import LOCK_FILE, STATE_FILE, EmbeddedAddress, is_locked

READY = re.compile(r"^llm-gateway ready: base_url=(?P<base_url>\S+) key=(?P<key>\S+)$", re.MULTILINE)
START_S = 40.0
STOP_S = 20.0


class GatewayProcess:
    """`directory` becomes the working directory and holds `.local/`, `gateway.toml`, `.env` and the process's output.

    `environ` is the whole environment; `outlive` lets the embedded AWS survive a crash; `port` 0 takes a free one.
    """

    def __init__(
        self,
        directory: Path,
        *,
        environ: Mapping[str, str],
        config: str | None = None,
        outlive: bool = False,
        port: int = 0,
    ) -> None:
        self.directory = directory
        self.data = directory / ".local"
        self._environ = dict(environ)
        self._arguments = ["--port", str(port), "--data", str(self.data), *(["--outlive"] if outlive else [])]
        if config is not None:
            (directory / "gateway.toml").write_text(config)
            self._arguments += ["--config", str(directory / "gateway.toml")]
        self._out, self._err = directory / "stdout.txt", directory / "stderr.txt"
        self._process: subprocess.Popen[bytes] | None = None
        self.base_url = ""
        self.shown_key = ""

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        assert self._process is not None, "start() it first"
        return self._process

    @property
    def key(self) -> str:
        """The admin key: the ready line masks one that the environment gave."""
        return self._environ.get("GATEWAY_API_KEY") or "sk-local"

    @property
    def out(self) -> str:
        return self._out.read_text()

    @property
    def log(self) -> str:
        return self._err.read_text()

    @property
    def aws(self) -> EmbeddedAddress:
        address = EmbeddedAddress.read(self.data / STATE_FILE)
        assert address is not None, f"no embedded AWS has written {self.data / STATE_FILE}"
        return address

    def launch(self) -> "GatewayProcess":
        """Starts it and does not wait."""
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "llm_gateway.local.cli", "run", *self._arguments],
                cwd=self.directory,
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
            )
        return self

    def start(self) -> "GatewayProcess":
        """Starts it and waits for the ready line."""
        self.launch()
        deadline = time.monotonic() + START_S
        while (ready := READY.search(self.out)) is None:
            assert self.process.poll() is None, f"it ended with {self.process.returncode}: {self.log}"
            assert time.monotonic() < deadline, f"not ready in {START_S} s: {self.log}"
            time.sleep(0.02)
        self.base_url, self.shown_key = ready["base_url"], ready["key"]
        return self

    def client(self, service: str) -> Any:
        """A boto3 client for its embedded AWS."""
        import boto3

        session: Any = boto3.session.Session(
            region_name="us-east-1"
        )  # typed clients would differ with the stubs installed
        return session.client(
            service,
            endpoint_url=self.aws.endpoint_url,
            aws_access_key_id=self.aws.access_key,
            aws_secret_access_key=self.aws.secret_key,
        )

    def wait(self) -> int:
        """Its exit code once it ends by itself."""
        return self.process.wait(STOP_S)

    def stop(self, number: signal.Signals = signal.SIGINT) -> int:
        """Ends it as Ctrl-C does; its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        return self.wait()

    def kill(self) -> None:
        """A crash: nothing of it gets another word in."""
        self.process.kill()
        self.process.wait()

    def aws_is_up(self) -> bool:
        return is_locked(self.data / LOCK_FILE)

    def clean_up(self) -> None:
        """Ends whatever is left, an embedded AWS that outlived a crash included."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        if self.aws_is_up() and (address := EmbeddedAddress.read(self.data / STATE_FILE)) is not None:
            with suppress(ProcessLookupError):
                os.kill(address.pid, signal.SIGKILL)
