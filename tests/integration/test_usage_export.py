"""`llm-gateway usage export`: what is in the ledger is in the file, typed and to the last digit."""

import csv
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet
from typer.testing import CliRunner

from llm_gateway.adapters.aws_json import AwsError, AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.domain.usage import RequestRecord, Usage
from llm_gateway.local import usage_export
from llm_gateway.local.cli import app
from llm_gateway.local.run import read_settings
from llm_gateway.local.tables import definition, shapes
from llm_gateway.upstream.client import open_client
from tests.contract.conftest import CREDENTIALS
from tests.contract.engines import MotoServer
from tests.contract.records import open_record, plain_record

NOON = int(datetime(2026, 11, 5, 12, tzinfo=UTC).timestamp() * 1000)
DAY = 86_400_000
RECORDS = [
    plain_record("req_1", at_ms=NOON, tags={"größe": "XL", "a": "1"}, cost_usd=Decimal("0.000000000000000000000001")),
    plain_record("req_2", at_ms=NOON + DAY, cost_usd=None, usage=Usage(7, 8, estimated=True), user='=1+"1"\n, x'),
    plain_record("req_3", at_ms=NOON + 2 * DAY, cost_usd=Decimal("12345678901234.5"), status="failed", ttft_ms=None),
    plain_record("req_4", at_ms=NOON + 3 * DAY, key="another", cost_usd=Decimal(0)),
]
FIRST, LAST = "2026-11-05", "2026-11-07"


@pytest.fixture(scope="module")
def moto() -> Iterator[MotoServer]:
    server = MotoServer()
    yield server
    server.stop()


@pytest.fixture
async def ledger(moto: MotoServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[DynamoDBLedger]:
    """Of the place that the command finds in its environment."""
    settings = read_settings({})
    http = open_client()
    client = AwsJsonClient(
        http, service="dynamodb", region="us-east-1", credentials=CREDENTIALS, endpoint_url=moto.url, timeout_s=20
    )
    for shape in shapes(settings):
        # All moto servers of a process share one state, and these names are every local gateway's.
        with suppress(AwsError):
            await client.call("DeleteTable", {"TableName": shape.name})
        await client.call("CreateTable", definition(shape))
    ledger = DynamoDBLedger(client, settings.ledger_table)
    for record in RECORDS:
        await ledger.settle(record)
    await ledger.open(open_record("req_open", at_ms=NOON))
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    monkeypatch.chdir(tmp_path)
    yield ledger
    await http.close()


def export(out: Path, *more: str, first: str = FIRST, last: str = LAST) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["usage", "export", "--from", first, "--to", last, "--out", str(out), *more])
    return done.exit_code, done.stderr


def run_outside_the_loop(out: Path, *more: str, first: str = FIRST, last: str = LAST) -> tuple[int, str]:
    """The command runs an event loop of its own, which a test's fixtures leave no room for in this thread."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: export(out, *more, first=first, last=last)).result()


async def test_parquet(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    out = tmp_path / "usage.parquet"
    code, told = run_outside_the_loop(out)
    assert (code, "3 requests of 2026-11-05 to 2026-11-07" in told) == (0, True), told
    table = parquet.read_table(out)
    assert table.schema.names == list(usage_export.NAMES)
    assert table.schema.field("cost_usd").type == pa.decimal128(38, 24)
    assert table.schema.field("at").type == pa.timestamp("ms", tz="UTC")
    rows = {row["request_id"]: row for row in table.to_pylist()}
    assert set(rows) == {"req_1", "req_2", "req_3"}
    for record in RECORDS[:3]:
        assert rows[record.request_id] == expected(record)
    assert names_in(tmp_path) == ["usage.parquet"]


def names_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def expected(record: RequestRecord) -> dict[str, object]:
    return dict(zip(usage_export.NAMES, usage_export.row_of(record), strict=True))


async def test_csv(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    out = tmp_path / "usage.csv"
    out.write_text("what was there")
    code, told = run_outside_the_loop(out, "--format", "csv")
    assert code == 0, told
    with out.open(encoding="utf-8", newline="") as file:
        rows = {row["request_id"]: row for row in csv.DictReader(file)}
    assert {name: row["cost_usd"] for name, row in rows.items()} == {
        "req_1": "0.000000000000000000000001",
        "req_2": "",
        "req_3": "12345678901234.5",
    }
    assert rows["req_1"]["at"] == "2026-11-05T12:00:00.000+00:00"
    assert json.loads(rows["req_1"]["tags"]) == {"größe": "XL", "a": "1"}
    assert (rows["req_2"]["user"], rows["req_2"]["estimated"]) == ('=1+"1"\n, x', "true")
    assert rows["req_3"]["ttft_ms"] == ""


async def test_nothing_is_a_table_too(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    out = tmp_path / "none.parquet"
    code, told = run_outside_the_loop(out, first="2026-01-01", last="2026-01-31")
    assert (code, "0 requests" in told) == (0, True), told
    assert parquet.read_table(out).num_rows == 0


async def test_what_does_not_fit_exactly_is_refused_and_nothing_written(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    await ledger.settle(replace(RECORDS[0], request_id="req_5", cost_usd=Decimal("1E-25")))
    out = tmp_path / "usage.parquet"
    out.write_text("what was there")
    code, told = run_outside_the_loop(out)
    assert code == 1
    assert "take --format csv" in told
    assert out.read_text() == "what was there"
    assert names_in(tmp_path) == ["usage.parquet"]
    assert run_outside_the_loop(tmp_path / "usage.csv", "--format", "csv")[0] == 0


async def test_faults_are_told_in_a_line(ledger: DynamoDBLedger, tmp_path: Path) -> None:
    out = tmp_path / "usage.csv"
    assert run_outside_the_loop(out, first=LAST, last=FIRST) == (
        3,
        "llm-gateway: `from` (2026-11-07) is after `to` (2026-11-05).\n",
    )
    assert run_outside_the_loop(out, first="5.11.2026")[0] == 3
    assert run_outside_the_loop(tmp_path / "missing" / "usage.csv", "--format", "csv")[0] == 1
    assert not out.exists()


@pytest.mark.parametrize("count", [0, 1, 7])
def test_row_groups_join(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage_export, "_ROW_GROUP", 3)
    out = tmp_path / "usage.parquet"
    with usage_export.open_sink(out, "parquet") as sink:
        for number in range(count):
            sink.write([usage_export.row_of(plain_record(f"req_{number}"))])
    assert parquet.read_table(out)["request_id"].to_pylist() == [f"req_{number}" for number in range(count)]
