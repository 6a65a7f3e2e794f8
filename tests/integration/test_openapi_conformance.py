"""Requests made up from both OpenAPI documents: no answer is a 5xx, and each is one that the document promises.

schemathesis makes them (https://schemathesis.readthedocs.io), also such as the document forbids. What the providers'
wires are made of is not in the document: bodies pass through, so what is sent to `echo` is mostly nonsense.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction, not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    allow_header_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.responses import JSONResponse
from starlette.types import ASGIApp

from tests.fakes.admin_app import ADMIN, AdminApp
from tests.fakes.callers import CALLERS_CONFIG
from tests.fakes.gateway_app import KEY, GatewayApp

CHECKS: list[CheckFunction] = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    allow_header_conformance,
]
CONFIG = f"""
default_provider = "echo"
{CALLERS_CONFIG}
[providers.corp]
base_url = "http://127.0.0.1:9/v1"
[models.fast]
deployments = [{{ provider = "echo", model = "demo" }}]
[users.ann]
"""
FEW = settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck), database=None)


def faults(app: ASGIApp, path: str, token: str, mode: GenerationMode) -> Iterator[str]:
    """What is wrong with the answers, by operation."""
    for loaded in schemathesis.openapi.from_asgi(path, app).get_all_operations():
        assert isinstance(loaded, Ok), loaded
        operation = loaded.ok()

        @FEW
        @given(case=operation.as_strategy(generation_mode=mode))
        def holds(case: Any) -> None:
            answer = case.call(headers={"authorization": f"Bearer {token}"})
            case.validate_response(answer, checks=CHECKS)

        try:
            holds()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, operation.label  # nothing is asked of a request to `/health`
        except FailureGroup as group:
            yield f"{operation.label}: {'; '.join(str(each) for each in group.exceptions)}"


@pytest.fixture
def gateway() -> Iterator[GatewayApp]:
    app = GatewayApp(CONFIG, docs=True)
    yield app
    app._socket.close()


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.value)
def test_the_data_planes_answers_are_as_described(gateway: GatewayApp, mode: GenerationMode) -> None:
    assert not "\n\n".join(faults(gateway.app, "/openapi.json", KEY, mode))


@pytest.mark.parametrize(
    ("token", "mode"),
    [
        pytest.param(ADMIN, GenerationMode.POSITIVE, id="admin"),
        pytest.param(ADMIN, GenerationMode.NEGATIVE, id="admin-negative"),
        pytest.param("sk-team-admin", GenerationMode.POSITIVE, id="team-admin"),
    ],
)
def test_the_control_planes_answers_are_as_described(token: str, mode: GenerationMode) -> None:
    app = AdminApp(CONFIG, docs=True)
    assert not "\n\n".join(faults(app.app, "/admin/openapi.json", token, mode))


def test_a_description_that_is_wrong_is_found() -> None:
    app = FastAPI()

    @app.get("/number", response_model=int)
    async def number() -> JSONResponse:
        return JSONResponse("seven")

    @app.get("/undescribed")
    async def undescribed() -> JSONResponse:
        return JSONResponse({}, 418)

    @app.get("/broken")
    async def broken() -> JSONResponse:
        return JSONResponse({}, 500)

    found = list(faults(app, "/openapi.json", "sk-nobody", GenerationMode.POSITIVE))
    assert [fault.partition(":")[0] for fault in found] == ["GET /number", "GET /undescribed", "GET /broken"]
