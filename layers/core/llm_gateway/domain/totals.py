"""Daily totals: what a day's requests came to, by whom and by what. Pure.

A request counts in the day (UTC) in which it was asked (`RequestRecord.at_ms`), once it has left `open`. What it counts
as may change once: an abandoned request may still be settled, and then its totals are corrected by the difference.
"""

from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, date, datetime
from decimal import Context, Decimal
from hashlib import sha256
from types import MappingProxyType
from typing import Any, Final, Literal

from llm_gateway.domain.usage import RequestRecord

Dimension = Literal["organisation", "team", "key", "user", "tag", "provider", "model"]
Group = tuple[Dimension, ...]
"""Dimensions that totals are kept by: one, or a pair in the order of `GROUPS`."""

DIMENSIONS: Final[tuple[Dimension, ...]] = ("organisation", "team", "key", "user", "tag", "provider", "model")
GROUPS: Final[tuple[Group, ...]] = (
    *((dimension,) for dimension in DIMENSIONS),
    ("team", "model"),
    ("key", "model"),
    ("provider", "model"),
    ("team", "key"),
)
_LONGEST_NAME: Final = 160
"""Bytes of a name in totals: two of them and a day fit a DynamoDB sort key (1,024), were every byte to be escaped."""
_EXACT: Final = Context(prec=60)
"""Sums of dollars never round: DynamoDB keeps 38 digits, the default context 28."""

_STEPS: Final = 4
BUCKETS_MS: Final = tuple(sorted({round(2 ** (step / _STEPS)) for step in range(20 * _STEPS + 1)}))
"""Upper bounds of the buckets, in milliseconds: 1 to 1,048,576 (17 minutes, longer than any request), each 19 % above
the last, or a millisecond. A bucket holds what is at most its bound and more than the one before."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many values fell into each bucket; `counts` has the buckets that hold any, by their bound."""

    counts: Mapping[int, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, milliseconds: int) -> "Histogram":
        """Of one value. What is longer than the last bucket is in the last."""
        return cls({BUCKETS_MS[min(bisect_left(BUCKETS_MS, milliseconds), len(BUCKETS_MS) - 1)]: 1})

    @property
    def count(self) -> int:
        return sum(self.counts.values())

    def percentile(self, percent: float) -> float | None:
        """Milliseconds that `percent` of 100 values do not exceed; None where there is no value.

        Within a bucket values are taken to be spread evenly, so it is at most a bucket's width off: 19 %.
        """
        count = self.count
        if count <= 0:
            return None
        rank = max(percent / 100 * count, 1e-9)
        below = 0
        for bound in sorted(self.counts):
            held = self.counts[bound]
            if held > 0 and below + held >= rank:
                index = bisect_left(BUCKETS_MS, bound)
                lower = BUCKETS_MS[index - 1] if index else 0
                return lower + (bound - lower) * (rank - below) / held
            below += held
        return float(max(self.counts))

    def combined(self, other: "Histogram", sign: int) -> "Histogram":
        counts = dict(self.counts)
        for bound, count in other.counts.items():
            counts[bound] = counts.get(bound, 0) + sign * count
        return Histogram({bound: count for bound, count in counts.items() if count})


@dataclass(frozen=True, slots=True)
class Totals:
    """What some requests came to together. Adding and subtracting are exact.

    Tokens are counted as `Usage` counts them: `input_tokens` with all that was read, `output_tokens` with reasoning
    and audio. `cost_usd` leaves out `unpriced` calls, of which the price book knew no price; `estimated` calls are
    those whose tokens no provider counted. Abandoned calls are no errors: nobody knows how they ended.
    """

    calls: int = 0
    errors: int = 0
    abandoned: int = 0
    unpriced: int = 0
    estimated: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    cache_write_1h_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    input_audio_tokens: int = 0
    cached_audio_tokens: int = 0
    output_audio_tokens: int = 0
    cost_usd: Decimal = Decimal(0)
    latency_ms: int = 0
    """The sum; `latency.count` calls have one."""
    ttft_ms: int = 0
    latency: Histogram = field(default_factory=Histogram)
    ttft: Histogram = field(default_factory=Histogram)

    def __add__(self, other: "Totals") -> "Totals":
        return self._combined(other, 1)

    def __sub__(self, other: "Totals") -> "Totals":
        return self._combined(other, -1)

    def __bool__(self) -> bool:
        """Whether there is anything in it."""
        return any(getattr(self, name) for name in COUNTS) or bool(
            self.cost_usd or self.latency.counts or self.ttft.counts
        )

    def _combined(self, other: "Totals", sign: int) -> "Totals":
        sums: dict[str, Any] = {name: getattr(self, name) + sign * getattr(other, name) for name in COUNTS}
        add = _EXACT.add if sign > 0 else _EXACT.subtract
        return Totals(
            **sums,
            cost_usd=add(self.cost_usd, other.cost_usd),
            latency=self.latency.combined(other.latency, sign),
            ttft=self.ttft.combined(other.ttft, sign),
        )


COUNTS: Final = tuple(one.name for one in fields(Totals) if one.type is int or one.type == "int")
"""Names of the fields of `Totals` that are whole numbers, in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """Where a total stands: `values` are those of the group's dimensions, in order; None where a request has none.

    There is one organisation, and its value is None: it keeps its history whatever it is called.
    A tag's value is `name=value`.
    """

    group: Group
    day: date
    values: tuple[str | None, ...]


def day_of(at_ms: int) -> date:
    """The day (UTC) that an instant in Unix milliseconds belongs to."""
    return datetime.fromtimestamp(at_ms // 1000, UTC).date()


def total_name(name: str | None) -> str | None:
    """`name` as totals call it: itself, or the beginning of a long one and a mark that tells it from others."""
    if name is None or len(name.encode()) <= _LONGEST_NAME:
        return name
    encoded = name.encode()
    kept = encoded[: _LONGEST_NAME - 19].decode(errors="ignore")
    return f"{kept}…{sha256(encoded).hexdigest()[:16]}"


def call_totals(record: RequestRecord) -> Totals:
    """What one request that has left `open` counts as."""
    usage = record.usage
    return Totals(
        calls=1,
        errors=int(record.status == "failed"),
        abandoned=int(record.status == "abandoned"),
        unpriced=int(record.cost_usd is None),
        estimated=int(usage.estimated),
        input_tokens=usage.input_tokens,
        cached_tokens=usage.cached_tokens,
        cache_write_tokens=usage.cache_write_tokens,
        cache_write_1h_tokens=usage.cache_write_1h_tokens,
        output_tokens=usage.output_tokens,
        reasoning_tokens=usage.reasoning_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cached_audio_tokens=usage.cached_audio_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        cost_usd=record.cost_usd or Decimal(0),
        latency_ms=record.latency_ms or 0,
        ttft_ms=record.ttft_ms or 0,
        latency=Histogram() if record.latency_ms is None else Histogram.of(record.latency_ms),
        ttft=Histogram() if record.ttft_ms is None else Histogram.of(record.ttft_ms),
    )


def rows_of(record: RequestRecord) -> Iterator[Row]:
    """Every row that a request counts in: one for each group, one for each of its tags, none for no tag.

    `model` is the one that was routed to. Any dimension but `tag` adds up to all requests.
    """
    names: dict[Dimension, Sequence[str | None]] = {
        "organisation": (None,),
        "team": (total_name(record.team),),
        "key": (total_name(record.key),),
        "user": (total_name(record.user),),
        "tag": tuple({total_name(f"{name}={value}"): None for name, value in record.tags.items()}),
        "provider": (total_name(record.provider),),
        "model": (total_name(record.routed_model),),
    }
    day = day_of(record.at_ms)
    for group in GROUPS:
        if len(group) == 1:
            for name in names[group[0]]:
                yield Row(group, day, (name,))
        else:
            yield Row(group, day, tuple(names[dimension][0] for dimension in group))


def difference(record: RequestRecord, before: RequestRecord | None) -> dict[Row, Totals]:
    """What changes in which rows when `record` counts, where `before` (its earlier state) counted already."""
    changes = {}
    if before is not None:
        taken = Totals() - call_totals(before)
        changes = dict.fromkeys(rows_of(before), taken)
    given = call_totals(record)
    for row in rows_of(record):
        changes[row] = changes[row] + given if row in changes else given
    return {row: change for row, change in changes.items() if change}
