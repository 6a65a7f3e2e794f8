"""The rollup function as it is deployed, on moto: functions/rollup/app.py with each of its events from events/."""

import asyncio
import importlib.util
import json
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import boto3
import pytest

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.bootstrap_rollup import build_rollup
from llm_gateway.domain.totals import Totals
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.local.tables import create_tables
from llm_gateway.rollup.handler import RollupHandler
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials
from tests.contract.engines import MotoServer, fresh_tables
from tests.contract.records import open_record

ROOT = Path(__file__).parents[2]
DAY = date(2026, 11, 21)
KEYS = AwsCredentials("testing", "testing")


class Context:
    """What Lambda says of the function's time."""

    def get_remaining_time_in_millis(self) -> int:
        return 60_000


def event(name: str) -> dict[str, Any]:
    return dict(json.loads((ROOT / "events" / f"{name}.json").read_text()))


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Iterator[Settings]:
    server, tables = MotoServer(), fresh_tables()
    for name, table in tables.items():
        monkeypatch.setenv(name, table)
    made = Settings.from_environment({"AWS_ENDPOINT_URL": server.url, "STACK_NAME": "rollup-function", **tables})
    client = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=server.url,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    )
    create_tables(client, made)
    yield made
    client.close()
    server.stop()


@pytest.fixture
def handler(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[RollupHandler]:
    monkeypatch.setenv("AWS_ENDPOINT_URL", str(settings.aws_endpoint_url))
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", KEYS.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", KEYS.secret_key)
    spec = importlib.util.spec_from_file_location("rollup_app", ROOT / "functions" / "rollup" / "app.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module.handler
    module.handler.close()


def in_ledger(settings: Settings, *records: RequestRecord) -> None:
    async def put() -> None:
        parts = build_rollup(settings, aws_credentials=KEYS)
        for record in records:
            await (parts.ledger.open if record.status == "open" else parts.ledger.settle)(record)
        await parts.http.close()

    asyncio.run(put())


def read(settings: Settings, request_id: str) -> tuple[RequestRecord | None, Totals]:
    async def get() -> tuple[RequestRecord | None, Totals]:
        parts = build_rollup(settings, aws_credentials=KEYS)
        rows = [totals async for _, totals in parts.totals.read(("organisation",), date(2020, 1, 1), date(2040, 1, 1))]
        record = await parts.ledger.get(request_id)
        await parts.http.close()
        return record, rows[0] if rows else Totals()

    return asyncio.run(get())


def test_a_stream_record_is_folded_once(settings: Settings, handler: RollupHandler) -> None:
    stream = event("rollup_stream")
    record = decode_record(stream["Records"][0]["dynamodb"]["NewImage"])
    in_ledger(settings, record)
    for _ in range(2):
        assert handler(stream, Context()) == {"batchItemFailures": []}
    _, totals = read(settings, record.request_id)
    assert (totals.calls, totals.cost_usd) == (1, Decimal("0.0009616"))


def test_a_message_of_the_fallback_queue_is_settled(settings: Settings, handler: RollupHandler) -> None:
    for _ in range(2):
        assert handler(event("rollup_fallback"), Context()) == {"batchItemFailures": []}
    record, _ = read(settings, "req_01JD2M8Q4W6ZK3V9T5X7Y1B2C4")
    assert record is not None
    assert record.status == "settled"
    assert record.holds != ("",)


def test_the_schedule_sweeps(settings: Settings, handler: RollupHandler) -> None:
    in_ledger(settings, open_record("req_dead", expires_at=1_770_000_000))
    assert handler(event("rollup_sweep"), Context())["abandoned"] == 1
    record, _ = read(settings, "req_dead")
    assert record is not None
    assert record.status == "abandoned"


def test_an_outage_fails_the_batch(settings: Settings, handler: RollupHandler) -> None:
    class Short:
        def get_remaining_time_in_millis(self) -> int:
            return 10_000

    stream = event("rollup_stream")
    client = boto3.client(
        "dynamodb",
        region_name="us-east-1",
        endpoint_url=settings.aws_endpoint_url,
        aws_access_key_id=KEYS.access_key,
        aws_secret_access_key=KEYS.secret_key,
    )
    client.delete_table(TableName=settings.usage_table)
    client.close()
    with pytest.raises(Exception, match="ResourceNotFound"):
        handler(stream, Short())
