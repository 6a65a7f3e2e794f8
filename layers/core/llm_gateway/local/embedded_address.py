"""Where the embedded AWS is and how to call it: the file it writes, the process that starts it."""

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

ACCESS_KEY = "local"
SECRET_KEY = "local"  # noqa: S105 - moto checks no signature; it must only not be the caller's own
REGION = "us-east-1"
STATE_FILE = "aws.json"
LOG_FILE = "aws.log"
LOCK_FILE = "aws.lock"
START_S = 60.0
STOP_S = 10.0


class EmbeddedAwsFailed(Exception):
    """It could not be started; the text says why and where its log is."""


@dataclass(frozen=True, slots=True)
class EmbeddedAddress:
    """What `.local/aws.json` says. `parent` is the process it belongs to, None where a person started it."""

    endpoint_url: str
    access_key: str
    secret_key: str
    pid: int
    parent: int | None
    outlive: bool

    def write(self, path: Path) -> None:
        draft = path.with_suffix(f".{os.getpid()}")
        draft.touch(mode=0o600)
        draft.write_text(json.dumps(asdict(self)))
        draft.replace(path)

    @classmethod
    def read(cls, path: Path) -> "EmbeddedAddress | None":
        """None where there is no file, or one that another version wrote."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


@dataclass(slots=True)
class EmbeddedAws:
    """An embedded AWS in use, and whether it ends with us. `process` is there if we started it."""

    address: EmbeddedAddress
    data: Path
    process: subprocess.Popen[bytes] | None = None

    def wait(self) -> "EmbeddedAws":
        return self

    @property
    def ours(self) -> bool:
        """Not one that a person runs beside the gateway."""
        return self.process is not None or self.address.parent is not None

    def ended(self) -> bool:
        if self.process is not None:
            return self.process.poll() is not None
        return not is_locked(self.data / LOCK_FILE)

    def stop(self) -> None:
        """Ends it if it is ours. One that was told to outlive the gateway outlives its crash, not its regular end."""
        if not self.ours or self.ended():
            return
        os.kill(self.address.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while not self.ended():
            if time.monotonic() > deadline:
                os.kill(self.address.pid, signal.SIGKILL)
                return
            time.sleep(0.02)


def attach(data: Path) -> EmbeddedAws | None:
    """The one that already serves `data`: a person's, or what outlived a crashed gateway. None where there is none.

    The caller is the only gateway on `data`. One whose gateway has died and that was not told to outlive it is about to
    end: its end is awaited. Raises `EmbeddedAwsFailed` where that takes longer than it may.
    """
    deadline = time.monotonic() + STOP_S
    while is_locked(data / LOCK_FILE):
        address = EmbeddedAddress.read(data / STATE_FILE)
        if address is not None and (address.parent is None or address.outlive):
            return EmbeddedAws(address, data)
        if time.monotonic() > deadline:
            raise EmbeddedAwsFailed(f"another process holds {data / LOCK_FILE}; give --data another directory")
        time.sleep(0.05)
    return None


class Starting:
    """One that is coming up: `wait` returns it once it answers, so that other work can be done meanwhile."""

    def __init__(self, data: Path, *, outlive: bool, environ: Mapping[str, str]) -> None:
        self._data = data
        self._log = data / LOG_FILE
        self._up: EmbeddedAws | None = None
        command = [sys.executable, "-m", "llm_gateway.local.embedded_aws", "--data", str(data)]
        command += ["--parent", str(os.getpid()), *(["--outlive"] if outlive else [])]
        with suppress(FileNotFoundError):
            (data / STATE_FILE).unlink()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=clean(environ),
                # Ctrl-C reaches a whole group: the gateway must have settled its requests before its AWS ends.
                start_new_session=True,
            )

    def wait(self) -> EmbeddedAws:
        deadline = time.monotonic() + START_S
        while (address := EmbeddedAddress.read(self._data / STATE_FILE)) is None or address.pid != self._process.pid:
            if self._process.poll() is not None:
                raise EmbeddedAwsFailed(self._last_words())
            if time.monotonic() > deadline:
                self.stop()
                raise EmbeddedAwsFailed(f"the embedded AWS did not come up in {START_S:.0f} s; see {self._log}")
            time.sleep(0.02)
        self._up = EmbeddedAws(address, self._data, self._process)
        return self._up

    def stop(self) -> None:
        """Ends it, up or not."""
        if self._up is not None:
            self._up.stop()
        elif self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _last_words(self) -> str:
        lines = [line for line in self._log.read_text(errors="replace").splitlines() if line.strip()]
        return lines[-1] if lines else f"the embedded AWS ended with {self._process.returncode}"


def clean(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without the caller's AWS and provider keys, which are none of the embedded AWS's business."""
    return {
        name: value
        for name, value in environ.items()
        if not name.startswith(("AWS_", "MOTO_")) and not name.endswith(("_API_KEY", "_TOKEN", "_SECRET"))
    }


def lock(path: Path) -> IO[bytes] | None:
    """Takes a lock that is held until the file is closed or the process ends; None while another holds it."""
    held = path.open("ab")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        return None
    return held


def is_locked(path: Path) -> bool:
    try:
        with path.open("rb") as probe:
            fcntl.flock(probe, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False
