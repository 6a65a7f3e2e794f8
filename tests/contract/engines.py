"""The engines that the contract suite runs on: what is here, and how it is started and ended."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import uuid
from dataclasses import dataclass
from pathlib import Path

from werkzeug.serving import make_server

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "dynamodb_local.py"
JARS = ROOT / "build" / "dynamodb-local" / "lib"
_START_S = 60.0


def dynamodb_local_missing() -> str | None:
    """Why DynamoDB Local cannot run here; None where it can."""
    if shutil.which("java") is None:
        return "Java is not installed"
    if shutil.which("mvn") is None and not list(JARS.glob("DynamoDBLocal-*.jar")):
        return "Maven is not installed"
    return None


def dynamodb_local_required() -> bool:
    return os.environ.get("REQUIRE_DYNAMODB_LOCAL") == "1"


class MotoServer:
    """moto's own server in a thread, one request at a time: so its conditional writes are atomic.

    What it keeps is the process's: every server sees the tables and secrets of all, those of one that stopped too.
    """

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

        application = DomainDispatcherApplication(create_backend_app)
        self._server = make_server("127.0.0.1", 0, application, threaded=False)
        self._thread = threading.Thread(target=self._server.serve_forever, name="moto", daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._thread.join(timeout=10)
        self._server.server_close()


@dataclass
class DynamoDBLocal:
    """AWS's engine in a process of its own, which can be made to hang."""

    process: subprocess.Popen[bytes]
    url: str

    @classmethod
    def start(cls, log: Path) -> "DynamoDBLocal":
        """Raises `RuntimeError` with the log's end where it does not come up."""
        fetched = subprocess.run(
            [sys.executable, str(SCRIPT), "--fetch"], check=False, capture_output=True, text=True, timeout=600
        )
        if fetched.returncode != 0:
            raise RuntimeError(fetched.stderr.strip())
        port = _free_port()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, str(SCRIPT), "--port", str(port)], stdout=output, stderr=subprocess.STDOUT
            )
        engine = cls(process, f"http://127.0.0.1:{port}")
        deadline = time.monotonic() + _START_S
        while not engine._answers():
            if process.poll() is not None or time.monotonic() > deadline:
                engine.stop()
                raise RuntimeError(f"DynamoDB Local did not start: {log.read_text(errors='replace')[-2000:]}")
            time.sleep(0.1)
        return engine

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(timeout=10)

    def _answers(self) -> bool:
        try:
            with urllib.request.urlopen(self.url, timeout=1):  # noqa: S310 - loopback
                return True
        except urllib.error.HTTPError as error:
            error.close()
            return error.code == 400
        except OSError:
            return False


def fresh_tables() -> dict[str, str]:
    """The stack's tables by names that no other test of this process has, as the environment gives them."""
    token = uuid.uuid4().hex[:8]
    return {f"{kind.upper()}_TABLE": f"{kind}-{token}" for kind in ("registry", "ledger", "usage", "cache")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
