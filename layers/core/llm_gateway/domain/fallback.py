"""A settlement that the ledger could not take, as it waits in a queue."""

from dataclasses import dataclass

from llm_gateway.domain.limits import Hold
from llm_gateway.domain.usage import RequestRecord


@dataclass(frozen=True, slots=True)
class LostSettlement:
    """`record` as it was to be settled; `holds` with their tags, which are empty where a hold could not be taken."""

    record: RequestRecord
    holds: tuple[tuple[Hold, str], ...] = ()
