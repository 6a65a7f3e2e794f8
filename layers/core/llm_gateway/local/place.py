"""Where the tables are that commands work on: a deployed stack's, or the one of `make run` on this machine."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.domain.ports import RegistryEditor
from llm_gateway.local.embedded_address import LOCK_FILE, STATE_FILE, EmbeddedAddress, is_locked
from llm_gateway.local.run import given_credentials, read_settings
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials

_Result = TypeVar("_Result")


class StackError(Exception):
    """What went wrong and what to do about it, in one line for a person."""


class NoGateway(StackError):
    """None runs here."""


@dataclass(frozen=True, slots=True)
class Place:
    """`table` is the registry's. `base_url` is the one for SDKs, where it is known."""

    table: str
    ledger_table: str
    usage_table: str
    region: str
    credentials: AwsCredentials
    endpoint_url: str | None
    base_url: str | None = None


def local_place(data: Path, environ: Mapping[str, str]) -> Place:
    """The registry of the gateway that runs on `data`, or on `AWS_ENDPOINT_URL`. Raises `StackError`, `CannotRun`."""
    settings = read_settings(environ)
    if settings.aws_endpoint_url is not None:
        return _placed(settings, given_credentials(environ), settings.aws_endpoint_url)
    address = EmbeddedAddress.read(data / STATE_FILE) if is_locked(data / LOCK_FILE) else None
    if address is None:
        raise NoGateway(f"no gateway runs on {data}/: start one with `make run`, or name a stack with --stack")
    credentials = AwsCredentials(address.access_key, address.secret_key)
    return _placed(settings, credentials, address.endpoint_url)


def _placed(settings: Settings, credentials: AwsCredentials, endpoint_url: str) -> Place:
    return Place(
        settings.registry_table,
        settings.ledger_table,
        settings.usage_table,
        settings.region,
        credentials,
        endpoint_url,
    )


async def with_registry(place: Place, work: Callable[[RegistryEditor], Awaitable[_Result]]) -> _Result:
    """What `work` makes of the registry. Raises `errors.Unavailable`, and what `work` raises."""
    return await with_dynamodb(place, lambda dynamodb: work(DynamoDBRegistry(dynamodb, place.table)))


async def with_dynamodb(place: Place, work: Callable[[AwsJsonClient], Awaitable[_Result]]) -> _Result:
    """What `work` makes of the place's DynamoDB. Raises `errors.Unavailable`, and what `work` raises."""
    http = open_client()
    try:
        dynamodb = AwsJsonClient(
            http,
            service="dynamodb",
            region=place.region,
            credentials=StaticCredentials(place.credentials),
            endpoint_url=place.endpoint_url,
            timeout_s=10,
        )
        return await work(dynamodb)
    finally:
        await http.close()
