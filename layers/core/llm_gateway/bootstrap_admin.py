"""The composition root of the control plane: settings in, its app out. It never imports the gateway's app."""

import os
from collections.abc import Mapping
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_answers import DynamoDBAnswers
from llm_gateway.adapters.dynamodb_audit import DynamoDBAuditTrail
from llm_gateway.adapters.dynamodb_registry import DynamoDBRegistry
from llm_gateway.adapters.secrets_manager import SecretsManagerStore
from llm_gateway.adapters.secrets_writer import SecretsManagerWriter
from llm_gateway.admin.app import AdminParts, create_admin_app
from llm_gateway.admin.probe import Probe
from llm_gateway.bootstrap_identity import open_identification
from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.ports import (
    AnswerStore,
    AuditTrail,
    HttpClient,
    Registry,
    RegistryEditor,
    SecretStore,
    SecretWriter,
)
from llm_gateway.observability.logs import RequestLog, open_logger
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

_TIMEOUTS_S = {"dynamodb": 2.0, "secretsmanager": 10.0}
"""Of one attempt, of three. Every call here begins with DynamoDB, so where that hangs a 503 comes within about 6 s."""


@dataclass(frozen=True, slots=True)
class AdminStores:
    """Where things are kept, and nothing of it cached: whoever has lost a key is refused here at once."""

    registry: Registry
    editor: RegistryEditor
    trail: AuditTrail
    writer: SecretWriter
    secrets: SecretStore
    answers: AnswerStore


class AdminApp:
    """The app, and the connections that end with it."""

    def __init__(self, app: ASGIApp, http: UpstreamClient) -> None:
        self._app = app
        self._http = http

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)

    async def aclose(self) -> None:
        await self._http.close()


def build_lambda_admin() -> AdminApp:
    """The deployed app, from the environment. Raises `ValueError` where keys are switched off: that is for laptops."""
    settings = Settings.from_environment(os.environ)
    if settings.auth == "none":
        raise ValueError("AUTH=none is for a laptop only: a deployed gateway needs keys")
    return build_admin(settings)


def build_admin(settings: Settings, *, aws_credentials: AwsCredentials | None = None) -> AdminApp:
    """A control plane on AWS. `aws_credentials` are those of the stores; without them the environment's serve.

    Raises `Unavailable` where there are none at all.
    """
    http = open_client()
    log = RequestLog(open_logger(settings.log_level, settings.log_format))
    given = aws_credentials
    credentials: CredentialSource = StaticCredentials(given) if given else credential_source(os.environ, http)

    def aws(service: str) -> AwsJsonClient:
        return AwsJsonClient(
            http,
            service=service,
            region=settings.region,
            credentials=credentials,
            endpoint_url=settings.aws_endpoint_url,
            timeout_s=_TIMEOUTS_S[service],
        )

    dynamodb, secrets_manager = aws("dynamodb"), aws("secretsmanager")
    editor = DynamoDBRegistry(dynamodb, settings.registry_table)
    stores = AdminStores(
        registry=editor,
        editor=editor,
        trail=DynamoDBAuditTrail(dynamodb, settings.registry_table),
        writer=SecretsManagerWriter(secrets_manager),
        secrets=SecretsManagerStore(secrets_manager),
        answers=DynamoDBAnswers(dynamodb, settings.cache_table),
    )
    role = RoleCredentials(os.environ, http)
    authorizers: dict[str, Authorizer] = {
        "sigv4": SignedByRole(role, settings.region),
        "oauth": GoogleOAuth(http, role, settings.region),
    }
    return AdminApp(assemble_admin(settings, stores, http, log, authorizers), http)


def assemble_admin(
    settings: Settings,
    stores: AdminStores,
    http: HttpClient,
    log: RequestLog,
    authorizers: Mapping[str, Authorizer] | None = None,
) -> ASGIApp:
    """The app over any stores."""
    return create_admin_app(
        AdminParts(
            auth=open_identification(settings, stores.registry, http, log.warn),
            editor=stores.editor,
            trail=stores.trail,
            writer=stores.writer,
            secrets=stores.secrets,
            answers=stores.answers,
            probe=Probe(http, Dialects(), {**KEY_AUTHORIZERS, **(authorizers or {})}),
            log=log,
            stack=settings.stack,
            environment=settings.environment,
            docs=settings.docs,
        )
    )
