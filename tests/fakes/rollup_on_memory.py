"""A rollup over the stores in memory, with everything it says and sends at hand."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from llm_gateway.adapters.attributes import Item, encode_record
from llm_gateway.adapters.memory import MemoryLedger, MemoryRegistry
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.adapters.memory_totals import MemoryAlerts, MemoryTotals
from llm_gateway.bootstrap_rollup import RollupStores, assemble_rollup
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline.repair import Swept
from llm_gateway.rollup.service import Rollup
from llm_gateway.settings import Settings
from tests.fakes.manual_clock import ManualClock


@dataclass
class Told:
    """`rollup.service.Log`, kept."""

    poison: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    sweeps: list[Swept] = field(default_factory=list)
    settled: list[str] = field(default_factory=list)
    alerts: int = 0

    def folded(self, counted: int, alerts: int) -> None:
        assert counted > 0
        self.alerts += alerts

    def poisoned(self, source: str, place: str, reason: str) -> None:
        self.poison.append(place)

    def swept(self, swept: Swept) -> None:
        self.sweeps.append(swept)

    def drained(self, request_id: str) -> None:
        self.settled.append(request_id)

    def warn(self, message: str) -> None:
        self.warnings.append(message)


@dataclass
class Topic:
    """`ports.Notifier`, which can be away."""

    messages: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    away: bool = False

    async def publish(self, subject: str, text: str, attributes: Mapping[str, str]) -> None:
        if self.away:
            raise Unavailable("the topic is away")
        self.messages.append((subject, text, dict(attributes)))


class RollupOnMemory:
    def __init__(self, entries: Sequence[RegistryEntry] = (), now: float = 1_770_000_000.0) -> None:
        self.clock = ManualClock()
        self.clock.now = now
        self.ledger = MemoryLedger()
        self.scopes = MemoryScopes()
        self.totals = MemoryTotals(self.ledger)
        self.topic = Topic()
        self.told = Told()
        stores = RollupStores(
            MemoryRegistry(entries), self.ledger, self.scopes, self.totals, MemoryAlerts(), self.topic
        )
        self.rollup: Rollup = assemble_rollup(Settings(), stores, self.told, self.clock)


def stream_record(item: Item, sequence: int, name: str = "MODIFY") -> dict[str, Any]:
    """As DynamoDB Streams tells it."""
    return {
        "eventID": f"{sequence:032x}",
        "eventName": name,
        "eventSource": "aws:dynamodb",
        "awsRegion": "us-east-1",
        "dynamodb": {"Keys": {"pk": item["pk"]}, "NewImage": item, "SequenceNumber": f"{sequence:021d}"},
    }


def stream_of(records: Sequence[RequestRecord], first: int = 1) -> list[dict[str, Any]]:
    return [stream_record(encode_record(record), number) for number, record in enumerate(records, first)]
