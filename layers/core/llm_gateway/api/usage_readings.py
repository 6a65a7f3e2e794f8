"""What the routes of usage do: totals, lists of requests, one request."""

from collections.abc import AsyncIterator, Callable
from datetime import date
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from llm_gateway.api.headers import caller_headers
from llm_gateway.api.usage_parameters import UsageParameters, requests_parameters, usage_parameters
from llm_gateway.api.usage_rendering import csv_chunks, render_record, render_row
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import NotFound
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.usage_queries import UsageQueries
from llm_gateway.pipeline.usage_question import DAY, Days


class UsageReadings:
    """Reads the question, asks, renders. Whose usage it is follows from the key alone."""

    def __init__(self, auth: Identification, queries: UsageQueries, today: Callable[[], date]) -> None:
        self._auth = auth
        self._queries = queries
        self._today = today

    async def usage(self, request: Request) -> Response:
        viewer = await self._viewer(request)
        query = request.scope["query_string"]
        asked = usage_parameters(query, request.headers.get("accept"), self._today())
        if asked.format == "csv":
            return await self._csv(asked, viewer)
        page = await self._queries.page(asked.question, viewer, asked.limit, asked.next)
        return _json(
            {
                **_days(asked.question.days),
                "group_by": asked.question.group_by,
                "data": [render_row(row) for row in page.rows],
                "next": page.next,
            }
        )

    async def requests(self, request: Request) -> Response:
        viewer = await self._viewer(request)
        asked = requests_parameters(request.scope["query_string"], self._today())
        found = await self._queries.requests(asked.wanted, viewer, asked.limit, asked.next)
        data = [_shown(record, viewer) for record in found.records]
        return _json({**_days(asked.days), "data": data, "next": found.next})

    async def request(self, request: Request) -> Response:
        viewer = await self._viewer(request)
        request_id = request.path_params["request_id"]
        record = await self._queries.request(request_id, viewer)
        if record is None:
            raise NotFound(f"There is no request `{request_id}`.")
        return _json(_shown(record, viewer))

    async def _csv(self, asked: UsageParameters, viewer: VirtualKey) -> Response:
        question = asked.question
        columns = tuple(sorted(question.group_by, key=lambda name: name != DAY))
        chunks = csv_chunks(self._queries.rows(question, viewer), columns)
        # A refusal, or a store that is away, has a status only until the answer has begun.
        first = await anext(chunks)
        name = f"usage-{question.days.first}-{question.days.last}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return StreamingResponse(_joined(first, chunks), media_type="text/csv; charset=utf-8", headers=headers)

    async def _viewer(self, request: Request) -> VirtualKey:
        _, token = caller_headers(request.scope["headers"], request.scope["path"])
        return await self._auth.identify(token)


async def _joined(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for chunk in rest:
        yield chunk


def _days(days: Days) -> dict[str, str]:
    return {"from": days.first.isoformat(), "to": days.last.isoformat()}


def _json(content: Any) -> Response:
    return Response(orjson.dumps(content), media_type="application/json")


def _shown(record: RequestRecord, viewer: VirtualKey) -> dict[str, Any]:
    return render_record(record, with_provider_cost=viewer.role == "admin")
