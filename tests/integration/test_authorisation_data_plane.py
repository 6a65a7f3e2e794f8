"""The authorisation matrix of the data plane: every route x every caller, the exact status.

Made from the app's own routes: one that has no rule here fails, and so does a rule without a route.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import pytest
from starlette.routing import BaseRoute

from tests.fakes.callers import BY_KEY, CALLERS_CONFIG, OIDC_SETTINGS, Kind, by_token
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.identity_provider import IdentityProvider

KINDS: tuple[Kind, ...] = get_args(Kind)
OUTSIDE: Mapping[Kind, int] = {"nobody": 401, "stranger": 403}
MESSAGES = [{"role": "user", "content": "hi"}]


def open_to_all(status: int = 200) -> Mapping[Kind, int]:
    return dict.fromkeys(KINDS, status)


def with_a_key(status: int = 200, **others: int) -> Mapping[Kind, int]:
    """Whoever is let in gets `status`, unless `others` say otherwise (`_` for what stands between words)."""
    named = {name.replace("_", " ").replace("team admin", "team-admin"): code for name, code in others.items()}
    assert set(named) <= set(KINDS)
    return {kind: named.get(kind, OUTSIDE.get(kind, status)) for kind in KINDS}


@dataclass(frozen=True)
class Rule:
    """What one request to the route is answered with, by who asks."""

    statuses: Mapping[Kind, int]
    path: Mapping[str, str] | None = None
    query: str = ""
    body: Mapping[str, Any] | None = None


HERS = "{ann's request}"
SEEN_BY_HER_TEAM = with_a_key(404, admin=200, team_admin=200, ann=200)
CHAT = Rule(with_a_key(), {"model": "echo:demo"}, body={"model": "echo:demo", "messages": MESSAGES})
EMBEDDINGS = Rule(with_a_key(), {"model": "echo:demo"}, body={"model": "echo:demo", "input": "hi"})
ALL_OF_SEARCH = with_a_key(403, admin=200, team_admin=200, ann=200, colleague=200)

RULES: Mapping[tuple[str, str], list[Rule]] = {
    ("GET", "/health"): [Rule(open_to_all())],
    ("GET", "/health/ready"): [Rule(open_to_all())],
    ("GET", "/"): [Rule(open_to_all())],
    ("POST", "/api/chat"): [Rule(with_a_key(), body={"model": "echo:demo", "message": "hi"})],
    ("GET", "/docs"): [Rule(open_to_all())],
    ("GET", "/docs/oauth2-redirect"): [Rule(open_to_all())],
    ("GET", "/openapi.json"): [Rule(open_to_all())],
    ("POST", "/chat/completions"): [CHAT],
    ("POST", "/deployments/{model:path}/chat/completions"): [CHAT],
    ("POST", "/embeddings"): [EMBEDDINGS],
    ("POST", "/deployments/{model:path}/embeddings"): [EMBEDDINGS],
    # `echo` has no moderations: whoever may ask is told so.
    ("POST", "/moderations"): [Rule(with_a_key(400), body={"model": "echo:demo", "input": "hi"})],
    ("GET", "/models"): [Rule(with_a_key())],
    ("GET", "/providers/status"): [Rule(with_a_key())],
    ("GET", "/models/available"): [Rule(with_a_key())],
    ("GET", "/models/{model:path}"): [Rule(with_a_key(), {"model": "echo:echo"})],
    ("POST", "/routing/explain"): [CHAT],
    ("GET", "/usage"): [Rule(with_a_key()), Rule(ALL_OF_SEARCH, query="team=search&group_by=team,key")],
    ("GET", "/usage/requests"): [Rule(with_a_key()), Rule(ALL_OF_SEARCH, query="team=search")],
    ("GET", "/usage/requests/{request_id}"): [Rule(SEEN_BY_HER_TEAM, {"request_id": HERS})],
}
PREFIXES = ("/openai/v1", "/openai", "/v1")


def without_prefix(path: str) -> str:
    return next((path.removeprefix(prefix) for prefix in PREFIXES if path.startswith(f"{prefix}/")), path)


def routes(app: Any) -> Iterator[tuple[str, str]]:
    """Method and path of every route there is."""
    while not hasattr(app, "routes"):
        app = app._app
    found: list[BaseRoute] = app.routes
    for route in found:
        for method in getattr(route, "methods", None) or [pytest.fail(f"{route} is of no kind that has a rule")]:
            yield method, route.path  # type: ignore[attr-defined] # what has methods has a path


@pytest.fixture(scope="module")
def provider() -> Iterator[IdentityProvider]:
    provider = IdentityProvider()
    with provider.serving():
        yield provider


@pytest.fixture(scope="module")
def app(provider: IdentityProvider) -> Iterator[GatewayApp]:
    with GatewayApp(CALLERS_CONFIG, docs=True, oidc_issuer=provider.issuer, **OIDC_SETTINGS) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as client:
        yield client


def test_every_route_has_a_rule_and_every_rule_a_route(app: GatewayApp) -> None:
    there_are = {("GET" if method == "HEAD" else method, without_prefix(path)) for method, path in routes(app.app)}
    assert there_are - set(RULES) == set(), "a route without a rule: say who may call it"
    assert set(RULES) - there_are == set()


def test_every_route_answers_every_caller_as_its_rule_says(
    app: GatewayApp, provider: IdentityProvider, client: httpx.Client
) -> None:
    hers = client.post(
        f"{app.base_url}/chat/completions", json=CHAT.body, headers={"authorization": "Bearer sk-ann-of-search"}
    )
    app.record(hers.headers["x-request-id"])
    fill: Callable[[str], str] = lambda text: text.replace(HERS, hers.headers["x-request-id"])  # noqa: E731 - shorter so
    callers = (*BY_KEY, *by_token(provider))
    assert {caller.kind for caller in callers} == set(KINDS)
    wrong, asked = [], 0
    for method, template in routes(app.app):
        for rule in RULES["GET" if method == "HEAD" else method, without_prefix(template)]:
            path = template
            for name, value in (rule.path or {}).items():
                path = path.replace(f"{{{name}:path}}", fill(value)).replace(f"{{{name}}}", fill(value))
            assert "{" not in path
            for caller in callers:
                answer = client.request(
                    method, f"{app.root}{path}?{rule.query}", json=rule.body, headers=caller.headers
                )
                asked += 1
                if answer.status_code != rule.statuses[caller.kind]:
                    wrong.append(
                        f"{method} {path}?{rule.query} by {caller}: {answer.status_code}, not {rule.statuses[caller.kind]}"
                    )
                elif answer.status_code >= 400 and method != "HEAD" and set(answer.json()) != {"error"}:
                    wrong.append(f"{method} {path} by {caller}: not in the envelope")
    assert not wrong, "\n".join(wrong)
    assert asked > 700


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE", "POST", "OPTIONS", "TRACE"])
def test_what_is_no_route_is_none_for_anybody(app: GatewayApp, client: httpx.Client, method: str) -> None:
    for path in ("/", "/v1/models", "/usage", "/health", "/health/ready", "/models/available"):
        for headers in ({}, app.auth):
            assert client.request(method, f"{app.root}{path}", headers=headers).status_code == 405
    for path in ("/admin", "/v1/unknown", "/v1/usage/requests/", "/internal"):
        for headers in ({}, app.auth):
            assert client.request("GET", f"{app.root}{path}", headers=headers).status_code == 404
