"""Conversations of `POST /api/chat`, in DynamoDB: one item for each session.

Table: partition key `pk` (string), time to live on `ttl`. Items:

    pk          S    chat#<whose>#<session id>
    owner       S    the id of the request that has the turn, or had the last one
    state       S    running; free: its turn is over
    until       N    Unix seconds: when a running turn's lease ends
    kept        B    the conversation, packed; there only once a turn has ended well
    kept_until  N    Unix seconds: the end of its life
    ttl         N    when DynamoDB may clear all of it away, which it does up to days later: nothing here relies on it

What a turn takes is in one item with the conversation, so that one conditional write both takes the turn and reads
what was said: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_UpdateItem.html. A write costs a unit
for each KB of the item.
"""

from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Final

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.domain.conversation import TurnClaim
from llm_gateway.errors import SessionBusy

_CLEARED_AFTER_S: Final = 86_400
"""At least as long as a conversation lives: a turn that dies must not take along what was said before it."""
# Reserved words of an expression: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
_NAMES: Final = {"#owner": "owner", "#state": "state"}
_IS_OURS: Final = "#owner = :owner AND #state = :running"
# An owner never gets its turn twice: a `begin` that was thought lost may arrive after the request's end.
_IS_FREE: Final = (
    f"attribute_not_exists(pk) OR ({_IS_OURS}) OR (#owner <> :owner AND (#state = :free OR #until <= :now))"
)


class DynamoDBConversations:
    """`ports.ConversationStore` on the Cache table. One conditional write each way."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def begin(self, claim: TurnClaim) -> bytes | None:
        payload = {
            **self._item_of(claim),
            "UpdateExpression": "SET #owner = :owner, #state = :running, #until = :until, #ttl = :ttl",
            "ConditionExpression": _IS_FREE,
            "ExpressionAttributeNames": {**_NAMES, "#until": "until", "#ttl": "ttl"},
            "ExpressionAttributeValues": {
                **_ours(claim),
                ":free": {"S": "free"},
                ":now": {"N": str(claim.at)},
                ":until": {"N": str(claim.until)},
                ":ttl": {"N": str(claim.until + _CLEARED_AFTER_S)},
            },
            "ReturnValues": "ALL_NEW",
        }
        try:
            item: Item = (await self._aws.call("UpdateItem", payload))["Attributes"]
        except ConditionalCheckFailed:
            raise SessionBusy("Another turn of this session is running.", retry_after=1) from None
        if "kept" not in item or int(item["kept_until"]["N"]) <= claim.at:
            return None
        return b64decode(item["kept"]["B"])

    async def finish(self, claim: TurnClaim, kept: bytes, until: int) -> bool:
        packed = {"B": b64encode(kept).decode("ascii")}
        payload = {
            **self._item_of(claim),
            "UpdateExpression": "SET #state = :free, kept = :kept, kept_until = :kept_until, #ttl = :kept_until",
            "ConditionExpression": _IS_OURS,
            "ExpressionAttributeNames": {**_NAMES, "#ttl": "ttl"},
            "ExpressionAttributeValues": {
                **_ours(claim),
                ":free": {"S": "free"},
                ":kept": packed,
                ":kept_until": {"N": str(until)},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("UpdateItem", payload)
        except ConditionalCheckFailed as error:
            item = error.item or {}
            return item.get("owner") == {"S": claim.owner} and item.get("kept") == packed
        return True

    async def release(self, claim: TurnClaim) -> None:
        payload = {
            **self._item_of(claim),
            "UpdateExpression": "SET #owner = :owner, #state = :free, #ttl = :ttl",
            "ConditionExpression": f"attribute_not_exists(pk) OR ({_IS_OURS})",
            "ExpressionAttributeNames": {**_NAMES, "#ttl": "ttl"},
            "ExpressionAttributeValues": {
                **_ours(claim),
                ":free": {"S": "free"},
                ":ttl": {"N": str(claim.until + _CLEARED_AFTER_S)},
            },
        }
        with suppress(ConditionalCheckFailed):  # finished, released before, or another's since its time was up
            await self._aws.call("UpdateItem", payload)

    def _item_of(self, claim: TurnClaim) -> dict[str, object]:
        return {"TableName": self._table, "Key": {"pk": {"S": f"chat#{claim.entry}"}}}


def _ours(claim: TurnClaim) -> Item:
    return {":owner": {"S": claim.owner}, ":running": {"S": "running"}}
