"""Usage on the wire: a row of totals as JSON and as CSV, and a request's ledger entry."""

import csv
import io
from collections.abc import AsyncIterator, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final

from llm_gateway.domain.totals import Histogram, Totals
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.metering.cost import format_usd
from llm_gateway.pipeline.usage_queries import UsageRow
from llm_gateway.pipeline.usage_question import DAY

_TOKENS: Final = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "cached_audio_tokens",
    "output_audio_tokens",
)
_PERCENTILES: Final = (50, 95, 99)
_TIMES: Final = tuple(
    f"{kind}_{what}_ms" for kind in ("latency", "ttft") for what in ("mean", *(f"p{one}" for one in _PERCENTILES))
)
MEASURES: Final = ("calls", "errors", "abandoned", "unpriced", "estimated", *_TOKENS, "cost_usd", *_TIMES)
"""Names of what is counted, in their order; before them stand `day` and the dimensions that were asked for."""
_ROWS_AT_ONCE: Final = 200
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def render_row(row: UsageRow) -> dict[str, Any]:
    """One row of `/usage`. Money is an exact decimal string, times are whole milliseconds or null."""
    day = {} if row.day is None else {DAY: row.day.isoformat()}
    return {**day, **{str(name): value for name, value in row.values.items()}, **render_totals(row.totals)}


def render_totals(totals: Totals) -> dict[str, Any]:
    return {
        "calls": totals.calls,
        "errors": totals.errors,
        "abandoned": totals.abandoned,
        "unpriced": totals.unpriced,
        "estimated": totals.estimated,
        **{name: getattr(totals, name) for name in _TOKENS},
        "cost_usd": format_usd(totals.cost_usd),
        **_times("latency", totals.latency_ms, totals.latency),
        **_times("ttft", totals.ttft_ms, totals.ttft),
    }


def _times(kind: str, total_ms: int, histogram: Histogram) -> dict[str, int | None]:
    count = histogram.count
    mean = {f"{kind}_mean_ms": round(total_ms / count) if count > 0 else None}
    return mean | {f"{kind}_p{one}_ms": _whole(histogram.percentile(one)) for one in _PERCENTILES}


def _whole(milliseconds: float | None) -> int | None:
    return None if milliseconds is None else round(milliseconds)


def render_record(record: RequestRecord, *, with_provider_cost: bool = False) -> dict[str, Any]:
    """The public shape of a ledger entry.

    `cost_usd` is an exact decimal string; where no price is known it is null, and `unpriced` is true. What the provider
    bills beneath a team's markup is for the operator alone: `with_provider_cost`.
    """
    usage, several = record.usage, len(record.attempts) > 1
    shown: dict[str, Any] = {
        "request_id": record.request_id,
        "at": datetime.fromtimestamp(record.at_ms / 1000, UTC).isoformat(timespec="milliseconds"),
        "endpoint": record.endpoint,
        "team": record.team,
        "key": record.key,
        "user": record.user,
        "tags": record.tags,
        "requested_model": record.requested_model,
        "provider": record.provider,
        "routed_model": record.routed_model,
        "answered_model": record.answered_model,
        "stream": record.stream,
        "status": record.status,
        "finish_reason": record.finish_reason,
        "http_status": record.http_status,
        "error_code": record.error_code,
        "usage": {name: count for name in _COUNTS if (count := getattr(usage, name)) or name in _ALWAYS_SHOWN},
        "service_tier": usage.service_tier,
        "estimated": usage.estimated,
        "cost_usd": None if record.cost_usd is None else format_usd(record.cost_usd),
        "unpriced": record.status in ("settled", "failed") and record.cost_usd is None,
        "price_version": record.price_version,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "attempts": [
            {
                "provider": attempt.provider,
                "model": attempt.model,
                "status": attempt.status,
                "error": attempt.error,
                "latency_ms": attempt.latency_ms,
                "key_source": attempt.key_source,
                "key_name": attempt.key_name,
                "input_tokens": attempt.input_tokens if several else None,
                "output_tokens": attempt.output_tokens if several else None,
                "cost_usd": None if attempt.cost_usd is None else format_usd(attempt.cost_usd),
            }
            for attempt in record.attempts
        ],
    }
    if record.over_limits:
        shown["over_limits"] = list(record.over_limits)
    if usage.inference_geo is not None:
        shown["inference_geo"] = usage.inference_geo
    if with_provider_cost and record.provider_cost_usd is not None:
        shown["provider_cost_usd"] = format_usd(record.provider_cost_usd)
    if record.status == "open" and record.reserved_usd is not None:
        shown["reserved_usd"] = format_usd(record.reserved_usd)
    return shown


async def csv_chunks(rows: AsyncIterator[UsageRow], columns: tuple[str, ...]) -> AsyncIterator[bytes]:
    """A header and the rows (RFC 4180), as they come; `columns` are the day and the dimensions, in order."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow((*columns, *MEASURES))
    waiting = 0
    async for row in rows:
        writer.writerow(_cells(render_row(row), columns))
        waiting += 1
        if waiting == _ROWS_AT_ONCE:
            yield text.getvalue().encode()
            text.seek(0)
            text.truncate()
            waiting = 0
    yield text.getvalue().encode()


def _cells(row: Mapping[str, Any], columns: tuple[str, ...]) -> Iterator[object]:
    for name in columns:
        yield _inert(row[name])
    for name in MEASURES:
        yield row[name]


def _inert(value: str | None) -> str:
    """Users and tags are callers' words: a spreadsheet must not take one for a formula.

    https://owasp.org/www-community/attacks/CSV_Injection
    """
    if value is None:
        return ""
    return f"'{value}" if value.startswith(_FORMULA) else value


_ALWAYS_SHOWN = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "cache_write_1h_tokens",
    "output_tokens",
    "reasoning_tokens",
    "input_audio_tokens",
    "output_audio_tokens",
)
_COUNTS = (
    *_ALWAYS_SHOWN,
    "cached_audio_tokens",
    "input_image_tokens",
    "cached_image_tokens",
    "output_image_tokens",
    "input_video_tokens",
    "output_video_tokens",
    "citation_tokens",
    "web_searches",
)
