"""A lost settlement as the body of a queue's message: what the ledger would hold, in the attribute names of the ledger.

{"version": 1, "record": <the request's item>, "holds": [{"scope": "team#search", "hold": <the hold's attribute>}]}

The items are DynamoDB's typed JSON, which carries decimals exactly. A message is at most 1 MiB (1,048,576 bytes):
https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
"""

from typing import Any

import orjson

from llm_gateway.adapters.attributes import decode_record, encode_record
from llm_gateway.adapters.scope_attributes import stored_hold, write_hold
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.limits import Hold, Scope

_VERSION = 1


def encode_lost(lost: LostSettlement) -> str:
    holds = [{"scope": hold.scope.id, "hold": write_hold(hold, tag)} for hold, tag in lost.holds]
    body = {"version": _VERSION, "record": encode_record(lost.record), "holds": holds}
    return orjson.dumps(body).decode()


def decode_lost(body: str) -> LostSettlement:
    """Raises `ValueError` for what is no message of ours."""
    try:
        message: dict[str, Any] = orjson.loads(body)
        if message["version"] != _VERSION:
            raise ValueError(f"version {message['version']} is not one that is known")
        holds = tuple(_hold(each["scope"], each["hold"]) for each in message["holds"])
        return LostSettlement(decode_record(message["record"]), holds)
    except (KeyError, TypeError, AttributeError, ArithmeticError) as error:
        raise ValueError(f"no lost settlement: {error!r}") from error


def _hold(scope: str, attribute: dict[str, Any]) -> tuple[Hold, str]:
    stored = stored_hold("", Scope.of(scope), attribute)
    return stored.hold, stored.tag
