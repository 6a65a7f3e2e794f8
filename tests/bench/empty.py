"""The least that a FastAPI app on Lambda is: Mangum, Powertools' Logger and Metrics, and as many routes as the gateway
has, all empty. Its import is the yardstick for the gateway's; one request through it is FastAPI's and Mangum's own cost.

The number of routes is in `BENCH_ROUTES`.
"""

import os
from collections.abc import Awaitable, Callable

from aws_lambda_powertools import Logger
from aws_lambda_powertools.metrics import Metrics
from fastapi import FastAPI, Request
from mangum import Mangum
from starlette.responses import Response

logger = Logger(service="empty")
metrics = Metrics(namespace="empty", service="empty")


def build() -> FastAPI:
    """Its first route answers the path that the bench posts to."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    for number in range(int(os.environ["BENCH_ROUTES"])):
        path = f"/empty/{number}" if number else "/v1/chat/completions"
        app.add_api_route(path, _empty(), methods=["GET", "POST"])
    return app


def _empty() -> Callable[[Request], Awaitable[Response]]:
    async def empty(request: Request) -> Response:
        return Response(b'{"ok":true}', media_type="application/json")

    return empty


def handler() -> Mangum:
    return Mangum(build(), lifespan="off")
