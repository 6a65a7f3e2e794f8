"""Answers of requests with an `Idempotency-Key`, in DynamoDB: one item for each key.

Table: partition key `pk` (string), time to live on `ttl`. Items:

    pk     S     idem#<whose>#<idempotency key>
    owner  S     the id of the request that runs, or ran
    state  S     running, kept, too_large; free: given back
    print  S     the fingerprint of what was asked; a free item has none
    ttl    N     Unix seconds: the end of a running item's lease, and of a kept answer's life. DynamoDB deletes an item
                 up to days later, so `begin` looks at it
    head   M     the answer's headers, body B its packed bytes, stream BOOL: only where it is kept

An item may hold 400 KB, names included:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ServiceQuotas.html. Conditions and their return of the
old item: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_PutItem.html
"""

from base64 import b64decode, b64encode
from contextlib import suppress
from typing import Any, Final

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.domain.ports import AnswerClaim, AnswerEntry, KeptAnswer
from llm_gateway.errors import InternalFailure

# Reserved words of an expression, all three: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/ReservedWords.html
_OWNER: Final = {"#owner": "owner", "#state": "state"}
_OWNER_AND_TTL: Final = {**_OWNER, "#ttl": "ttl"}
# An owner never gets its own entry twice: a `begin` that was thought lost may arrive after the request's end.
_IS_FREE: Final = "attribute_not_exists(pk) OR (#owner <> :owner AND (#state = :free OR #ttl <= :now))"
_IS_OURS: Final = "#owner = :owner AND #state = :running"


class DynamoDBAnswers:
    """`ports.AnswerStore` on the Cache table. One conditional write each way."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def begin(self, claim: AnswerClaim) -> AnswerEntry | None:
        """Raises `errors.Unavailable`, and `errors.InternalFailure` for a claim that was given back before."""
        payload = {
            "TableName": self._table,
            "Item": _item(claim, "running", claim.until),
            "ConditionExpression": _IS_FREE,
            "ExpressionAttributeNames": _OWNER_AND_TTL,
            "ExpressionAttributeValues": {
                ":owner": {"S": claim.owner},
                ":free": {"S": "free"},
                ":now": {"N": str(claim.at)},
            },
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("PutItem", payload)
        except ConditionalCheckFailed as error:
            entry = _entry(error.item)
            # Ours, written by an attempt whose answer was lost.
            return None if (entry.owner, entry.state) == (claim.owner, "running") else entry
        return None

    async def finish(self, claim: AnswerClaim, answer: KeptAnswer | None, until: int) -> bool:
        """Raises `errors.Unavailable`."""
        payload = {
            "TableName": self._table,
            "Item": _item(claim, "too_large", until) if answer is None else _kept_item(claim, answer, until),
            "ConditionExpression": _IS_OURS,
            "ExpressionAttributeNames": _OWNER,
            "ExpressionAttributeValues": _ours(claim),
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }
        try:
            await self._aws.call("PutItem", payload)
        except ConditionalCheckFailed as error:
            item = error.item or {}
            return item.get("owner") == {"S": claim.owner} and item.get("state") in ({"S": "kept"}, {"S": "too_large"})
        return True

    async def release(self, claim: AnswerClaim) -> None:
        """Raises `errors.Unavailable`. Leaves a free item: a late `begin` of the same owner stumbles over it."""
        payload = {
            "TableName": self._table,
            "Key": {"pk": _pk(claim)},
            "UpdateExpression": "SET #owner = :owner, #state = :free, #ttl = :until REMOVE #print",
            "ConditionExpression": f"attribute_not_exists(pk) OR ({_IS_OURS})",
            "ExpressionAttributeNames": {**_OWNER_AND_TTL, "#print": "print"},
            "ExpressionAttributeValues": {
                **_ours(claim),
                ":free": {"S": "free"},
                ":until": {"N": str(claim.until)},
            },
        }
        with suppress(ConditionalCheckFailed):  # finished, released before, or another's since its time was up
            await self._aws.call("UpdateItem", payload)


def _pk(claim: AnswerClaim) -> dict[str, str]:
    return {"S": f"idem#{claim.entry}"}


def _ours(claim: AnswerClaim) -> Item:
    return {":owner": {"S": claim.owner}, ":running": {"S": "running"}}


def _item(claim: AnswerClaim, state: str, until: int) -> Item:
    return {
        "pk": _pk(claim),
        "owner": {"S": claim.owner},
        "state": {"S": state},
        "print": {"S": claim.fingerprint},
        "ttl": {"N": str(until)},
    }


def _kept_item(claim: AnswerClaim, answer: KeptAnswer, until: int) -> Item:
    return {
        **_item(claim, "kept", until),
        "head": {"M": {name: {"S": value} for name, value in answer.headers.items()}},
        "body": {"B": b64encode(answer.packed).decode("ascii")},
        "stream": {"BOOL": answer.stream},
    }


def _entry(item: Item | None) -> AnswerEntry:
    """What a refused `begin` found. A free item refuses its own last owner alone."""
    if item is None or item["state"]["S"] == "free":
        raise InternalFailure("The request has given its idempotency key back already.")
    return AnswerEntry(item["owner"]["S"], item["print"]["S"], item["state"]["S"], _answer(item))


def _answer(item: dict[str, Any]) -> KeptAnswer | None:
    if "body" not in item:
        return None
    headers = {name: value["S"] for name, value in item["head"]["M"].items()}
    return KeptAnswer(headers, b64decode(item["body"]["B"]), item["stream"]["BOOL"])
