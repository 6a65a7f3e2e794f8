"""The routes that read usage. What they do is imported when the first of them is called: most processes never are."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING

from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.pipeline.auth import Identification

if TYPE_CHECKING:
    from llm_gateway.api.usage_readings import UsageReadings
    from llm_gateway.pipeline.usage_queries import UsageQueries

Respond = Callable[[Request], Awaitable[Response]]


class UsageRoutes:
    """`queries` is asked once, for the first request."""

    def __init__(self, auth: Identification, queries: "Callable[[], UsageQueries]") -> None:
        self._auth = auth
        self._queries = queries

    async def usage(self, request: Request) -> Response:
        return await self._readings.usage(request)

    async def requests(self, request: Request) -> Response:
        return await self._readings.requests(request)

    async def request(self, request: Request) -> Response:
        return await self._readings.request(request)

    @cached_property
    def _readings(self) -> "UsageReadings":
        from llm_gateway.api.usage_readings import UsageReadings  # noqa: PLC0415

        return UsageReadings(self._auth, self._queries(), lambda: datetime.now(UTC).date())


def add_usage(app: FastAPI, routes: UsageRoutes) -> None:
    paths: dict[str, Respond] = {
        "/usage": routes.usage,
        "/usage/requests": routes.requests,
        "/usage/requests/{request_id}": routes.request,
    }
    for path, respond in paths.items():
        app.router.add_route(f"/v1{path}", respond, methods=["GET"])
        if app.openapi_url is None:
            app.router.add_route(path, respond, methods=["GET"])
            continue
        from llm_gateway.api.usage_documentation import USAGE  # noqa: PLC0415 - for those who serve `/docs`

        app.add_api_route(path, respond, methods=["GET"], openapi_extra=USAGE[path], summary=USAGE[path]["summary"])
