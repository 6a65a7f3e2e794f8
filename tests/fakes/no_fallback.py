"""A fallback for tests whose ledger always takes what it is given."""

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError
from llm_gateway.pipeline.fallback import Fallback


def _lost(lost: LostSettlement, error: GatewayError) -> None:
    raise AssertionError(f"{lost.record.request_id} is lost: {error}")


def _unopened(record: RequestRecord, error: GatewayError) -> None:
    raise AssertionError(f"{record.request_id} could not be opened: {error}")


NO_FALLBACK = Fallback(_lost, _unopened)
