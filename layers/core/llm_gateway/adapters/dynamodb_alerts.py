"""Which budget alerts were sent, in the Usage table: `pk` is `alert`, `sk` the alert's name.

`until` is when a claim ends and `owner` whose it is; neither is there once the alert is sent. `ttl` is when DynamoDB
may forget it.
"""

import secrets
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final

from llm_gateway.adapters.attributes import AttributeValue
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed

_KEPT_S: Final = 400 * 86_400
"""Longer than any period but the total; that one is told of again after a year."""


class DynamoDBAlerts:
    """`ports.AlertMarks` on the Usage table."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def claim(self, name: str, now: int, until: int) -> str | None:
        token = secrets.token_urlsafe(8)
        claimed = await self._update(
            name,
            "SET #until = :until, #owner = :owner, #ttl = :ttl",
            # It may be ours, from an attempt whose answer was lost.
            "attribute_not_exists(pk) OR #until < :now OR #owner = :owner",
            {
                ":until": _number(until),
                ":now": _number(now),
                ":owner": {"S": token},
                ":ttl": _number(now + _KEPT_S),
            },
        )
        return token if claimed else None

    async def release(self, name: str, token: str) -> None:
        await self._update(
            name, "SET #until = :never", "#owner = :owner", {":never": _number(0), ":owner": {"S": token}}
        )

    async def sent(self, name: str, now: int) -> None:
        await self._update(name, "SET #ttl = :ttl REMOVE #until, #owner", None, {":ttl": _number(now + _KEPT_S)})

    async def _update(
        self, name: str, update: str, condition: str | None, values: Mapping[str, AttributeValue]
    ) -> bool:
        names = {"#until": "until", "#owner": "owner", "#ttl": "ttl"}
        payload: dict[str, Any] = {
            "TableName": self._table,
            "Key": {"pk": {"S": "alert"}, "sk": {"S": name}},
            "UpdateExpression": update,
            "ExpressionAttributeNames": {each: names[each] for each in names if each in f"{update} {condition}"},
            "ExpressionAttributeValues": values,
        }
        if condition is not None:
            payload["ConditionExpression"] = condition
        with suppress(ConditionalCheckFailed):
            await self._aws.call("UpdateItem", payload)
            return True
        return False


def _number(value: int) -> AttributeValue:
    return {"N": str(value)}
