"""DynamoDB calls and capacity for each request, on AWS's own engine: moto's capacity is made up, DynamoDB Local's is not.

On-demand tables are billed by these units:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/on-demand-capacity-mode.html

`python -m tests.bench.store URL` counts on the engine there, in a process whose log nobody reads.
"""

import asyncio
import json
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.bootstrap import Stores, assemble, usage_stores
from llm_gateway.local.tables import definition, shapes
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.bench.asgi import App, cpu_s
from tests.bench.processes import ROOT, bare_environ
from tests.bench.registry import LIMITS, fill
from tests.bench.stand_ins import Provider
from tests.bench.wire import ANSWER, PROVIDER_KEY, request_body, streamed_size
from tests.contract.engines import DynamoDBLocal, dynamodb_local_missing

REQUESTS = 50


class NoEngine(Exception):
    """DynamoDB Local cannot run here; the message says why."""


@dataclass(frozen=True, slots=True)
class Consumed:
    """Calls and capacity units by operation, of one thing that the gateway did."""

    calls: dict[str, float]
    units: dict[str, float]


Found = dict[str, dict[str, dict[str, float]]]
"""What was done -> `Consumed` as a dict."""


def consumption() -> Found:
    """By what was done: a buffered request, a stream, and what a new process reads before its first one.

    Raises `NoEngine`.
    """
    if missing := dynamodb_local_missing():
        raise NoEngine(missing)
    with tempfile.TemporaryDirectory() as folder:
        try:
            engine = DynamoDBLocal.start(Path(folder, "log"))
        except RuntimeError as error:
            raise NoEngine(str(error)) from error
        try:
            command = [sys.executable, "-m", "tests.bench.store", engine.url]
            output = subprocess.run(command, cwd=ROOT, env=bare_environ(), check=True, stdout=subprocess.PIPE).stdout
        finally:
            engine.stop()
    found: Found = json.loads(output.splitlines()[-1])
    return found


async def _consumption(url: str) -> dict[str, Consumed]:
    loop = asyncio.get_running_loop()
    provider = await loop.create_server(Provider, "127.0.0.1", 0)
    settings = Settings(AWS_ENDPOINT_URL=url, LOG_LEVEL="ERROR")
    http = open_client()
    credentials = StaticCredentials(AwsCredentials("AKIDEXAMPLE", "secret"))
    aws = AwsJsonClient(
        http, service="dynamodb", region="us-east-1", credentials=credentials, endpoint_url=url, count_capacity=True
    )
    for shape in shapes(settings):
        await aws.call("CreateTable", definition(shape))
    registry = DynamoDBRegistry(aws, settings.registry_table)
    log = RequestLog(open_logger(settings.log_level, settings.log_format))
    whole, stream = (request_body("json"), len(ANSWER)), (request_body("burst-200"), streamed_size(200))
    found: dict[str, Consumed] = {}
    for limits in LIMITS:
        await fill(
            DynamoDBRegistry(aws, settings.registry_table),
            f"http://127.0.0.1:{provider.sockets[0].getsockname()[1]}",
            limits,
        )
        app = cast("App", assemble(settings, _stores(aws, registry, settings), http, log))
        first = await _spent(aws, app, *whole, times=1)
        buffered = found[f"buffered request, {limits}"] = await _spent(aws, app, *whole, times=REQUESTS)
        if not found.keys() - {f"buffered request, {limits}"}:
            found["stream, no limits"] = await _spent(aws, app, *stream, times=REQUESTS)
            found["reads of a new process"] = _less(first, buffered)
    await http.close()
    provider.close()
    return found


def _stores(aws: AwsJsonClient, registry: DynamoDBRegistry, settings: Settings) -> Stores:
    return Stores(
        CachedRegistry(registry),
        DynamoDBLedger(aws, settings.ledger_table),
        CachedSecrets(MemorySecrets({f"{settings.stack}/provider/bench": PROVIDER_KEY})),
        DynamoDBAnswers(aws, settings.cache_table),
        DynamoDBScopes(aws, settings.ledger_table),
        lambda: usage_stores(aws, settings),
    )


async def _spent(aws: AwsJsonClient, app: App, body: bytes, least: int, *, times: int) -> Consumed:
    aws.calls.clear()
    aws.capacity.clear()
    await cpu_s(app, body, least, parallel=1, times=times)
    return Consumed(
        {name: count / times for name, count in aws.calls.items()},
        {name: units / times for name, units in aws.capacity.items()},
    )


def _less(first: Consumed, steady: Consumed) -> Consumed:
    """What the first request did beyond what every one does."""

    def left(some: dict[str, float], all_: dict[str, float]) -> dict[str, float]:
        return {name: rest for name, amount in some.items() if (rest := amount - all_.get(name, 0))}

    return Consumed(left(first.calls, steady.calls), left(first.units, steady.units))


if __name__ == "__main__":
    counted = asyncio.run(_consumption(sys.argv[1]))
    print(json.dumps({what: asdict(found) for what, found in counted.items()}))
