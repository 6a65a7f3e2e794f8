"""A gateway in a process of its own whose idempotent answers are in a DynamoDB that others share; the rest is in memory.

    with GatewayOnStore(engine_url, table, CONFIG) as gateway:
        httpx.post(f"{gateway.root}/v1/chat/completions", headers=AUTH, …)

It ends when its standard input does, or by `kill()`.
"""

import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.fakes.gateway_app import KEY, GatewayApp

AUTH = {"Authorization": f"Bearer {KEY}"}
ROOT = Path(__file__).resolve().parents[2]


class GatewayOnStore:
    """The parent's side."""

    def __init__(self, store_url: str, table: str, config: str) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.fakes.gateway_on_store", store_url, table, config],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        assert self._process.stdout is not None
        self.root = self._process.stdout.readline().decode().strip()
        assert self.root, "the gateway did not start"

    def kill(self) -> None:
        """A crash: nothing of it gets another word in."""
        self._process.kill()
        self._process.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.communicate(timeout=20)


def main(store_url: str, table: str, config: str) -> None:
    """The child's side."""
    store = AwsJsonClient(
        open_client(),
        service="dynamodb",
        region="us-east-1",
        credentials=StaticCredentials(AwsCredentials("testing", "testing")),
        endpoint_url=store_url,
        connect_s=5.0,
        timeout_s=20.0,  # moto takes one call at a time, and the machine may be busy
    )
    with GatewayApp(config, answers=DynamoDBAnswers(store, table)) as app:
        print(app.root, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main(*sys.argv[1:])
