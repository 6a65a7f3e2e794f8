"""The control plane as one ASGI app: `/admin/*`."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.types import ASGIApp

from llm_gateway.admin import resource
from llm_gateway.admin.access import check_team_edit
from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.configuration import Configuration
from llm_gateway.admin.crud import Crud
from llm_gateway.admin.documentation import components, operation
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.endpoint import Endpoint
from llm_gateway.admin.history import History
from llm_gateway.admin.idempotent import IdempotentCreates
from llm_gateway.admin.keys import Keys
from llm_gateway.admin.probe import Probe
from llm_gateway.admin.provider_keys import ProviderKeys, left_behind
from llm_gateway.admin.providers import Providers
from llm_gateway.admin.route_table import ROUTES
from llm_gateway.api.documentation import SECURITY_SCHEMES
from llm_gateway.api.envelope import RequestIdentity, render_crash, render_gateway_error, render_http_exception
from llm_gateway.api.no_telemetry import NO_TELEMETRY
from llm_gateway.domain.ports import AnswerStore, AuditTrail, RegistryEditor, SecretStore, SecretWriter
from llm_gateway.errors import GatewayError
from llm_gateway.observability.logs import RequestLog
from llm_gateway.pipeline.auth import Identification


@dataclass(frozen=True, slots=True)
class AdminParts:
    """What the control plane is made of. `secrets` is not cached: it says what is stored now."""

    auth: Identification
    editor: RegistryEditor
    trail: AuditTrail
    writer: SecretWriter
    secrets: SecretStore
    answers: AnswerStore
    probe: Probe
    log: RequestLog
    stack: str
    environment: Mapping[str, str] = field(default_factory=dict)
    docs: bool = False
    now: Callable[[], float] = time.time


def create_admin_app(parts: AdminParts) -> ASGIApp:
    app = FastAPI(
        title="llm-gateway: the control plane",
        description="Providers, models, teams, keys, secrets, audit. Everything needs a key; errors come as OpenAI's.",
        docs_url="/admin/docs" if parts.docs else None,
        openapi_url="/admin/openapi.json" if parts.docs else None,
        redoc_url=None,
        redirect_slashes=False,
        telemetry=NO_TELEMETRY,
    )
    editing = Editing(parts.editor, parts.trail, parts.now, parts.log.warn)
    creates = IdempotentCreates(parts.answers, parts.now, parts.log.warn)
    handlers = _handlers(parts, editing)
    for route in ROUTES:
        endpoint = Endpoint(route, handlers[route.operation], parts.auth, editing, creates)
        if not parts.docs:
            app.router.add_route(route.path, endpoint.__call__, methods=[route.method])
            continue
        app.add_api_route(
            route.path,
            endpoint.__call__,
            methods=[route.method],
            operation_id=route.operation,
            status_code=route.status,
            response_class=Response,
            summary=route.summary,
            openapi_extra=operation(route),
        )
    _describe(app)
    app.add_exception_handler(GatewayError, render_gateway_error)
    app.add_exception_handler(HTTPException, render_http_exception)
    app.add_exception_handler(Exception, render_crash)
    return RequestIdentity(app, parts.log)


def _handlers(parts: AdminParts, editing: Editing) -> dict[str, Handler]:
    """What each operation of the route table does."""
    keys = ProviderKeys(editing, parts.writer, parts.secrets, parts.probe, parts.stack, parts.environment, parts.now)
    teams = Crud(
        editing,
        resource.TEAMS,
        visible=lambda ask, name, _body: ask.confined_to in (None, name),
        permit=lambda ask, _name, before, after: check_team_edit(before or {}, after, ask.confined_to),
    )
    return {
        **Providers(editing, keys, parts.probe).handlers(),
        **keys.handlers(),
        **Crud(editing, resource.MODELS).handlers("model"),
        **Crud(editing, resource.PRICES).handlers("price"),
        **Crud(editing, resource.ORGANISATION).handlers("organisation"),
        **teams.handlers("team"),
        "delete_team": _with_its_secrets(editing, keys, teams),
        **Crud(editing, resource.USERS).handlers("user"),
        **Keys(editing, parts.now).handlers(),
        **Crud(editing, resource.SETTINGS).handlers("settings"),
        **Configuration(editing, keys).handlers(),
        **History(editing, keys).handlers(),
    }


def _with_its_secrets(editing: Editing, keys: ProviderKeys, teams: Crud) -> Handler:
    """A team's own provider keys go with it: another team of its name must not call with them."""

    async def delete(ask: Ask) -> Reply:
        secrets = keys.of_removed(await editing.draft(), (), [ask.path["name"]])
        reply = await teams.delete(ask)
        if left := await keys.forget(ask, secrets):
            raise left_behind(left)
        return reply

    return delete


def _describe(app: FastAPI) -> None:
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        document["components"] = {"schemas": components(), "securitySchemes": SECURITY_SCHEMES}
        return document

    app.openapi = openapi  # type: ignore[method-assign] # as FastAPI's documentation extends it
