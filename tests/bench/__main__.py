"""What the gateway costs, beside what it could cost at least: `make bench`, or `python -m tests.bench [--rounds N] [--only PART,…]`.

It is a measurement and not a test: it exits with 0 whether the targets hold or not. docs/performance.md says what each
figure means.
"""

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.bench.apps import APPS, PASSTHROUGHS
from tests.bench.cold_start import EMPTY, ENTRIES, Imported, import_once, start_once
from tests.bench.dialects import measure_dialects
from tests.bench.interpreter import runtime_python
from tests.bench.layers import built_layers
from tests.bench.processes import ROOT, stand_ins, workers
from tests.bench.report import Report, Row, Target, ratio
from tests.bench.store import NoEngine, consumption

JSON = ROOT / "build" / "bench.json"
_GATEWAY = "llm_gateway.bootstrap:build_lambda_app"
_EMPTY = "tests.bench.empty:build"
_COLD = "cold start"

Orders = Mapping[str, dict[str, Any]]
ONE_AT_A_TIME: Orders = {
    "request, one at a time": {"measure": "buffered", "parallel": 1, "times": 150},
    "stream event, written one by one": {"measure": "chunk", "kind": "flush", "short": 200, "long": 2200, "parallel": 1, "times": 4},
    "stream event, written 20 at a time": {"measure": "chunk", "kind": "burst", "short": 200, "long": 2200, "parallel": 1, "times": 6},
    "first byte of a stream": {"measure": "first_byte", "times": 60},
}  # fmt: skip
"""On processes that never had more than a few connections: httpx looks through all idle ones for every request."""
MANY_AT_A_TIME: Orders = {
    "request, 64 at a time": {"measure": "buffered", "parallel": 64, "times": 5},
    "stream event, each a wake-up, 20 streams": {"measure": "chunk", "kind": "paced", "short": 20, "long": 100, "parallel": 20, "times": 1},
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--only", default=",".join(PARTS), help=f"of {', '.join(PARTS)}; separated by commas")
    parser.add_argument("--json", type=Path, default=JSON)
    given = parser.parse_args()
    chosen = given.only.split(",")
    if unknown := set(chosen) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    python = runtime_python()
    if python is not None and python != Path(sys.executable):
        arguments = [str(python), "-m", "tests.bench", *sys.argv[1:]]
        sys.exit(
            subprocess.run(
                arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'layers' / 'core'}"}, check=False
            ).returncode
        )
    begun = time.monotonic()
    machine = f"{platform.machine()} {platform.system()}"
    report = Report({"Python": platform.python_version(), "on": machine, "CPUs": os.cpu_count()})
    for part in chosen:
        print(f"measuring {part} …", file=sys.stderr)
        PARTS[part](report, given.rounds)
    report.about["seconds"] = round(time.monotonic() - begun)
    report.show(Console(width=None if sys.stdout.isatty() else 160))
    report.write(given.json)


def measure_requests(report: Report, rounds: int) -> None:
    """CPU of requests and stream events, and the wait for a first byte, of all apps in turn."""
    routes = {"BENCH_ROUTES": str(count_routes())}
    found: dict[str, dict[str, list[float]]] = {}
    with stand_ins() as at:
        for orders, names in ((ONE_AT_A_TIME, (*APPS, "mangum")), (MANY_AT_A_TIME, tuple(APPS))):
            with workers(names, at, **routes) as processes:
                for number in range(rounds):
                    for case, order in orders.items():
                        for name in [*names[number % len(names) :], *names[: number % len(names)]]:
                            if name != "mangum" or order["measure"] == "buffered":
                                spent: float = processes[name].ask(order)
                                found.setdefault(case, {}).setdefault(name, []).append(spent)
    rows = {
        case: Row(case, "µs" if case.startswith("first") else "CPU µs", apps, 1 if "event" in case else 0)
        for case, apps in found.items()
    }
    report.rows += rows.values()
    for case in ("request, one at a time", "request, 64 at a time"):
        report.targets.append(ratio(case, rows[case], 2.3))
    for case in [case for case in rows if "event" in case]:
        report.targets.append(ratio(case, rows[case], 1.5))
    first = rows["first byte of a stream"].rounds
    cheapest = min(PASSTHROUGHS, key=lambda name: sorted(first[name])[len(first[name]) // 2])
    added = [ours - theirs for ours, theirs in zip(first["gateway"], first[cheapest], strict=True)]
    report.rows.append(Row(f"first byte, added to {cheapest}'s", "µs", {"gateway": added}))


def measure_cold_start(report: Report, rounds: int) -> None:
    """Imports with and without bytecode, first answers, the layers' size, memory."""
    routes = count_routes()
    try:
        with built_layers() as layers, stand_ins() as at:
            imports = _imports(layers.compiled, layers.bare, routes, rounds)
            answers: dict[str, list[float]] = {"gateway, streamed": [], EMPTY: []}
            for _ in range(rounds):
                for name, app in (("gateway, streamed", _GATEWAY), (EMPTY, _EMPTY)):
                    answers[name].append(start_once(app, layers.compiled, at, routes).first_answer_ms)
            memory = start_once(_GATEWAY, layers.compiled, at, routes, requests=1000).rss_mb
    except subprocess.CalledProcessError as error:
        report.not_measured["cold start"] = (error.stderr or b"").decode().strip() or str(error)
        return
    assert memory is not None
    report.rows += [
        *imports,
        Row("process start to first answer", "ms", answers, table=_COLD),
        Row("RSS after 1,000 requests", "MB", {"gateway, streamed": [memory]}, 1, table=_COLD),
        Row("layers, unzipped with bytecode", "MB", {"gateway, streamed": [layers.megabytes]}, 1, table=_COLD),
    ]
    report.targets += [
        *(ratio(f"import, {entry}", imports[0], 1.2, [EMPTY], entry) for entry in ENTRIES if entry != EMPTY),
        Target("layers, unzipped with bytecode", layers.megabytes, 40, "MB"),
        Target("RSS after 1,000 requests", memory, 80, "MB"),
    ]


def _imports(compiled: str, bare: str, routes: int, rounds: int) -> list[Row]:
    with_bytecode: dict[str, list[Imported]] = {entry: [] for entry in ENTRIES}
    without: dict[str, list[Imported]] = {entry: [] for entry in ENTRIES}
    for number in range(rounds * 2):
        for entry in ENTRIES:
            with_bytecode[entry].append(import_once(entry, compiled, routes))
            if number % 4 == 0:
                without[entry].append(import_once(entry, bare, routes))

    def of(found: Mapping[str, list[Imported]], figure: Callable[[Imported], float]) -> dict[str, list[float]]:
        return {entry: [figure(one) for one in every] for entry, every in found.items()}

    gateway = {entry: every for entry, every in with_bytecode.items() if entry != EMPTY}
    return [
        Row("import, with bytecode", "CPU ms", of(with_bytecode, lambda one: one.imports_ms), table=_COLD),
        Row("import, without", "CPU ms", of(without, lambda one: one.imports_ms), table=_COLD),
        Row("trusted roots, on top", "CPU ms", of(gateway, lambda one: one.roots_ms), table=_COLD),
        Row("modules", "", {entry: [every[0].modules] for entry, every in with_bytecode.items()}, table=_COLD),
    ]


def measure_store(report: Report, _rounds: int) -> None:
    """DynamoDB calls and units."""
    try:
        report.dynamodb = consumption()
    except NoEngine as error:
        report.not_measured["DynamoDB calls and units"] = str(error)


def count_routes() -> int:
    """The gateway's own: so many the empty app has."""
    from llm_gateway.bootstrap import build_app
    from llm_gateway.settings import Settings
    from llm_gateway.upstream.credentials import AwsCredentials

    app: Any = build_app(Settings(), aws_credentials=AwsCredentials("AKIDEXAMPLE", "secret"))
    while not hasattr(app, "routes"):
        app = app._app  # the layers around FastAPI
    return len(app.routes)


PARTS: dict[str, Callable[[Report, int], None]] = {
    "requests": measure_requests,
    "dialects": measure_dialects,
    "cold-start": measure_cold_start,
    "store": measure_store,
}


if __name__ == "__main__":
    main()
