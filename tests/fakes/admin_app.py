"""The control plane over in-memory stores, called without a socket.

app = AdminApp(CONFIG)
answer = await app.call("PUT", "/admin/teams/search", {"description": "…"}, key=app.admin, etag=…)
"""

from collections.abc import Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator, FormatChecker  # type: ignore[import-untyped] # its stubs are no dependency of ours
from starlette.routing import compile_path

from llm_gateway.adapters.memory import MemoryAnswers, MemoryRegistry, MemorySecrets
from llm_gateway.adapters.memory_audit import MemoryAuditTrail
from llm_gateway.admin.documentation import components, operation
from llm_gateway.admin.route_table import ROUTES
from llm_gateway.bootstrap_admin import AdminStores, assemble_admin
from llm_gateway.catalog.config import entries, keys, parse_config
from llm_gateway.domain.audit import AuditEvent
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.observability.logs import RequestLog, open_logger
from llm_gateway.settings import Settings
from llm_gateway.upstream.authorize import SignedByRole
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import AwsCredentials, StaticCredentials

ADMIN = "sk-test-admin"
_SCHEMAS = {"schemas": components()}
_PATTERNS = [(route, compile_path(route.path)[0]) for route in ROUTES]


def check_answer(method: str, path: str, answer: httpx.Response) -> None:
    """Every answer that a test sees is one that the OpenAPI document promises."""
    assert answer.headers["x-request-id"]
    plain = path.partition("?")[0]
    route = next((route for route, pattern in _PATTERNS if route.method == method and pattern.match(plain)), None)
    if route is None:
        assert answer.status_code in (200, 404, 405)
        return
    told = operation(route)["responses"]
    assert str(answer.status_code) in told, answer.text
    if answer.status_code == 204:
        assert answer.content == b""
        return
    schema = told[str(answer.status_code)]["content"]["application/json"]["schema"]
    validator = Draft202012Validator({**schema, "components": _SCHEMAS}, format_checker=FormatChecker())
    validator.validate(answer.json())


class AdminApp:
    """`secrets` are by whole name. Its stores can be reached into, and replaced (`editor`, `trail`, `writer`)."""

    def __init__(
        self,
        config: str = "",
        *,
        secrets: Mapping[str, str] | None = None,
        editor: Any = None,
        trail: Any = None,
        writer: Any = None,
        **overrides: Any,
    ) -> None:
        parsed = parse_config(config, "gateway.toml")
        admin = VirtualKey(lookup_id(ADMIN), "admin", hash_key(ADMIN), role="admin")
        self.trail = MemoryAuditTrail() if trail is None else trail
        self.registry = MemoryRegistry(entries(parsed), [admin, *(key for _, key in keys(parsed))], audit=self.trail)
        self.secrets = MemorySecrets(secrets)
        self.http = open_client()
        stores = AdminStores(
            registry=self.registry,
            editor=editor or self.registry,
            trail=self.trail,
            writer=writer or self.secrets,
            secrets=self.secrets,
            answers=MemoryAnswers(),
        )
        log = RequestLog(open_logger("CRITICAL", "text"))
        credentials = StaticCredentials(AwsCredentials("testing", "testing"))
        authorizers = {"sigv4": SignedByRole(credentials, "us-east-1")}
        self.app = assemble_admin(Settings(**{"docs": True, **overrides}), stores, self.http, log, authorizers)

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = ADMIN,
        etag: str | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> httpx.Response:
        sent = dict(headers or {})
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        if etag is not None:
            sent["if-match"] = etag
        transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
            given: dict[str, Any] = {} if body is None else {"json": body}
            answer = await client.request(method, path, headers=sent, content=content, **given)
        check_answer(method, path, answer)
        return answer

    @property
    def events(self) -> list[AuditEvent]:
        """As they came."""
        return list(self.trail.events.values())

    async def close(self) -> None:
        await self.http.close()
