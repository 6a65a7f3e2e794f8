"""What importing the library costs, against what it could not do without anyway.

python -m tests.bench.library_import
"""

import subprocess
import sys
from statistics import median

from tests.bench.processes import bare_environ

LIBRARY = "from llm_gateway import Gateway"
BASELINE = "from pydantic import BaseModel\nfrom llm_gateway.upstream.client import open_client"
"""Named from pydantic, and not only `import pydantic`, which loads nothing before it is asked for something."""

_TIMED = "import time\nbegan = time.process_time()\n{code}\nprint((time.process_time() - began) * 1e3)"


def cpu_ms(code: str, processes: int) -> list[float]:
    """CPU milliseconds of `code` in as many fresh processes. Raises `subprocess.CalledProcessError`."""
    command = [sys.executable, "-c", _TIMED.format(code=code)]
    runs = (
        subprocess.run(command, env=bare_environ(), check=True, stdout=subprocess.PIPE, text=True)
        for _ in range(processes)
    )
    return [float(run.stdout) for run in runs]


def main() -> None:
    library, baseline = cpu_ms(LIBRARY, 15), cpu_ms(BASELINE, 15)
    for name, spent in (("the library", library), ("pydantic and the upstream client", baseline)):
        print(f"importing {name}: {median(spent):.0f} ms of CPU at the median, {min(spent):.0f} at best")
    print(f"{min(library) / min(baseline):.2f} times as much")


if __name__ == "__main__":
    main()
