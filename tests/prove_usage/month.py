"""A month of a busy gateway, generated: requests that differ, each made many times over, and what they come to."""

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from llm_gateway.adapters.attributes import Item, encode_record
from llm_gateway.adapters.dynamodb_ledger import LISTED, listed_shard
from llm_gateway.adapters.total_attributes import encode_totals, row_key
from llm_gateway.domain.sums import Sum
from llm_gateway.domain.totals import COUNTS, Histogram, Row, Totals, call_totals, rows_of
from llm_gateway.domain.usage import RequestRecord, Usage
from tests.contract.records import plain_record

FIRST_DAY = date(2026, 11, 1)
DAYS = 30
TEAMS, KEYS_A_TEAM, USERS = 25, 4, 400
MODELS = tuple(
    (provider, f"{provider}-model-{number}") for provider in ("openai", "anthropic", "gemini") for number in range(4)
)
MOST_KINDS = 11_112
"""So many that a row's histograms fill as they do in life; three of each on each day are a million a month."""
_DAY_MS = 86_400_000


@dataclass(frozen=True)
class Month:
    """`kinds` of requests, each made `times` times on every day."""

    kinds: tuple[RequestRecord, ...]
    times: int

    @classmethod
    def of(cls, requests: int) -> "Month":
        """At least so many."""
        chance = random.Random(8)  # noqa: S311 - the same month each time
        kinds = min(MOST_KINDS, -(-requests // DAYS))
        return cls(tuple(_kind(chance) for _ in range(kinds)), -(-requests // (kinds * DAYS)))

    @property
    def requests(self) -> int:
        return len(self.kinds) * self.times * DAYS

    @property
    def cost_usd(self) -> Decimal:
        return sum((kind.cost_usd or Decimal(0) for kind in self.kinds), Decimal(0)) * self.times * DAYS

    def items(self) -> Iterator[Item]:
        """The ledger's, as settled and folded requests leave them."""
        encoded = [{**encode_record(kind), LISTED: {"S": listed_shard(kind.key)}} for kind in self.kinds]
        for day in range(DAYS):
            for number in range(self.times):
                for index, item in enumerate(encoded):
                    at = _begin(day) + (number * len(encoded) + index) * _DAY_MS // (len(encoded) * self.times)
                    request_id = f"{day:02}{number:06}{index:06}"
                    yield {
                        **item,
                        "pk": {"S": f"req#req_{request_id}{request_id}"},
                        "at": {"N": str(at)},
                        "folded": {"S": item["status"]["S"]},
                    }

    def totals(self) -> Iterator[Item]:
        """The Usage table's. Every day is alike, so that one is added up."""
        sums: dict[Row, Sum] = {}
        for kind in self.kinds:
            made = _times(call_totals(kind), self.times)
            for row in rows_of(kind):
                sums.setdefault(row, Sum()).add(made)
        day_totals = {
            row: {name: {"N": text} for name, text in encode_totals(sums[row].totals()).items()} for row in sums
        }
        for number in range(DAYS):
            day = FIRST_DAY + timedelta(days=number)
            for row, attributes in day_totals.items():
                yield {**row_key(replace(row, day=day)), **attributes}


def _begin(day: int) -> int:
    first = datetime(FIRST_DAY.year, FIRST_DAY.month, FIRST_DAY.day, tzinfo=UTC)
    return int(first.timestamp() * 1000) + day * _DAY_MS


def _kind(chance: random.Random) -> RequestRecord:
    team = f"team-{int(TEAMS * chance.random() ** 2):02}"
    provider, model = chance.choice(MODELS)
    read, written = int(chance.lognormvariate(6, 1.5)), int(chance.lognormvariate(5, 1))
    latency = int(chance.lognormvariate(7.5, 0.8))
    return plain_record(
        at_ms=_begin(0),
        team=team,
        key=f"{team}-key-{chance.randrange(KEYS_A_TEAM)}",
        user=f"user-{chance.randrange(USERS)}",
        tags={"env": chance.choice(("dev", "prod"))},
        provider=provider,
        routed_model=model,
        status="failed" if chance.random() < 0.02 else "settled",
        usage=Usage(read, written, cached_tokens=read // 3, reasoning_tokens=written // 4),
        cost_usd=(Decimal(read) * Decimal("0.4") + Decimal(written) * Decimal("1.6")) / 1_000_000,
        latency_ms=latency,
        ttft_ms=latency // 8,
    )


def _times(totals: Totals, times: int) -> Totals:
    def scaled(histogram: Histogram) -> Histogram:
        return Histogram({bound: count * times for bound, count in histogram.counts.items()})

    return Totals(
        **{name: getattr(totals, name) * times for name in COUNTS},
        cost_usd=totals.cost_usd * times,
        latency=scaled(totals.latency),
        ttft=scaled(totals.ttft),
    )
