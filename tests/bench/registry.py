"""What the registry and the secret store hold during the bench, as the answers AWS gives to the gateway's reads.

The gateway's own adapters write it, over a client that keeps what is sent.
"""

from collections.abc import AsyncIterator

import orjson

from llm_gateway.adapters.attributes import Item
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.registry_edits import command_event
from llm_gateway.catalog.config import entries, keys, parse_config
from llm_gateway.domain.ports import HttpRequest, RegistryEditor
from llm_gateway.domain.revisions import Put
from llm_gateway.errors import UpstreamError
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.bench.wire import KEY, MODEL, PROVIDER_KEY

_CONFIG = """
[providers.bench]
dialect = "openai_chat"
base_url = "{provider}/v1"

[models.fast]
deployments = [{{ provider = "bench", model = "{model}" }}]

[prices."bench:{model}"]
input = "0.40"
cached_input = "0.10"
output = "1.60"

[teams.search]

[keys.search-prod]
team = "search"
key = "{key}"
models = ["fast"]
"""


LIMITS = {
    "no limits": "",
    "limits of the key": "limits = { rpm = 1000000, tpm = 1000000000, parallel = 1000 }\n",
    "budgets of key, team and user": """user = "ann"
budget = { usd = "1000", period = "day" }
[users.ann]
budget = { usd = "1000", period = "week" }
""",
}
"""What each case puts behind the key's table; the last one's team has a budget too."""


async def fill(registry: RegistryEditor, provider: str, limits: str = "no limits") -> None:
    """Writes one provider, one alias, one price, one team and one key. `provider` is its `http://host:port`."""
    text = _CONFIG.format(provider=provider, model=MODEL, key=KEY) + LIMITS[limits]
    if "team" in limits:
        text = text.replace("[teams.search]", '[teams.search]\nbudget = { usd = "1000", period = "month" }')
    config = parse_config(text, "gateway.toml")
    changes = [Put(entry.kind, entry.name, entry.document) for entry in entries(config)]
    changes += [Put.token(key) for _, key in keys(config)]
    await registry.commit(changes, (await registry.view()).revision, command_event("bench.fill"))


async def stored_answers(provider: str) -> dict[str, str]:
    """AWS operation and what it reads -> body, for `stand_ins`."""
    kept = _Keeper()
    aws = AwsJsonClient(
        kept, service="dynamodb", region="us-east-1", credentials=StaticCredentials(AwsCredentials("AKID", "secret"))
    )
    await fill(DynamoDBRegistry(aws, "registry"), provider)
    (pointer,), (root,) = kept.of("registry"), kept.of("revisions")
    (token,) = kept.of(f"leaf#{root['sk']['S'].partition('#')[2]}#t")
    return {
        "GetItem registry": orjson.dumps({"Item": pointer}).decode(),
        "GetItem revisions": orjson.dumps({"Item": root}).decode(),
        "GetItem leaf": orjson.dumps({"Item": token}).decode(),
        "BatchGetItem leaf": orjson.dumps({"Responses": {Settings().registry_table: kept.of("leaf#")}}).decode(),
        "GetSecretValue": orjson.dumps({"Name": "llm-gateway/provider/bench", "SecretString": PROVIDER_KEY}).decode(),
    }


class _Keeper:
    """`domain.ports.HttpClient`: a table that is empty to every read, and keeps what is written."""

    def __init__(self) -> None:
        self._items: list[Item] = []

    def of(self, partition: str) -> list[Item]:
        """The items whose partition key begins so."""
        return [item for item in self._items if item["pk"]["S"].startswith(partition)]

    async def send(self, request: HttpRequest) -> "_Answer":
        payload = orjson.loads(request.body)
        for action in payload.get("TransactItems", [{"Put": payload}]):
            written = action.get("Put") or action["Update"]
            if "Item" in written:
                self._items.append(written["Item"])
            elif "UpdateExpression" in written:
                values = written["ExpressionAttributeValues"].items()
                self._items.append({**written["Key"], **{name.removeprefix(":"): value for name, value in values}})
        return _Answer()

    async def close(self) -> None:
        """There is nothing to close."""


class _Answer:
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - the port's own shape, and nobody writes to it

    async def _whole(self) -> AsyncIterator[bytes]:
        yield await self.read(0)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._whole()

    async def read(self, limit: int) -> bytes:
        return b'{"Items": []}'

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        """There is nothing to close."""
