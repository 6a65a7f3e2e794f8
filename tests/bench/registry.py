"""What the registry and the secret store hold during the bench, as the answers AWS gives to the gateway's reads.

The gateway's own adapters write it, over a client that keeps what is sent.
"""

from collections.abc import AsyncIterator
from typing import Any

import orjson

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.catalog.config import entries, keys, parse_config
from llm_gateway.domain.ports import HttpRequest, Registry
from llm_gateway.errors import UpstreamError
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


async def fill(registry: Registry, provider: str, limits: str = "no limits") -> None:
    """Writes one provider, one alias, one price, one team and one key. `provider` is its `http://host:port`."""
    text = _CONFIG.format(provider=provider, model=MODEL, key=KEY) + LIMITS[limits]
    if "team" in limits:
        text = text.replace("[teams.search]", '[teams.search]\nbudget = { usd = "1000", period = "month" }')
    config = parse_config(text, "gateway.toml")
    for entry in entries(config):
        await registry.put_entry(entry)
    for _, key in keys(config):
        await registry.put_key(key)


async def stored_answers(provider: str) -> dict[str, str]:
    """AWS operation -> body, for `stand_ins`."""
    kept = _Keeper()
    aws = AwsJsonClient(
        kept, service="dynamodb", region="us-east-1", credentials=StaticCredentials(AwsCredentials("AKID", "secret"))
    )
    await fill(DynamoDBRegistry(aws, "registry"), provider)
    catalog = [item for item in kept.items if item["pk"] == {"S": "catalog"}]
    (key,) = [item for item in kept.items if item not in catalog]
    return {
        "Query": orjson.dumps({"Items": catalog, "Count": len(catalog), "ScannedCount": len(catalog)}).decode(),
        "GetItem": orjson.dumps({"Item": key}).decode(),
        "GetSecretValue": orjson.dumps({"Name": "llm-gateway/provider/bench", "SecretString": PROVIDER_KEY}).decode(),
    }


class _Keeper:
    """`domain.ports.HttpClient`: keeps the items of every write, and answers each with success."""

    def __init__(self) -> None:
        self.items: list[dict[str, Any]] = []

    async def send(self, request: HttpRequest) -> "_Written":
        self.items.append(orjson.loads(request.body)["Item"])
        return _Written()

    async def close(self) -> None:
        """There is nothing to close."""


class _Written:
    status = 200
    headers: dict[str, str] = {}  # noqa: RUF012 - the port's own shape, and nobody writes to it

    async def _whole(self) -> AsyncIterator[bytes]:
        yield b"{}"

    def chunks(self) -> AsyncIterator[bytes]:
        return self._whole()

    async def read(self, limit: int) -> bytes:
        return b"{}"

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        """There is nothing to close."""
