"""The composition root of the rollup: settings in, a rollup out. Beside `bootstrap`, whose app it never imports."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from llm_gateway.adapters.attributes import decode_record
from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.dynamodb_alerts import DynamoDBAlerts
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_rebuild import DynamoDBRebuild
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.adapters.dynamodb_totals import DynamoDBTotals
from llm_gateway.adapters.fallback_message import decode_lost
from llm_gateway.adapters.sns import SnsTopic
from llm_gateway.catalog.build import build_catalog
from llm_gateway.domain.limits import Abandoned
from llm_gateway.domain.ports import AlertMarks, Ledger, Notifier, Registry, Scopes, TotalsStore
from llm_gateway.observability.logs import open_logger
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.repair import Repair
from llm_gateway.rollup.alerts import BudgetAlerts
from llm_gateway.rollup.fallback import FallbackDrain
from llm_gateway.rollup.handler import RollupHandler
from llm_gateway.rollup.log import RollupLog
from llm_gateway.rollup.service import Log, Rollup
from llm_gateway.rollup.sweep import Sweep
from llm_gateway.settings import Settings
from llm_gateway.upstream.client import UpstreamClient, open_client
from llm_gateway.upstream.credentials import AwsCredentials, CredentialSource, StaticCredentials, credential_source

_TIMEOUT_S = 10.0
_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class RollupStores:
    """Where things are kept. `notifier` is None where nobody listens to budget alerts."""

    registry: Registry
    ledger: Ledger
    scopes: Scopes
    totals: TotalsStore
    marks: AlertMarks
    notifier: Notifier | None


@dataclass(frozen=True, slots=True)
class RollupParts:
    """A rollup, and what `llm-gateway run` and the command line need beside it."""

    rollup: Rollup
    ledger: Ledger
    totals: TotalsStore
    http: UpstreamClient
    dynamodb: AwsJsonClient
    streams: AwsJsonClient


def build_rollup_handler() -> RollupHandler:
    """The deployed function's handler, from the environment."""
    return RollupHandler(build_rollup(Settings.from_environment(os.environ)).rollup)


def build_rollup(
    settings: Settings,
    *,
    aws_credentials: AwsCredentials | None = None,
    told: Callable[[int], None] = lambda _: None,
) -> RollupParts:
    """A rollup on AWS. `aws_credentials` are those of the stores; without them the environment's serve.

    `told` hears how far a rebuild has come. Raises `Unavailable` where there are no credentials at all.
    """
    http = open_client()
    given = aws_credentials
    credentials: CredentialSource = StaticCredentials(given) if given else credential_source(os.environ, http)

    def aws(service: str) -> AwsJsonClient:
        return AwsJsonClient(
            http,
            service=service,
            region=settings.region,
            credentials=credentials,
            endpoint_url=settings.aws_endpoint_url,
            timeout_s=_TIMEOUT_S,
            attempts=_ATTEMPTS,
        )

    dynamodb, log = aws("dynamodb"), RollupLog(open_logger(settings.log_level, settings.log_format))
    tables = (settings.usage_table, settings.ledger_table)
    totals = DynamoDBTotals(dynamodb, *tables, DynamoDBRebuild(dynamodb, *tables, log.warn, told))
    topic = settings.alert_topic
    stores = RollupStores(
        registry=CachedRegistry(DynamoDBRegistry(dynamodb, settings.registry_table), warn=log.warn),
        ledger=DynamoDBLedger(dynamodb, settings.ledger_table),
        scopes=DynamoDBScopes(dynamodb, settings.ledger_table),
        totals=totals,
        marks=DynamoDBAlerts(dynamodb, settings.usage_table),
        notifier=SnsTopic(http, topic, credentials, settings.aws_endpoint_url) if topic else None,
    )
    rollup = assemble_rollup(settings, stores, log)
    return RollupParts(rollup, stores.ledger, totals, http, dynamodb, aws("dynamodbstreams"))


def assemble_rollup(settings: Settings, stores: RollupStores, log: Log, now: Callable[[], float] = time.time) -> Rollup:
    """The rollup over any stores."""
    catalog = CatalogSource(stores.registry, build_catalog, settings.environment)

    def abandoned() -> Abandoned:
        return catalog.latest.abandoned if catalog.latest else "charge"

    repair = Repair(stores.ledger, stores.scopes, abandoned, now)
    alerts = BudgetAlerts(stores.scopes, catalog.current, stores.marks, stores.notifier, log.warn, now)
    return Rollup(
        stores.totals,
        FallbackDrain(stores.ledger, stores.scopes, repair, now),
        Sweep(stores.ledger, stores.scopes, repair, catalog.current, alerts, log.warn, now),
        alerts,
        log,
        lambda image: decode_record(dict(image)),
        decode_lost,
        time.monotonic,
    )
