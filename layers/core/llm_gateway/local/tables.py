"""The four tables of a stack, made where they are missing. Deployed, `template.yaml` makes them.

https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/API_CreateTable.html
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from llm_gateway.settings import Settings

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

TTL_ATTRIBUTE = "ttl"

DUE_INDEX: Any = {
    "IndexName": "due",
    "KeySchema": [
        {"AttributeName": "due", "KeyType": "HASH"},
        {"AttributeName": "expires", "KeyType": "RANGE"},
    ],
    "Projection": {"ProjectionType": "KEYS_ONLY"},
}
"""The Ledger's sparse index of what the sweep has to look at: docs/ledger.md."""
LISTED_INDEX: Any = {
    "IndexName": "listed",
    "KeySchema": [
        {"AttributeName": "listed", "KeyType": "HASH"},
        {"AttributeName": "at", "KeyType": "RANGE"},
    ],
    "Projection": {
        "ProjectionType": "INCLUDE",
        "NonKeyAttributes": ["team", "key", "user", "model", "routed", "provider", "status"],
    },
}
"""The Ledger's index of requests that have ended, with what lists of them are filtered by."""
LEDGER_INDEXES: Any = (DUE_INDEX, LISTED_INDEX)
INDEX_ATTRIBUTES: Any = (
    {"AttributeName": "due", "AttributeType": "S"},
    {"AttributeName": "expires", "AttributeType": "N"},
    {"AttributeName": "listed", "AttributeType": "S"},
    {"AttributeName": "at", "AttributeType": "N"},
)


@dataclass(frozen=True, slots=True)
class TableShape:
    """What distinguishes our tables: all are on demand, their keys are the strings `pk` and, if `sorted`, `sk`."""

    name: str
    sorted: bool = False
    expires: bool = False
    stream: bool = False
    indexed: bool = False


def shapes(settings: Settings) -> tuple[TableShape, ...]:
    return (
        TableShape(settings.registry_table, sorted=True),
        TableShape(settings.ledger_table, expires=True, stream=True, indexed=True),
        TableShape(settings.usage_table, sorted=True, expires=True),
        TableShape(settings.cache_table, expires=True),
    )


def create_tables(dynamodb: "DynamoDBClient", settings: Settings, *, streams: bool = True) -> list[str]:
    """Makes what is missing and returns its names; leaves what is there. Raises `botocore.exceptions.ClientError`.

    Without `streams` nobody reads the changes: an embedded table would keep them all in memory.
    """
    wanted = [replace(shape, stream=shape.stream and streams) for shape in shapes(settings)]
    made = [shape.name for shape in wanted if create_table(dynamodb, shape)]
    for shape in shapes(settings):
        if shape.indexed and shape.name not in made:
            _add_indexes(dynamodb, shape.name)
    for shape in shapes(settings):
        if shape.name in made:
            dynamodb.get_waiter("table_exists").wait(TableName=shape.name, WaiterConfig={"Delay": 1})
        if shape.expires:
            expire(dynamodb, shape.name)
    return made


def create_table(dynamodb: "DynamoDBClient", shape: TableShape) -> bool:
    """True if it was not there."""
    try:
        dynamodb.create_table(**definition(shape))
    except dynamodb.exceptions.ResourceInUseException:
        return False
    return True


def definition(shape: TableShape) -> Any:
    """The body of `CreateTable`."""
    keys = {"pk": "HASH", "sk": "RANGE"} if shape.sorted else {"pk": "HASH"}
    stream: Mapping[str, Any] = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    return {
        "TableName": shape.name,
        "BillingMode": "PAY_PER_REQUEST",
        "AttributeDefinitions": [
            *({"AttributeName": name, "AttributeType": "S"} for name in keys),
            *(INDEX_ATTRIBUTES if shape.indexed else ()),
        ],
        "KeySchema": [{"AttributeName": name, "KeyType": kind} for name, kind in keys.items()],
        **({"StreamSpecification": stream} if shape.stream else {}),
        **({"GlobalSecondaryIndexes": list(LEDGER_INDEXES)} if shape.indexed else {}),
    }


def _add_indexes(dynamodb: "DynamoDBClient", table: str) -> None:
    """For data that an earlier version of the gateway left. DynamoDB takes one new index at a time."""
    found = dynamodb.describe_table(TableName=table)["Table"].get("GlobalSecondaryIndexes", [])
    names = {index["IndexName"] for index in found}
    for index in LEDGER_INDEXES:
        if index["IndexName"] in names:
            continue
        keys = {key["AttributeName"] for key in index["KeySchema"]}
        dynamodb.update_table(
            TableName=table,
            AttributeDefinitions=[
                {"AttributeName": "pk", "AttributeType": "S"},
                *(each for each in INDEX_ATTRIBUTES if each["AttributeName"] in keys),
            ],
            GlobalSecondaryIndexUpdates=[{"Create": index}],
        )


def expire(dynamodb: "DynamoDBClient", table: str) -> None:
    """Turns TTL on; DynamoDB refuses to turn on what is on."""
    ttl = dynamodb.describe_time_to_live(TableName=table)["TimeToLiveDescription"]
    if ttl["TimeToLiveStatus"] not in {"ENABLED", "ENABLING"}:
        dynamodb.update_time_to_live(
            TableName=table, TimeToLiveSpecification={"Enabled": True, "AttributeName": TTL_ATTRIBUTE}
        )
