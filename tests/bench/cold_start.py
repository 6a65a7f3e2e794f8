"""Cold starts: imports in fresh processes, and a whole start of the runtime until its first answer.

Everything runs as the deployed function does, from the built layers and nothing else of this machine's packages.
"""

import base64
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.bench.apps import deployed_environment
from tests.bench.processes import ROOT, StandIns, bare_environ
from tests.bench.wire import KEY, request_body
from tests.fakes.lambda_platform import LambdaPlatform

INTERPRETER = [sys.executable, "-P", "-B", "-s"]
"""With the flags of `functions/gateway/run`. A virtual environment's own packages are kept out by `_ISOLATED`."""

ENTRIES = {
    "gateway, streamed": "import llm_gateway.runtime.__main__\n"
    "from llm_gateway.bootstrap import build_lambda_app as entry",
    "gateway, buffered": "import runpy\nentry = lambda: runpy.run_path(FUNCTION)",
    "empty FastAPI": "from tests.bench.empty import handler as entry",
}
"""What is timed, in each fresh process: this import, and `entry()`."""
EMPTY = "empty FastAPI"

_TIMED = """
import sys, time
sys.path[:] = [entry for entry in sys.path if "site-packages" not in entry or entry in PATHS]
wall, cpu = time.perf_counter(), time.process_time()
{entry}
entry()
spent = (time.process_time() - cpu) * 1e3, (time.perf_counter() - wall) * 1e3
tls = time.process_time()
import ssl
ssl.create_default_context()
sys.stdout.write("BENCH %r" % [*spent, (time.process_time() - tls) * 1e3, len(sys.modules)])
"""


@dataclass(frozen=True, slots=True)
class Import:
    """One fresh process. Milliseconds of CPU and of wall time from the first import to the app that is built."""

    cpu_ms: float
    wall_ms: float
    roots_ms: float
    """What loading the system's trusted roots takes once more; the gateway does it at start, the empty app never."""
    modules: int
