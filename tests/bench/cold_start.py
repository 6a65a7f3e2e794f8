"""Cold starts: imports in fresh processes, and a whole start of the runtime until its first answer.

Everything runs as the deployed function does: from the built layers, with the flags of `functions/gateway/run`, and
nothing else of this machine's packages.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.bench.apps import deployed_environment
from tests.bench.processes import ROOT, StandIns, bare_environ
from tests.bench.wire import KEY, request_body
from tests.fakes.lambda_platform import LambdaPlatform

INTERPRETER = [str(Path(sys.base_prefix, "bin", f"python3.{sys.version_info.minor}")), "-P", "-B", "-s"]
_FUNCTION = ROOT / "functions" / "gateway"

ENTRIES = {
    "gateway, streamed": (
        "import llm_gateway.runtime.__main__\nfrom llm_gateway.bootstrap import build_lambda_app\nbuild_lambda_app()"
    ),
    "gateway, buffered": "import app",
    "empty FastAPI": "from tests.bench.empty import handler\nhandler()",
}
"""What each fresh process does while it is timed."""
EMPTY = "empty FastAPI"

_TIMED = """
import json, sys, time
cpu = time.process_time()
{entry}
spent = time.process_time() - cpu
import ssl
again = time.process_time()
ssl.create_default_context()
roots = time.process_time() - again
sys.stdout.write(json.dumps({{"cpu_ms": spent * 1e3, "roots_ms": roots * 1e3, "modules": len(sys.modules)}}) + "\\n")
"""


@dataclass(frozen=True, slots=True)
class Imported:
    """One fresh process: CPU milliseconds from the first import to the app that is built, and modules loaded by then.

    `roots_ms` is what loading the system's trusted roots takes, done once more for measure: the gateway does it while it
    starts, the empty app, which calls nobody, never. `imports_ms` leaves it out.
    """

    cpu_ms: float
    roots_ms: float
    modules: int
    loads_roots: bool

    @property
    def imports_ms(self) -> float:
        return self.cpu_ms - self.roots_ms if self.loads_roots else self.cpu_ms


def import_once(entry: str, path: str, routes: int) -> Imported:
    """`path` is the layers', compiled or bare. Raises `subprocess.CalledProcessError`."""
    environ = {
        **bare_environ(),
        **deployed_environment("http://127.0.0.1:9"),
        "PYTHONPATH": f"{_FUNCTION}:{path}:{ROOT}",
        "BENCH_ROUTES": str(routes),
    }
    code = _TIMED.format(entry=ENTRIES[entry])
    done = subprocess.run([*INTERPRETER, "-c", code], env=environ, check=True, stdout=subprocess.PIPE, text=True)
    return Imported(**json.loads(done.stdout.splitlines()[-1]), loads_roots=entry != EMPTY)


@dataclass(frozen=True, slots=True)
class Start:
    """One process of the runtime. Wall milliseconds from its start to the caller's last byte of a first answer."""

    first_answer_ms: float
    rss_mb: float | None = None
    """Resident memory after all its requests, where some were asked for."""


def start_once(app: str, path: str, at: StandIns, routes: int, requests: int = 0) -> Start:
    """Starts the runtime behind a stand-in for the Runtime API and API Gateway, with a request that waits for it.

    `requests` more follow, one in ten a stream, before its memory is read. Raises `AssertionError` for a violation of
    the platform's protocol, `httpx.HTTPError` and `RuntimeError` for a failed request.
    """
    environ = {**deployed_environment(at.aws), "PYTHONPATH": f"{path}:{ROOT}", "BENCH_ROUTES": str(routes)}
    command = [*INTERPRETER, "-m", "llm_gateway.runtime"]
    begun = time.monotonic()
    with (
        LambdaPlatform(app, env=environ, command=command, wait_for_poll=False) as platform,
        httpx.Client(trust_env=False, timeout=30) as caller,
    ):
        _ask(caller, platform.url, "json")
        first_answer_ms = (time.monotonic() - begun) * 1e3
        for number in range(requests):
            _ask(caller, platform.url, "burst-20" if number % 10 == 9 else "json")
        return Start(first_answer_ms, resident_mb(platform.process.pid) if requests else None)


def _ask(caller: httpx.Client, url: str, case: str) -> None:
    headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
    answer = caller.post(f"{url}/v1/chat/completions", content=request_body(case), headers=headers)
    if answer.status_code != 200:
        raise RuntimeError(f"{answer.status_code}: {answer.text[:300]}")


def resident_mb(pid: int) -> float:
    kilobytes = subprocess.run(["ps", "-o", "rss=", "-p", str(pid)], check=True, stdout=subprocess.PIPE).stdout
    return int(kilobytes) / 1024
