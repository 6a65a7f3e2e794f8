"""The gateway as it is deployed, in processes of its own, on one DynamoDB that others share. No Secrets Manager.

    prepare(engine_url, 'gateway.toml as text')          # tables, registry, keys: once
    with GatewayOnDynamoDB(engine_url) as one, GatewayOnDynamoDB(engine_url) as other:
        httpx.post(f"{one.base_url}/chat/completions", headers={"Authorization": "Bearer sk-…"}, …)
        other.kill()

`llm-gateway run` would want a Secrets Manager at the same address. Here there are no secrets, so that the providers to
use are those without a credential.
"""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.bootstrap import Stores, assemble, lost_settlements, shared_health, usage_stores
from llm_gateway.catalog.config import parse_config
from llm_gateway.local.run import take_port
from llm_gateway.local.seed import client, seed_registry
from llm_gateway.local.serve import serve
from llm_gateway.local.tables import create_tables
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.dying_stores import DyingLedger, DyingScopes, Step

ROOT = Path(__file__).resolve().parents[2]
ADMIN_KEY = "sk-admin"
CREDENTIALS = AwsCredentials("testing", "testing")


def prepare(store_url: str, config: str) -> None:
    """Makes the tables and fills the registry."""
    settings = _settings(store_url)
    create_tables(client("dynamodb", settings, CREDENTIALS), settings)

    async def seed() -> None:
        http = open_client()
        aws = AwsJsonClient(
            http,
            service="dynamodb",
            region=settings.region,
            credentials=StaticCredentials(CREDENTIALS),
            endpoint_url=store_url,
            timeout_s=20.0,
        )
        try:
            await seed_registry(
                DynamoDBRegistry(aws, settings.registry_table), ADMIN_KEY, parse_config(config, "gateway.toml")
            )
        finally:
            await http.close()

    asyncio.run(seed())


class GatewayOnDynamoDB:
    """The parent's side. It takes nothing from the environment but where its interpreter and packages are."""

    def __init__(
        self, store_url: str, *, log: Path | None = None, queue_url: str | None = None, dies_at: Step | None = None
    ) -> None:
        """`queue_url` is where lost settlements go. The gateway dies at this step of a request under two limits."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
        package = f"{ROOT / 'layers' / 'core'}{os.pathsep}{ROOT}"
        output = None if log is None else log.open("ab")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.gateway_on_dynamodb", store_url, queue_url or "", dies_at or ""],
            cwd=ROOT,
            env={**kept, "PYTHONPATH": package, "PYTHONUNBUFFERED": "1"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
        )
        if output is not None:
            output.close()
        self._base_url = ""

    @property
    def base_url(self) -> str:
        """Blocks until it listens. Raises `RuntimeError` where it has ended instead."""
        if not self._base_url:
            assert self._process.stdout is not None
            self._base_url = self._process.stdout.readline().decode().strip()
        if not self._base_url:
            raise RuntimeError(f"the gateway ended with {self._process.wait()}")
        return self._base_url

    def kill(self) -> None:
        """A crash: nothing of it gets another word in."""
        self._process.kill()
        self._process.wait()

    def wait_dead(self, timeout: float = 20.0) -> None:
        """Raises `subprocess.TimeoutExpired`."""
        self._process.wait(timeout)

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


def main(store_url: str, queue_url: str, dies_at: Step | None) -> int:
    """The child's side."""
    listener = take_port(0)
    settings = _settings(store_url)
    http = open_client()

    def aws(service: str, url: str) -> AwsJsonClient:  # with the patience that the deployed one has
        credentials = StaticCredentials(CREDENTIALS)
        return AwsJsonClient(http, service=service, region=settings.region, credentials=credentials, endpoint_url=url)

    dynamodb = aws("dynamodb", store_url)
    ledger = DyingLedger(dynamodb, settings.ledger_table, dies_at)
    sqs_url = "/".join(queue_url.split("/")[:3])
    stores = Stores(
        registry=CachedRegistry(DynamoDBRegistry(dynamodb, settings.registry_table)),
        ledger=ledger,
        secrets=CachedSecrets(MemorySecrets()),
        answers=DynamoDBAnswers(dynamodb, settings.cache_table),
        scopes=DyingScopes(dynamodb, settings.ledger_table, dies_at, ledger, count=2),
        usage=lambda: usage_stores(dynamodb, settings),
        lost=lost_settlements(lambda: aws("sqs", sqs_url), queue_url or None),
        health=shared_health(dynamodb, settings),
    )
    app = assemble(settings, stores, http, RequestLog(open_logger(settings.log_level, settings.log_format)))
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    return serve(app, listener, ready=lambda: print(base_url, flush=True))


def _settings(store_url: str) -> Settings:
    return Settings.from_environment({"AWS_ENDPOINT_URL": store_url, "LOG_LEVEL": "WARNING", "LOG_FORMAT": "text"})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3] or None))  # type: ignore[arg-type]
