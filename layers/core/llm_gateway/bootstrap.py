"""The composition root: settings in, a running gateway out. Nothing else builds adapters or reads the settings."""

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.types import ASGIApp, Receive, Scope, Send

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.fallback_message import encode_lost
from llm_gateway.adapters.secrets_manager import SecretsManagerStore
from llm_gateway.api.app import ApiOptions, create_app
from llm_gateway.api.simple_chat import OpenTurn
from llm_gateway.api.usage_routes import UsageRoutes
from llm_gateway.bootstrap_identity import open_identification
from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.price_files import load_prices, price_version
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.ports import (
    AnswerStore,
    HealthStore,
    HttpClient,
    Ledger,
    LostSettlements,
    Registry,
    RequestIndex,
    Scopes,
    TotalsReader,
)
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError
from llm_gateway.metering.prices import PriceBook
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.observability.metrics import CircuitMetrics, KnownModels, RequestMetrics
from llm_gateway.observability.tracing import open_tracer
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.clock import Clock
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.fallback import Fallback
from llm_gateway.pipeline.gateway import Gateway
from llm_gateway.pipeline.idempotency import Idempotency
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.models import ModelList
from llm_gateway.pipeline.pricing import BookPricing
from llm_gateway.pipeline.provider_keys import RefreshableSecrets, stack_keys
from llm_gateway.pipeline.readiness import Probe, Readiness, catalog_probe, store_probes
from llm_gateway.pipeline.repair import Repair
from llm_gateway.pipeline.reservations import Reservations
from llm_gateway.pipeline.shared_health import SharedHealth
from llm_gateway.pipeline.waiting import Lines
from llm_gateway.routing.circuits import Circuits
from llm_gateway.settings import Settings
from llm_gateway.upstream.authorize import KEY_AUTHORIZERS, Authorizer, SignedByRole
from llm_gateway.upstream.client import UpstreamClient, open_client
from llm_gateway.upstream.credentials import (
    AwsCredentials,
    CredentialSource,
    RoleCredentials,
    StaticCredentials,
    credential_source,
)
from llm_gateway.upstream.google_oauth import GoogleOAuth

if TYPE_CHECKING:
    from llm_gateway.domain.conversation import ConversationStore
    from llm_gateway.pipeline.chat_turn import ChatTurn
    from llm_gateway.pipeline.conversations import Conversations
    from llm_gateway.pipeline.provider_status import ProviderStatus
    from llm_gateway.pipeline.usage_queries import UsageQueries


@dataclass(frozen=True, slots=True)
class Parts:
    """What an app is made of, for those who need a part of it: the command line, the bench."""

    app: ASGIApp
    http: UpstreamClient
    dynamodb: AwsJsonClient
    ledger: Ledger


@dataclass(frozen=True, slots=True)
class Stores:
    """Where things are kept. The registry and the secrets are cached already."""

    registry: Registry
    ledger: Ledger
    secrets: RefreshableSecrets
    answers: AnswerStore
    scopes: Scopes
    usage: "Callable[[], UsageStores]"
    """Made when usage is first read: most processes never are asked."""
    lost: Callable[[], LostSettlements] | None = None
    """Made when the ledger is away for the first time. None where there is no queue: then the log has what is lost."""
    probes: Mapping[str, Probe] | None = None
    """What `/health/ready` asks; None: the stores above."""
    health: Callable[[], HealthStore] | None = None
    """Made after the first request. None where each process keeps what it finds out to itself."""
    conversations: "Callable[[], ConversationStore] | None" = None
    """Made when a session is first named. None where no conversation is kept."""


@dataclass(frozen=True, slots=True)
class UsageStores:
    """What usage is read from."""

    totals: TotalsReader
    requests: RequestIndex


class LambdaApp:
    """The deployed app, with the hooks that the Lambda runtime calls."""

    def __init__(self, app: ASGIApp, http: UpstreamClient) -> None:
        self._app = app
        self._http = http
        # The start-up phase has more CPU than the requests: what the first one would wait for is done in it.
        http.prepare()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def after_restore(self) -> None:
        """Connections of the snapshot are dead in every environment made from it."""
        await self._http.close()

    async def aclose(self) -> None:
        await self._http.close()


def build_lambda_app() -> LambdaApp:
    """The deployed app, from the environment. Raises `ValueError` where keys are switched off: that is for laptops."""
    settings = Settings.from_environment(os.environ)
    if settings.auth == "none":
        raise ValueError("AUTH=none is for a laptop only: a deployed gateway needs keys")
    parts = build(settings)
    return LambdaApp(parts.app, parts.http)


def build_app(
    settings: Settings, *, aws_credentials: AwsCredentials | None = None, scan_usage: bool = False
) -> ASGIApp:
    return build(settings, aws_credentials=aws_credentials, scan_usage=scan_usage).app


def build(settings: Settings, *, aws_credentials: AwsCredentials | None = None, scan_usage: bool = False) -> Parts:
    """A gateway on AWS. `aws_credentials` are those of the stores; without them the environment's serve.

    `scan_usage` is for a laptop, where nobody folds totals: usage is then read from the requests themselves.

    Raises `Unavailable` where there are none at all.
    """
    http = open_client()
    log = RequestLog(open_logger(settings.log_level, settings.log_format))
    credentials = _credentials(aws_credentials, http)

    def aws(service: str) -> AwsJsonClient:
        return AwsJsonClient(
            http,
            service=service,
            region=settings.region,
            credentials=credentials,
            endpoint_url=settings.aws_endpoint_url,
            count_capacity=settings.count_capacity,
        )

    dynamodb = aws("dynamodb")
    registry, secrets = DynamoDBRegistry(dynamodb, settings.registry_table), SecretsManagerStore(aws("secretsmanager"))
    ledger = DynamoDBLedger(dynamodb, settings.ledger_table)
    stores = Stores(
        registry=CachedRegistry(registry, warn=log.warn),
        ledger=ledger,
        secrets=CachedSecrets(secrets, warn=log.warn),
        answers=DynamoDBAnswers(dynamodb, settings.cache_table),
        scopes=DynamoDBScopes(dynamodb, settings.ledger_table),
        usage=lambda: (scanned_usage if scan_usage else usage_stores)(dynamodb, settings),
        lost=lost_settlements(lambda: aws("sqs"), settings.fallback_queue_url),
        probes=store_probes(registry, ledger, secrets, settings.stack),
        health=shared_health(dynamodb, settings),
        conversations=conversation_store(dynamodb, settings),
    )
    # The role's own credentials sign calls of Bedrock; the stores' may be the embedded AWS's, which sign nothing else.
    role = RoleCredentials(os.environ, http)
    authorizers: dict[str, Authorizer] = {
        "sigv4": SignedByRole(role, settings.region),
        "oauth": GoogleOAuth(http, role, settings.region),
    }
    return Parts(assemble(settings, stores, http, log, authorizers), http, dynamodb, stores.ledger)


def lost_settlements(
    client: Callable[[], AwsJsonClient], queue_url: str | None
) -> Callable[[], LostSettlements] | None:
    if queue_url is None:
        return None

    def opened() -> LostSettlements:
        from llm_gateway.adapters.sqs import SqsLostSettlements  # noqa: PLC0415 - needed when the ledger is away

        return SqsLostSettlements(client(), queue_url)

    return opened


def shared_health(dynamodb: AwsJsonClient, settings: Settings) -> Callable[[], HealthStore]:
    def opened() -> HealthStore:
        from llm_gateway.adapters.dynamodb_health import DynamoDBHealth  # noqa: PLC0415 - the first request need not wait

        return DynamoDBHealth(dynamodb, settings.cache_table)

    return opened


def conversation_store(dynamodb: AwsJsonClient, settings: Settings) -> "Callable[[], ConversationStore]":
    def opened() -> "ConversationStore":
        from llm_gateway.adapters.dynamodb_conversations import DynamoDBConversations  # noqa: PLC0415 - for sessions

        return DynamoDBConversations(dynamodb, settings.cache_table)

    return opened


def usage_stores(dynamodb: AwsJsonClient, settings: Settings) -> UsageStores:
    from llm_gateway.adapters.dynamodb_requests import DynamoDBRequests  # noqa: PLC0415 - only those who ask pay for it
    from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals  # noqa: PLC0415

    return UsageStores(
        DynamoDBTotals(dynamodb, settings.usage_table, settings.ledger_table),
        DynamoDBRequests(dynamodb, settings.ledger_table),
    )


def scanned_usage(dynamodb: AwsJsonClient, settings: Settings) -> UsageStores:
    from llm_gateway.adapters.scanned_usage import ScannedUsage  # noqa: PLC0415 - only those who ask pay for it

    usage = ScannedUsage(dynamodb, settings.ledger_table)
    return UsageStores(usage, usage)


def usage_queries(stores: Stores) -> "UsageQueries":
    from llm_gateway.pipeline.usage_queries import UsageQueries  # noqa: PLC0415 - only those who ask pay for it

    usage = stores.usage()
    return UsageQueries(usage.totals, usage.requests, stores.ledger)


def assemble(
    settings: Settings,
    stores: Stores,
    http: HttpClient,
    log: RequestLog,
    authorizers: Mapping[str, Authorizer] | None = None,
    clock: Clock | None = None,
) -> ASGIApp:
    """The app over any stores. It closes `http` when its lifespan ends.

    `authorizers` are for credentials that need more than a key, by their name in `domain.catalog.Credential`.
    """
    clock = clock or Clock()
    catalog = CatalogSource(stores.registry, build_catalog, settings.environment)
    dispatcher = Dispatcher(
        http,
        stack_keys(stores.secrets, settings.stack),
        Dialects(),
        {**KEY_AUTHORIZERS, **(authorizers or {})},
        log.warn,
        clock=clock,
    )
    choice = ModelChoice(dispatcher)
    book = PriceBook(load_prices, price_version())
    pricing = BookPricing(book)
    repair = Repair(stores.ledger, stores.scopes, lambda: catalog.latest.abandoned if catalog.latest else "charge")
    fallback = Fallback(_last_place(log), log.unopened, stores.lost)
    circuits = Circuits(clock.now)
    health = _shared_health(settings, stores, circuits, catalog, clock, log)
    gateway = Gateway(
        auth=open_identification(settings, stores.registry, http, log.warn),
        catalog=catalog,
        choice=choice,
        dispatcher=dispatcher,
        circuits=circuits,
        health=health,
        clock=clock,
        accounts=Accounts(stores.ledger, pricing, fallback),
        admission=Admission(
            Reservations(
                stores.ledger, stores.scopes, repair, log.budget_alert, log.scope_lost, queued=fallback.queued
            ),
            pricing,
            lines=Lines(clock),
        ),
        idempotency=Idempotency(stores.answers, log.warn),
        report=_reports(settings, log, catalog),
        debug=log.debug if settings.log_level.upper() == "DEBUG" else None,
        tracer=open_tracer(settings.xray_daemon if settings.tracing else None),
    )
    models = ModelList(catalog, choice, dispatcher, book)

    @asynccontextmanager
    async def lifespan(_: ASGIApp) -> AsyncIterator[None]:
        yield
        await http.close()

    options = ApiOptions(docs=settings.docs, cors_origins=settings.cors_origins)
    usage = UsageRoutes(gateway.auth, lambda: usage_queries(stores))
    probes = stores.probes or store_probes(stores.registry, stores.ledger, stores.secrets, settings.stack)
    readiness = Readiness({**probes, "configuration": catalog_probe(catalog.current, log.warn)})

    def status() -> "ProviderStatus":
        from llm_gateway.pipeline.provider_status import ProviderStatus  # noqa: PLC0415 - only those who ask pay for it

        return ProviderStatus(catalog, choice, circuits, health, clock)

    turn = _turns(gateway, stores, log)
    return create_app(gateway, models, usage, readiness, status, turn, log, options, lifespan)


def _turns(gateway: Gateway, stores: Stores, log: RequestLog) -> OpenTurn:
    def conversations() -> "Conversations | None":
        from llm_gateway.pipeline.conversations import Conversations  # noqa: PLC0415 - only sessions need it

        return None if stores.conversations is None else Conversations(stores.conversations(), log.warn)

    def turn(call: Call) -> "ChatTurn":
        from llm_gateway.pipeline.chat_turn import ChatTurn  # noqa: PLC0415 - only callers of /api/chat pay for it

        return ChatTurn(gateway, call, conversations)

    return turn


def _last_place(log: RequestLog) -> Callable[[LostSettlement, GatewayError], None]:
    return lambda lost, error: log.lost(lost.record.request_id, encode_lost(lost), error)


def _shared_health(
    settings: Settings, stores: Stores, circuits: Circuits, catalog: CatalogSource, clock: Clock, log: RequestLog
) -> SharedHealth:
    deployed = settings.function_name is not None
    return SharedHealth(
        circuits,
        stores.health,
        lambda: catalog.latest,
        clock,
        turned=log.circuit_turned,
        failing=CircuitMetrics(settings.stack, lambda: catalog.latest).failing if deployed else None,
        warn=log.warn,
    )


def _reports(settings: Settings, log: RequestLog, catalog: CatalogSource) -> Callable[[RequestRecord, float], None]:
    """What is told of a finished request: a log line; in Lambda one that CloudWatch reads metrics from."""
    if settings.function_name is None:
        return log.finished
    known = KnownModels(lambda: catalog.latest)
    return RequestMetrics(settings.stack, known).finished


def _credentials(given: AwsCredentials | None, http: HttpClient) -> CredentialSource:
    return StaticCredentials(given) if given is not None else credential_source(os.environ, http)
