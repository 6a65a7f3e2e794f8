"""Reading many items at once: whatever DynamoDB leaves for another call is asked for again, and never taken as absent."""

from typing import Any

import pytest

from llm_gateway.adapters.registry_items import RegistryItems
from llm_gateway.adapters.registry_tree import item_key
from llm_gateway.errors import Unavailable

KEYS = [item_key(f"leaf#{number}", "000") for number in range(70)]


class Sparing:
    """A table that has every second item, and answers for `gives` keys of a call at most."""

    def __init__(self, gives: int) -> None:
        self._gives = gives
        self.asked: list[int] = []

    async def call(self, operation: str, payload: dict[str, Any]) -> dict[str, Any]:
        assert operation == "BatchGetItem"
        wanted = payload["RequestItems"]["registry"]
        assert wanted["ConsistentRead"] is True
        keys, left = wanted["Keys"][: self._gives], wanted["Keys"][self._gives :]
        self.asked.append(len(wanted["Keys"]))
        there = [{**key, "content": {"B": ""}} for key in keys if KEYS.index(key) % 2]
        unprocessed = {"registry": {"Keys": left, "ConsistentRead": True}} if left else {}
        return {"Responses": {"registry": there}, "UnprocessedKeys": unprocessed}


@pytest.mark.parametrize("gives", [100, 20, 5])
async def test_all_are_read_in_their_order(gives: int) -> None:
    client = Sparing(gives)
    found = await RegistryItems(client, "registry").get_all(KEYS)  # type: ignore[arg-type] # stands in for the client
    assert [item and item["pk"] for item in found] == [key["pk"] if n % 2 else None for n, key in enumerate(KEYS)]
    assert max(client.asked) == 32, "so that the answer fits, whatever is in the items"


async def test_what_is_never_given_is_no_absence() -> None:
    with pytest.raises(Unavailable):
        await RegistryItems(Sparing(0), "registry").get_all(KEYS)  # type: ignore[arg-type] # as above
