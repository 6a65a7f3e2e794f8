"""The ledger as a table in a file, for a warehouse: one row for each request that has ended.

Columns are only ever added, at the end. Parquet has them typed: `at` as milliseconds UTC, `cost_usd` as
decimal(38, 24), which is exact or an error; CSV has the same as text, ISO 8601 and plain decimals, and nothing where
there is no value.
"""

import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from operator import attrgetter
from pathlib import Path
from typing import Any, Final, Literal, Protocol

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_requests import DynamoDBRequests
from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.local.place import Place, StackError
from llm_gateway.metering.cost import format_usd
from llm_gateway.pipeline.usage_question import Days

Kind = Literal["text", "integer", "flag", "instant", "money"]
COLUMNS: Final[tuple[tuple[str, Kind], ...]] = (
    ("request_id", "text"),
    ("at", "instant"),
    ("endpoint", "text"),
    ("status", "text"),
    ("team", "text"),
    ("key", "text"),
    ("user", "text"),
    ("tags", "text"),
    ("requested_model", "text"),
    ("provider", "text"),
    ("routed_model", "text"),
    ("answered_model", "text"),
    ("stream", "flag"),
    ("finish_reason", "text"),
    ("http_status", "integer"),
    ("error_code", "text"),
    ("input_tokens", "integer"),
    ("cached_tokens", "integer"),
    ("cache_write_tokens", "integer"),
    ("cache_write_1h_tokens", "integer"),
    ("output_tokens", "integer"),
    ("reasoning_tokens", "integer"),
    ("input_audio_tokens", "integer"),
    ("cached_audio_tokens", "integer"),
    ("output_audio_tokens", "integer"),
    ("estimated", "flag"),
    ("cost_usd", "money"),
    ("price_version", "text"),
    ("latency_ms", "integer"),
    ("ttft_ms", "integer"),
    ("attempts", "integer"),
)
NAMES: Final = tuple(name for name, _ in COLUMNS)
_DIGITS: Final = 38
_SCALE: Final = 24
"""Of dollars in Parquet: fourteen digits before the point, and more behind it than any price per token has."""
_ROW_GROUP: Final = 50_000
_OF_USAGE: Final = frozenset((*(name for name in NAMES if name.endswith("_tokens")), "estimated"))
_SPECIAL: Final = {"at", "tags", "attempts"}
_plain = {name: attrgetter(f"usage.{name}" if name in _OF_USAGE else name) for name in NAMES if name not in _SPECIAL}

Row = tuple[Any, ...]


def row_of(record: RequestRecord) -> Row:
    """The record's values in the order of `COLUMNS`. `tags` is a JSON object, `attempts` how many there were."""
    special: dict[str, Any] = {
        "at": datetime.fromtimestamp(record.at_ms / 1000, UTC),
        "tags": json.dumps(record.tags, ensure_ascii=False, sort_keys=True),
        "attempts": len(record.attempts),
    }
    return tuple(special[name] if name in special else _plain[name](record) for name in NAMES)


class Sink(Protocol):
    def write(self, rows: Sequence[Row]) -> None: ...

    def close(self) -> None: ...


class CsvSink:
    """RFC 4180, UTF-8."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file)
        self._writer.writerow(NAMES)

    def write(self, rows: Sequence[Row]) -> None:
        self._writer.writerows(
            [_text(value, kind) for value, (_, kind) in zip(row, COLUMNS, strict=True)] for row in rows
        )

    def close(self) -> None:
        self._file.close()


class ParquetSink:
    """Raises `StackError` where pyarrow is not installed, or a cost does not fit its column exactly."""

    def __init__(self, path: Path) -> None:
        try:
            import pyarrow as pa
            from pyarrow import parquet
        except ImportError as error:
            raise StackError("Parquet needs pyarrow: install llm-gateway[export], or take --format csv") from error
        types = {
            "text": pa.string(),
            "integer": pa.int64(),
            "flag": pa.bool_(),
            "instant": pa.timestamp("ms", tz="UTC"),
            "money": pa.decimal128(_DIGITS, _SCALE),
        }
        self._arrow = pa
        self._schema = pa.schema([(name, types[kind]) for name, kind in COLUMNS])
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[Row] = []

    def write(self, rows: Sequence[Row]) -> None:
        self._rows += rows
        if len(self._rows) >= _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        if self._rows:
            self._flush()
        self._writer.close()

    def _flush(self) -> None:
        columns = zip(self._schema, zip(*self._rows, strict=True), strict=True)
        try:
            arrays = [self._arrow.array(values, type=field.type) for field, values in columns]
        except self._arrow.ArrowInvalid as error:
            raise StackError(f"a value does not fit its column exactly ({error}); take --format csv") from error
        self._writer.write_batch(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows.clear()


@contextmanager
def open_sink(out: Path, form: str) -> Iterator[Sink]:
    """Writes beside `out`, and replaces it once all is there: a broken export leaves what was. Raises `StackError`."""
    part = out.with_name(f"{out.name}.part")
    try:
        sink: Sink = CsvSink(part) if form == "csv" else ParquetSink(part)
        try:
            yield sink
        finally:
            sink.close()
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)


class Export:
    """Reads by the index of lists, so that only the days' requests are read."""

    def __init__(self, place: Place, dynamodb: AwsJsonClient, sink: Sink) -> None:
        self._requests = DynamoDBRequests(dynamodb, place.ledger_table)
        self._totals = DynamoDBTotals(dynamodb, place.usage_table, place.ledger_table)
        self._sink = sink

    async def run(self, days: Days) -> int:
        """How many were written, day by day. Raises `errors.Unavailable`, `OSError`, `StackError`."""
        written = 0
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("exporting", total=await self._expected(days) or None)
            day = days.first
            while day <= days.last:
                progress.update(task, description=str(day))
                async for records in self._requests.every(*Days(day, day).milliseconds()):
                    self._sink.write([row_of(record) for record in records])
                    written += len(records)
                    progress.update(task, completed=written)
                day += timedelta(days=1)
            progress.update(task, total=written)
        return written

    async def _expected(self, days: Days) -> int:
        """What the totals say: they may be seconds behind."""
        return sum([totals.calls async for _, totals in self._totals.read(("organisation",), days.first, days.last)])


def _text(value: Any, kind: Kind) -> str:
    if value is None:
        return ""
    if kind == "money":
        return format_usd(value)
    if kind == "instant":
        return str(value.isoformat(timespec="milliseconds"))
    if kind == "flag":
        return "true" if value else "false"
    return str(value)
