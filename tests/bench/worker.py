"""One app in one process, measured on command: `python -m tests.bench.worker APP PROVIDER_URL AWS_URL`.

Each line of standard input is a JSON object `{"measure": NAME, …}` with the arguments of that function below; each
answer is a line with a number, in µs; an order that is new is carried out once before it counts. What the app logs goes to /dev/null, through the same system calls as anywhere.
"""

import asyncio
import gc
import json
import os
import statistics
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from tests.bench import empty
from tests.bench.apps import APPS
from tests.bench.asgi import App, cpu_s, first_byte_s
from tests.bench.wire import ANSWER, request_body, streamed_size

ROOT = Path(__file__).parents[2]
_MICRO = 1e6


async def buffered(app: App, *, parallel: int, times: int) -> float:
    """CPU µs of one request."""
    spent = await cpu_s(app, request_body("json"), len(ANSWER), parallel=parallel, times=times)
    return spent / (parallel * times) * _MICRO


async def chunk(app: App, *, kind: str, short: int, long: int, parallel: int, times: int) -> float:
    """CPU µs of one event: the slope between a short stream and a long one, so that the request itself drops out."""
    spent = {short: 0.0, long: 0.0}
    for _ in range(times):
        for events in spent:
            body = request_body(f"{kind}-{events}")
            spent[events] += await cpu_s(app, body, streamed_size(events), parallel=parallel, times=1)
    return (spent[long] - spent[short]) / ((long - short) * parallel * times) * _MICRO


async def first_byte(app: App, *, times: int) -> float:
    """Wall µs until the first byte of a stream: the median of so many."""
    return statistics.median(await first_byte_s(app, request_body("burst-20"), streamed_size(20), times)) * _MICRO


MEASURES: dict[str, Callable[..., Awaitable[float]]] = {"buffered": buffered, "chunk": chunk, "first_byte": first_byte}


async def work(name: str, provider: str, aws: str, answers: int) -> None:
    async with APPS[name](provider, aws) as app:
        for body, least in ((request_body("json"), len(ANSWER)), (request_body("burst-20"), streamed_size(20))):
            await cpu_s(app, body, least, parallel=1, times=50)
        settle()
        warm: set[str] = set()
        with os.fdopen(answers, "w") as out:
            for line in sys.stdin:
                order: dict[str, Any] = json.loads(line)
                measure = MEASURES[order.pop("measure")]
                if line not in warm:
                    await measure(app, **order)  # opens as many connections as the case takes
                    warm.add(line)
                result = await measure(app, **order)
                print(json.dumps(result), file=out, flush=True)


def mangum(answers: int) -> None:
    """The empty app, by the event that API Gateway sends: Mangum is called synchronously and takes one at a time."""
    handler = empty.handler()
    event = json.loads((ROOT / "events" / "rest_chat.json").read_text())
    context: Any = object()
    asyncio.set_event_loop(asyncio.new_event_loop())

    def requests(times: int) -> float:
        begun = time.process_time()
        for _ in range(times):
            if handler(event, context)["statusCode"] != 200:
                raise RuntimeError("the empty app refused")
        return (time.process_time() - begun) / times * _MICRO

    requests(200)
    settle()
    with os.fdopen(answers, "w") as out:
        for line in sys.stdin:
            print(json.dumps(requests(json.loads(line)["times"])), file=out, flush=True)


def settle() -> None:
    """As the runtime does after start-up: what is loaded is not looked at by the garbage collector again."""
    gc.collect()
    gc.freeze()


def main() -> None:
    name, provider, aws = sys.argv[1:]
    answers = os.dup(1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if name == "mangum":
        mangum(answers)
    else:
        asyncio.run(work(name, provider, aws, answers))


if __name__ == "__main__":
    main()
