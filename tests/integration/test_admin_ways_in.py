"""Every route of the control plane, by an admin, through each of its ways in: a server on loopback, and the function's
buffered handler with API Gateway's events. What `sam local` makes of it is in `tests/e2e/test_sam_local.py`.
"""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import uvicorn
from mangum import Mangum

from llm_gateway.admin.route_table import ROUTES, Route
from llm_gateway.runtime.events import HANDLERS
from tests.fakes.admin_app import ADMIN, AdminApp, check_answer
from tests.fakes.lambda_platform.front_ends import CallerRequest, rest
from tests.integration.test_authorisation_control_plane import CONFIG, EXAMPLES, SECRETS, expected, path_of

Ask = Callable[[AdminApp, Route], httpx.Response]


def headers_of(route: Route) -> dict[str, str]:
    given = {"authorization": f"Bearer {ADMIN}", "content-type": "application/json"}
    return {**given, "if-match": "*"} if route.if_match else given


def body_of(route: Route) -> bytes:
    body = EXAMPLES[route.operation].body
    return b"" if body is None else json.dumps(body).encode()


def by_event(app: AdminApp, route: Route) -> httpx.Response:
    path = path_of(route, 0)
    event: dict[str, Any] = rest(CallerRequest(route.method, path, list(headers_of(route).items()), body_of(route)))
    event |= {"resource": "/admin/{proxy+}", "pathParameters": {"proxy": path.removeprefix("/admin/")}}
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)  # Mangum runs on the current one, as it does in Lambda
    try:
        given = Mangum(app.app, lifespan="off", custom_handlers=HANDLERS)(event, None)  # type: ignore[arg-type] # Mangum names its own ASGI types
        loop.run_until_complete(app.close())
    finally:
        loop.close()
        asyncio.set_event_loop(None)
    return httpx.Response(given["statusCode"], headers=given["headers"], text=given["body"])


def by_server(app: AdminApp, route: Route) -> httpx.Response:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app.app, http="h11", loop="asyncio", log_config=None, lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.002)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}{path_of(route, 0)}"
        try:
            return httpx.request(route.method, url, headers=headers_of(route), content=body_of(route), timeout=20)
        finally:
            server.should_exit = True
            thread.join(10)


@pytest.fixture(params=[by_server, by_event], ids=["server", "event"])
def ask(request: pytest.FixtureRequest) -> Ask:
    way: Ask = request.param
    return way


@pytest.mark.parametrize("route", ROUTES, ids=lambda route: route.operation)
def test_every_route_answers_as_described(ask: Ask, route: Route) -> None:
    answer = ask(AdminApp(CONFIG, secrets=SECRETS), route)
    assert answer.status_code == expected(route, "admin"), answer.text
    assert answer.status_code >= 400 or answer.headers["cache-control"] == "no-store"
    check_answer(route.method, path_of(route, 0), answer)
