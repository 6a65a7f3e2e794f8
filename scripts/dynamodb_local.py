"""Starts DynamoDB Local, AWS's own engine, for the contract suite; fetched once by Maven into `build/dynamodb-local/`.

    python scripts/dynamodb_local.py --port 8001     # becomes the engine: SIGTERM ends it, SIGSTOP hangs it
    python scripts/dynamodb_local.py --fetch         # only fetches

Needs Java 17 and, for the fetch, Maven. The data is in memory, any credentials and Region do, and it listens on every
interface: for tests, never for a machine that others reach.
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/DynamoDBLocal.html
"""

import argparse
import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_POM = _ROOT / "scripts" / "dynamodb-local" / "pom.xml"
_LIB = _ROOT / "build" / "dynamodb-local" / "lib"
_MAIN = "software.amazon.dynamodb.services.local.main.ServerRunner"


class CannotRun(Exception):
    """Java or Maven is missing, or Maven failed; the message says which."""


def fetch(lib: Path = _LIB) -> Path:
    """The directory with the engine's jars, filled if need be. Raises `CannotRun`."""
    version = re.search(r"<artifactId>DynamoDBLocal</artifactId>\s*<version>([^<]+)</version>", _POM.read_text())
    if version is None:
        raise CannotRun(f"{_POM.name} names no DynamoDBLocal version")
    lib.parent.mkdir(parents=True, exist_ok=True)
    with (lib.parent / "lock").open("w") as lock:  # two test processes may fetch at once; the second finds it done
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (lib / f"DynamoDBLocal-{version[1]}.jar").exists():
            _fill(lib)
    return lib


def _fill(lib: Path) -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise CannotRun("Maven (mvn) is not installed")
    part = lib.with_name(f"lib.{os.getpid()}")  # renamed when whole: an interrupted fetch leaves no half of an engine
    command = [maven, "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={part}"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        shutil.rmtree(part, ignore_errors=True)
        raise CannotRun(f"Maven failed: {(done.stdout + done.stderr).strip()[-500:]}")
    shutil.rmtree(lib, ignore_errors=True)
    part.rename(lib)


def command_line(lib: Path, port: int) -> list[str]:
    """Raises `CannotRun` without Java."""
    java = shutil.which("java")
    if java is None:
        raise CannotRun("Java is not installed")
    options = ["-Xmx256m", "-XX:TieredStopAtLevel=1", f"-Djava.library.path={lib}", "-cp", f"{lib}/*"]
    return [java, *options, _MAIN, "-inMemory", "-sharedDb", "-port", str(port)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--fetch", action="store_true", help="fetch the engine and stop")
    arguments = parser.parse_args()
    try:
        command = command_line(fetch(), arguments.port)
    except CannotRun as error:
        sys.exit(f"DynamoDB Local cannot run: {error}")
    if not arguments.fetch:
        os.execv(command[0], command)  # noqa: S606 - one process, so that a signal reaches the engine itself


if __name__ == "__main__":
    main()
