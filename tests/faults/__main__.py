"""`make faults`: a gateway before a provider that misbehaves in every way that is known, with a fallback and without.

Prints what each caller got, what the providers saw, and what was billed; exit code 1 where anything is not as it must
be. `python -m tests.faults stall 429` runs the cases whose names hold one of the words.
"""

import logging
import sys
import time
from collections.abc import Sequence
from itertools import pairwise

from rich.console import Console
from rich.table import Table

from tests.faults import flapping
from tests.faults.cases import CASES, REAL_TIME
from tests.faults.stage import Result, Stage, runs_of
from tests.faults.verdict import faults_of, since


def main(words: Sequence[str]) -> int:
    console = Console(width=max(Console().width, 210))
    logging.disable(logging.ERROR)  # a provider's every fault is in the gateway's log, and in the table
    began = time.monotonic()
    runs = [run for run in runs_of((*CASES, *REAL_TIME)) if not words or any(word in run.id for word in words)]
    with Stage(runs) as stage:
        results = stage.play()
        faults = [f"at the end: {leak}" for leak in stage.leaks()]
    table = _table()
    for run in runs:
        found = faults_of(results[run.id])
        faults += [f"{run.id}: {fault}" for fault in found]
        table.add_row(*_row(results[run.id]), "holds" if not found else "VIOLATED")
    if not runs and "flapping" not in words:
        console.print(f"no case is called so: {' '.join(words)}")
        return 2
    console.print(table)
    if not words or any(word in "flapping" for word in words):
        flapped = flapping.flap()
        faults += [f"flapping: {fault}" for fault in flapped.faults()]
        console.print("A flapping primary, twenty times as fast", style="italic")
        for line in flapped.told():
            console.print(f"  {line}", markup=False, highlight=False)
    for fault in faults:
        console.print(fault, style="red", markup=False, soft_wrap=True)
    verdict = "nothing a provider did broke a request" if not faults else f"{len(faults)} violations"
    console.print(f"{len(runs)} runs, {time.monotonic() - began:.0f} s; {verdict}")
    return 1 if faults else 0


def _table() -> Table:
    table = Table(title="What a provider does, and what comes of it", title_justify="left")
    for name in ("case", "wire", "asked", "fallback", "the caller got"):
        table.add_column(name, no_wrap=True)
    for name in ("seconds", "calls", "apart", "fallback's", "billed $"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ledger")
    table.add_column("verdict")
    return table


def _row(result: Result) -> list[str]:
    run, got, record = result.run, result.got, result.record
    ends = [second.at - since(first) for first, second in pairwise(result.primary)]
    apart = " ".join(f"{gap:.2f}" for gap in ends) or "-"
    told = "no record" if record is None else record.status
    rows = "" if record is None else ", ".join(f"{each.provider[0]} {each.error or 'ok'}" for each in record.attempts)
    return [
        run.case.name,
        run.wire.dialect.partition("_")[0],
        run.mode,
        "yes" if run.spared else "no",
        _got(result),
        f"{got.seconds:.2f}",
        str(len(result.primary)),
        apart,
        str(len(result.spare)),
        "-" if record is None or record.cost_usd is None else f"{record.cost_usd:f}",
        f"{told}: {rows}",
    ]


def _got(result: Result) -> str:
    got = result.got
    code = "" if got.error is None else f" {got.error.get('code') or got.error.get('type')}"
    if got.status != 200:
        return f"{got.status}{code}"
    words = len(got.text.split())
    return f"{words} words, then{code}" if got.error is not None else f"{words} words, {got.finish_reason}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
