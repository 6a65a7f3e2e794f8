"""`llm-gateway run`: a whole stack on this machine, told from its first step to its last."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gateway.local.embedded_address import (
    ACCESS_KEY,
    LOG_FILE,
    SECRET_KEY,
    EmbeddedAws,
    EmbeddedAwsFailed,
    Starting,
    attach,
    lock,
)
from llm_gateway.local.running import RUN_LOCK, told_address
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from llm_gateway.catalog.config import ConfigError, GatewayConfig

DEFAULT_KEY = "sk-local"
WATCH_S = 1.0


class CannotRun(Exception):
    """Why there is nothing to serve: one line for the user, and the exit code."""

    def __init__(self, text: str, exit_code: int = 1) -> None:
        super().__init__(text)
        self.exit_code = exit_code


@dataclass(frozen=True, slots=True)
class Options:
    """`data` is where the embedded AWS keeps what it knows; `outlive` lets it survive a crash of the gateway."""

    port: int = 8000
    config: Path | None = None
    data: Path = Path(".local")
    outlive: bool = False


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The AWS that this gateway talks to. `embedded` is None where `AWS_ENDPOINT_URL` gave one."""

    url: str
    credentials: AwsCredentials
    embedded: EmbeddedAws | None


@dataclass(frozen=True, slots=True)
class Setup:
    """What the user said, read and checked. `config` is None where no file is to be applied."""

    options: Options
    environ: Mapping[str, str]
    settings: Settings
    config: "GatewayConfig | None"

    @property
    def key(self) -> str:
        return self.environ.get("GATEWAY_API_KEY") or DEFAULT_KEY


BuildApp = Callable[[Settings, AwsCredentials], Any]
"""Makes the ASGI app."""


def run(options: Options, environ: Mapping[str, str], build_app: BuildApp | None = None) -> int:
    """Runs until it is stopped; the exit code: 0 stopped, 1 cannot run here, 3 wrong configuration or environment."""
    try:
        setup = Setup(options, environ, read_settings(environ), read_config(options.config))
        with take_port(options.port) as listener, own_data(setup), open_aws(setup) as aws:
            build = build_app or gateway_builder()
            return serve_stack(setup, aws(), listener, build)
    except CannotRun as failure:
        print(f"llm-gateway: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:  # before the server took over the signals
        return 0


def serve_stack(setup: Setup, endpoint: Endpoint, listener: socket.socket, build_app: BuildApp) -> int:
    """Fills the stack, then serves it."""
    from llm_gateway.bootstrap_rollup import build_rollup
    from llm_gateway.local.guard import OnlyFromThisMachine
    from llm_gateway.local.seed import masked
    from llm_gateway.local.serve import serve
    from llm_gateway.local.sweeping import Sweeping

    settings = setup.settings.model_copy(update={"aws_endpoint_url": endpoint.url})
    for name, token in fill(setup, settings, endpoint):
        print(f"llm-gateway made the key {name}, shown this once: {token}")
    rollup = build_rollup(settings, aws_credentials=endpoint.credentials)
    sweeping = Sweeping(rollup, partial(print, file=sys.stderr))
    app: ASGIApp = build_app(settings, endpoint.credentials)
    key = setup.key if setup.key == DEFAULT_KEY else masked(setup.key)
    if settings.auth == "none":
        app, key = OnlyFromThisMachine(app), "none-needed"
    base_url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"

    def ready() -> None:
        print(f"llm-gateway ready: base_url={base_url} key={key}", flush=True)

    if endpoint.embedded is None:
        return serve(app, listener, ready=ready, beside=sweeping.run)
    with told_address(setup.options.data, base_url):
        return serve(app, listener, ready=ready, watch=partial(end_of, endpoint.embedded), beside=sweeping.run)


async def end_of(embedded: EmbeddedAws) -> str:
    """Returns once it has ended, with the words for that."""
    while not embedded.ended():  # noqa: ASYNC110 - a process and a file lock have no event to wait for
        await asyncio.sleep(WATCH_S)
    return f"llm-gateway: the embedded AWS has ended; its log is {embedded.data / LOG_FILE}"


def fill(setup: Setup, settings: Settings, endpoint: Endpoint) -> list[tuple[str, str]]:
    """Tables, secrets, registry; (name, token) of the keys that were made. Raises `CannotRun`."""
    from botocore.exceptions import BotoCoreError, ClientError

    from llm_gateway.catalog.config import ConfigError, parse_config
    from llm_gateway.errors import GatewayError
    from llm_gateway.local.seed import client, seed_secrets, seeded_keys
    from llm_gateway.local.tables import create_tables

    config = setup.config or parse_config("", "gateway.toml")
    try:
        create_tables(client("dynamodb", settings, endpoint.credentials), settings, streams=False)
        secrets = client("secretsmanager", settings, endpoint.credentials)
        seed_secrets(secrets, settings.stack, seeded_keys(config, settings.stack, setup.environ), print)
        return asyncio.run(fill_registry(setup, settings, endpoint))
    except ConfigError as error:
        raise CannotRun(told_fault(error), exit_code=3) from error
    except (BotoCoreError, ClientError, GatewayError) as error:
        raise CannotRun(f"the AWS at {endpoint.url} cannot be used: {error}") from error


async def fill_registry(setup: Setup, settings: Settings, endpoint: Endpoint) -> list[tuple[str, str]]:
    """Raises `ConfigError`, before the registry is changed, where what it is to hold makes no catalog."""
    from llm_gateway.adapters.aws_json import AwsJsonClient
    from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
    from llm_gateway.catalog.build import build_catalog
    from llm_gateway.catalog.config import entries
    from llm_gateway.local.seed import seed_registry
    from llm_gateway.upstream.client import open_client

    http = open_client()
    try:
        aws = AwsJsonClient(
            http,
            service="dynamodb",
            region=settings.region,
            credentials=StaticCredentials(endpoint.credentials),
            endpoint_url=endpoint.url,
            timeout_s=10.0,
        )
        registry = DynamoDBRegistry(aws, settings.registry_table)
        build_catalog(
            await registry.load_catalog() if setup.config is None else entries(setup.config), settings.environment
        )
        return await seed_registry(registry, setup.key, setup.config, print)
    finally:
        await http.close()


def told_fault(error: "ConfigError") -> str:
    """In one line: of the environment, or of what the registry has kept since an earlier run."""
    text = "; ".join(error.faults)
    wrong = text.removeprefix("environment: ")
    return f"the environment is wrong: {wrong}" if wrong != text else f"the configuration cannot be used: {text}"


def read_config(path: Path | None) -> "GatewayConfig | None":
    """Raises `CannotRun`, which names the file and the key at fault."""
    if path is None:
        return None
    from llm_gateway.catalog.config import ConfigError, load_config

    try:
        return load_config(path)
    except ConfigError as error:
        raise CannotRun(str(error), exit_code=3) from error


def read_settings(environ: Mapping[str, str]) -> Settings:
    """Settings as a laptop wants them: readable logs, and the API's description at /docs. Raises `CannotRun`."""
    from pydantic import TypeAdapter, ValidationError

    from llm_gateway.catalog.schema_values import Origin

    try:
        settings = Settings.from_environment({"LOG_FORMAT": "text", "DOCS": "true", **environ})
    except ValidationError as error:
        faults = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors(include_url=False))
        raise CannotRun(f"the environment is wrong: {faults}", exit_code=3) from error
    try:
        TypeAdapter(tuple[Origin, ...]).validate_python(settings.cors_origins)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]["msg"]
        raise CannotRun(f"the environment is wrong: CORS_ORIGINS: {fault}", exit_code=3) from error
    if settings.log_level.upper() not in logging.getLevelNamesMapping():
        raise CannotRun(f"the environment is wrong: LOG_LEVEL: there is no level {settings.log_level!r}", exit_code=3)
    return settings


def take_port(port: int) -> socket.socket:
    """The listening socket on loopback; `port` 0 takes a free one. Raises `CannotRun` where the port is taken."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)  # asyncio: no Nagle then
    # A port in TIME_WAIT after the last run is free; one that another process listens on is not.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(1024)
    except OSError as error:
        listener.close()
        other = f"make run PORT={port + 1}"
        raise CannotRun(f"port {port} on 127.0.0.1 cannot be used ({error.strerror}); try another: {other}") from error
    return listener


@contextmanager
def own_data(setup: Setup) -> Iterator[None]:
    """Two gateways on one directory would undo each other's configuration. Raises `CannotRun`."""
    if setup.settings.aws_endpoint_url is not None:
        yield
        return
    data = setup.options.data
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = lock(data / RUN_LOCK)
    if held is None:
        raise CannotRun(
            f"another gateway already runs on {data}/; stop it, or set LLM_GATEWAY_DATA to another directory"
        )
    with held:
        yield


@contextmanager
def open_aws(setup: Setup) -> Iterator[Callable[[], Endpoint]]:
    """The AWS to use, asked for once it is needed: an embedded one comes up meanwhile, and ends with us."""
    if setup.settings.aws_endpoint_url is not None:
        given = Endpoint(setup.settings.aws_endpoint_url, given_credentials(setup.environ), embedded=None)
        yield lambda: given
        return
    found: EmbeddedAws | Starting
    try:
        data, outlive = setup.options.data, setup.options.outlive
        found = attach(data) or Starting(data, outlive=outlive, environ=setup.environ)
    except EmbeddedAwsFailed as error:
        raise CannotRun(str(error)) from error
    try:
        yield lambda: embedded_endpoint(found)
    finally:
        found.stop()


def given_credentials(environ: Mapping[str, str]) -> AwsCredentials:
    """Somebody else's endpoint gets the credentials that the environment has for it, if any."""
    access_key, secret_key = environ.get("AWS_ACCESS_KEY_ID"), environ.get("AWS_SECRET_ACCESS_KEY")
    if access_key and secret_key:
        return AwsCredentials(access_key, secret_key, environ.get("AWS_SESSION_TOKEN") or None)
    return AwsCredentials(ACCESS_KEY, SECRET_KEY)


def embedded_endpoint(found: EmbeddedAws | Starting) -> Endpoint:
    try:
        embedded = found.wait()
    except EmbeddedAwsFailed as error:
        raise CannotRun(str(error)) from error
    address = embedded.address
    return Endpoint(address.endpoint_url, AwsCredentials(address.access_key, address.secret_key), embedded)


def gateway_builder() -> BuildApp:
    """Imports the gateway, which takes about as long as the embedded AWS takes to come up beside it."""
    import llm_gateway.bootstrap
    import llm_gateway.bootstrap_admin  # noqa: F401 - both are loaded here, and used once the stores are there
    from llm_gateway.local.planes import both_planes

    return both_planes
