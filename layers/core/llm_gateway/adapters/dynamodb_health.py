"""What processes tell each other of failing deployments, in DynamoDB: one item in all, so that one read tells all.

Table: partition key `pk` (string), time to live on `ttl`. The item:

    pk           S   health
    of:<name>    M   a finding: `began`, `at` N (Unix milliseconds); while the deployment fails, `until`, `since` N and
                     `error` S
    ttl          N   Unix seconds: a day after the last finding

Half a read unit for each 4 KB, which are some thirty findings, since nothing here needs a consistent read:
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/HowItWorks.ReadConsistency.html. Conditions on a member
of a map: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Expressions.Attributes.html
"""

from collections.abc import Mapping
from typing import Any, Final

from llm_gateway.adapters.attributes import AttributeValue, Item
from llm_gateway.adapters.aws_json import AwsJsonClient, ConditionalCheckFailed
from llm_gateway.domain.health import Finding

_KEY: Final[Item] = {"pk": {"S": "health"}}
_KEPT_S: Final = 86_400
_PREFIX: Final = "of:"
_NUMBERS: Final = ("began", "at", "until", "since")


class DynamoDBHealth:
    """`ports.HealthStore` on the Cache table."""

    def __init__(self, aws: AwsJsonClient, table: str) -> None:
        self._aws = aws
        self._table = table

    async def tell(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> Finding | None:
        """Raises `errors.Unavailable`."""
        try:
            await self._aws.call("UpdateItem", self._update(name, finding, over))
        except ConditionalCheckFailed as error:
            held = _findings(error.item or {}).get(name)
            if held is not None and held.began > finding.began:
                return held
            # One that was to be forgotten has changed since, or was forgotten by an attempt whose answer was lost.
            return None if not over else await self.tell(name, finding, {})
        return None

    async def read(self) -> Mapping[str, Finding]:
        """Raises `errors.Unavailable`."""
        answer = await self._aws.call("GetItem", {"TableName": self._table, "Key": _KEY})
        return _findings(answer.get("Item") or {})

    def _update(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> dict[str, Any]:
        names = {"#own": _PREFIX + name, "#began": "began", "#ttl": "ttl"}
        values: Item = {
            ":finding": {"M": _encoded(finding)},
            ":began": {"N": str(finding.began)},
            ":ttl": {"N": str(finding.at // 1000 + _KEPT_S)},
        }
        condition = "(attribute_not_exists(#own) OR #own.#began <= :began)"
        removed = []
        for index, (other, seen) in enumerate(each for each in over.items() if each[0] != name):
            names[f"#over{index}"] = _PREFIX + other
            values[f":over{index}"] = {"M": _encoded(seen)}
            condition += f" AND #over{index} = :over{index}"
            removed.append(f"#over{index}")
        forgetting = f" REMOVE {', '.join(removed)}" if removed else ""
        return {
            "TableName": self._table,
            "Key": _KEY,
            "UpdateExpression": f"SET #own = :finding, #ttl = :ttl{forgetting}",
            "ConditionExpression": condition,
            "ExpressionAttributeNames": names,
            "ExpressionAttributeValues": values,
            "ReturnValuesOnConditionCheckFailure": "ALL_OLD",
        }


def _encoded(finding: Finding) -> Item:
    encoded: dict[str, AttributeValue] = {
        name: {"N": str(value)} for name in _NUMBERS if (value := getattr(finding, name)) is not None
    }
    if finding.error is not None:
        encoded["error"] = {"S": finding.error}
    return encoded


def _findings(item: Item) -> dict[str, Finding]:
    return {
        name.removeprefix(_PREFIX): _decoded(value["M"]) for name, value in item.items() if name.startswith(_PREFIX)
    }


def _decoded(encoded: Item) -> Finding:
    numbers = {name: int(encoded[name]["N"]) for name in _NUMBERS if name in encoded}
    return Finding(**numbers, error=encoded["error"]["S"] if "error" in encoded else None)
