"""One contract, every engine: the in-memory fake, moto's server, and AWS's own where Java and Maven are there.

The stores of money run on the real ones behind a proxy too that fails 30 % of the calls in every way there is
(`tests/fakes/dynamodb_faults.py`): an engine on loopback never conflicts and never loses an answer by itself.

`REQUIRE_DYNAMODB_LOCAL=1` makes the absence of the last a failure. The report says which engines ran.
"""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.memory import MemoryLedger, MemoryRegistry
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.ports import HttpClient, Ledger, Registry, Scopes
from llm_gateway.local.tables import INDEX_ATTRIBUTES, LEDGER_INDEXES
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials
from tests.contract.engines import DynamoDBLocal, MotoServer, dynamodb_local_missing, dynamodb_local_required
from tests.fakes.dynamodb_faults import DynamoDBFaults

CREDENTIALS = StaticCredentials(AwsCredentials("testing", "testing"))
_DYNAMODB_LOCAL = pytest.param("dynamodb-local", marks=pytest.mark.dynamodb_local)
_FAULTS = "-faults"
_BEHIND_FAULTS = (
    f"moto{_FAULTS}",
    pytest.param(f"dynamodb-local{_FAULTS}", marks=pytest.mark.dynamodb_local),
)
_ran: set[str] = set()

AwsClients = Callable[..., AwsJsonClient]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "hears_every_answer: asserts what a caller cannot know where an answer was lost; not behind faults"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out = [
        item
        for item in items
        if item.get_closest_marker("hears_every_answer") is not None and _FAULTS in item.name.partition("[")[2]
    ]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def pytest_report_header() -> str:
    missing = dynamodb_local_missing()
    local = f"no DynamoDB Local ({missing})" if missing else "DynamoDB Local"
    return f"store engines: memory, moto, {local}"


def pytest_sessionfinish(session: pytest.Session) -> None:
    """One of several processes tells the one that reports."""
    told: dict[str, list[str]] | None = getattr(session.config, "workeroutput", None)
    if told is not None:
        told["store_engines"] = sorted(_ran)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    _ran.update(getattr(node, "workeroutput", {}).get("store_engines", ()))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _ran:
        terminalreporter.write_line(f"the store contract ran on: {', '.join(sorted(_ran))}")


@pytest.fixture(scope="session")
def moto() -> Iterator[MotoServer]:
    server = MotoServer()
    _ran.add("moto")
    yield server
    server.stop()


@pytest.fixture(scope="session")
def dynamodb_local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DynamoDBLocal]:
    missing = dynamodb_local_missing()
    if missing is not None:
        if dynamodb_local_required():
            pytest.fail(f"REQUIRE_DYNAMODB_LOCAL=1, but {missing}")
        pytest.skip(f"no DynamoDB Local: {missing}")
    try:
        engine = DynamoDBLocal.start(tmp_path_factory.mktemp("dynamodb-local") / "log")
    except RuntimeError as error:
        if dynamodb_local_required():
            raise
        pytest.skip(f"no DynamoDB Local: {error}")
    _ran.add("dynamodb-local")
    yield engine
    engine.stop()


@pytest.fixture(scope="session")
def moto_faults(moto: MotoServer) -> Iterator[DynamoDBFaults]:
    """What is late is still carried out before the caller's next call: later than that, only the repair helps."""
    with DynamoDBFaults(moto.url, seed=1, lateness_s=0) as faults:
        _ran.add("moto behind faults")
        yield faults


@pytest.fixture(scope="session")
def dynamodb_local_faults(dynamodb_local: DynamoDBLocal) -> Iterator[DynamoDBFaults]:
    with DynamoDBFaults(dynamodb_local.url, seed=2, lateness_s=0) as faults:
        _ran.add("dynamodb-local behind faults")
        yield faults


@pytest.fixture
async def http() -> AsyncIterator[HttpClient]:
    client = open_client()
    yield client
    await client.close()


@pytest.fixture
def aws(http: HttpClient) -> AwsClients:
    """Makes a client: `aws(url, service="dynamodb", **options)`."""

    def make(url: str, service: str = "dynamodb", **options: Any) -> AwsJsonClient:
        # Generous where it does not matter: the machine may be busy, and a hang has tests of its own.
        patience = {"connect_s": 5.0, "timeout_s": 20.0, **options}
        return AwsJsonClient(
            http, service=service, region="us-east-1", credentials=CREDENTIALS, endpoint_url=url, **patience
        )

    return make


async def _soon(seconds: float) -> None:
    await asyncio.sleep(seconds / 5)


PATIENT: dict[str, Any] = {"attempts": 15, "timeout_s": 0.4, "sleep": _soon}
"""Of a client behind the faults: one call in ten million is left without an answer."""


@pytest.fixture(params=["memory", "moto", _DYNAMODB_LOCAL, *_BEHIND_FAULTS])
def engine(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "memory":
        _ran.add(name)
    return name


@pytest.fixture(params=["memory", "moto", _DYNAMODB_LOCAL])
def calm_engine(request: pytest.FixtureRequest) -> str:
    """For stores that keep nothing which must be counted once."""
    name: str = request.param
    return name


@pytest.fixture(params=["moto", _DYNAMODB_LOCAL])
async def dynamodb(request: pytest.FixtureRequest, aws: AwsClients) -> AwsJsonClient:
    """A client of each real engine in turn."""
    return aws(engine_url(request, request.param), count_capacity=True)


@pytest.fixture
def real_dynamodb(aws: AwsClients, dynamodb_local: DynamoDBLocal) -> AwsJsonClient:
    """A client of AWS's own engine, for what moto does not tell truly: capacity units, limits of size."""
    return aws(dynamodb_local.url, count_capacity=True)


@pytest.fixture
async def ledger(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> Ledger:
    """An empty ledger on each engine."""
    if engine == "memory":
        return MemoryLedger()
    client, table = await client_and_table(request, engine, aws)
    return DynamoDBLedger(client, table, retention_days=30)


@pytest.fixture
async def registry(request: pytest.FixtureRequest, calm_engine: str, aws: AwsClients) -> Registry:
    """An empty registry on each engine."""
    if calm_engine == "memory":
        return MemoryRegistry()
    client = aws(engine_url(request, calm_engine))
    return DynamoDBRegistry(client, await create_registry_table(client))


def engine_url(request: pytest.FixtureRequest, engine: str) -> str:
    url: str = request.getfixturevalue(engine.replace("-", "_")).url
    return url


async def client_and_table(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> tuple[AwsJsonClient, str]:
    """A client of a real engine, and an empty table of the Ledger's shape."""
    table = await create_ledger_table(aws(engine_url(request, engine.removesuffix(_FAULTS))))
    return aws(engine_url(request, engine), **(PATIENT if engine.endswith(_FAULTS) else {})), table


@pytest.fixture
async def scopes(request: pytest.FixtureRequest, engine: str, aws: AwsClients) -> Scopes:
    """Empty counters on each engine."""
    if engine == "memory":
        return MemoryScopes()
    client, table = await client_and_table(request, engine, aws)
    return DynamoDBScopes(client, table)


async def create_ledger_table(aws: AwsJsonClient) -> str:
    return await _create_table(aws, {"pk": "HASH"}, index=True)


async def create_registry_table(aws: AwsJsonClient) -> str:
    return await _create_table(aws, {"pk": "HASH", "sk": "RANGE"})


async def _create_table(aws: AwsJsonClient, keys: dict[str, str], *, index: bool = False) -> str:
    """A table of its own for each test, so that they share an engine and nothing else."""
    name = f"table-{secrets.token_hex(6)}"
    await aws.call(
        "CreateTable",
        {
            "TableName": name,
            "BillingMode": "PAY_PER_REQUEST",
            "KeySchema": [{"AttributeName": key, "KeyType": kind} for key, kind in keys.items()],
            "AttributeDefinitions": [
                *({"AttributeName": key, "AttributeType": "S"} for key in keys),
                *(INDEX_ATTRIBUTES if index else ()),
            ],
            **({"GlobalSecondaryIndexes": list(LEDGER_INDEXES)} if index else {}),
        },
    )
    return name
