"""One request of the control plane, from its key to its answer."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final
from urllib.parse import quote

import orjson
from starlette.requests import Request
from starlette.responses import Response

from llm_gateway.admin.access import authorise
from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.bodies import checked, read_object, take_secrets
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.idempotent import REPLAYED, IdempotentCreates
from llm_gateway.admin.queries import read_query
from llm_gateway.admin.route_table import Route
from llm_gateway.api.body import read_body
from llm_gateway.api.envelope import REQUEST_ID
from llm_gateway.api.headers import CallerHeaders
from llm_gateway.errors import GatewayError, InternalFailure, InvalidRequest
from llm_gateway.pipeline.auth import Identification

_NOT_KEPT: Final = {"cache-control": "no-store"}


class Endpoint:
    """A route and what it does."""

    def __init__(
        self, route: Route, handler: Handler, auth: Identification, editing: Editing, creates: IdempotentCreates
    ) -> None:
        self._route = route
        self._handler = handler
        self._auth = auth
        self._editing = editing
        self._creates = creates

    async def __call__(self, request: Request) -> Response:
        """Raises `GatewayError`. A change that was not made is told to the audit, once it is known whose it was."""
        headers = CallerHeaders(request.scope["headers"])
        key = await self._auth.identify(headers.token(azure=False))
        client = request.scope.get("client")
        ask = Ask(
            self._route,
            key,
            path=dict(request.path_params),
            query={},
            body={},
            request_id=request.scope[REQUEST_ID],
            if_match=headers.get(b"if-match"),
            source_ip=client[0] if client else None,
            idempotency_key=headers.get(b"idempotency-key"),
        )
        try:
            authorise(self._route, key)
            raw = await self._raw_body(request, headers)
            ask = self._read(ask, request.scope["query_string"], raw)
            return await self._answered(ask, raw)
        except GatewayError as error:
            if self._route.mutates:
                await self._editing.refused(ask, error)
            raise
        except Exception:
            if self._route.mutates:
                await self._editing.refused(ask, InternalFailure("The gateway failed on this request."))
            raise

    def _read(self, ask: Ask, query_string: bytes, raw: bytes) -> Ask:
        query = read_query(query_string, self._route)
        body, secrets = take_secrets(read_object(raw, self._route), self._route)
        return replace(ask, query=query, body=checked(body, secrets, self._route), secrets=secrets)

    async def _answered(self, ask: Ask, raw: bytes) -> Response:
        if not self._route.idempotent or ask.idempotency_key is None:
            return self._response(ask, await self._handler(ask), replayed=False)
        reply, replayed = await self._creates.run(ask, raw, lambda: self._handler(ask))
        return self._response(ask, reply, replayed=replayed)

    async def _raw_body(self, request: Request, headers: CallerHeaders) -> bytes:
        if self._route.method == "GET":
            return b""
        if (coding := headers.get(b"content-encoding")) not in (None, "", "identity"):
            raise InvalidRequest(f"Request bodies with Content-Encoding `{coding}` are not supported.", status=415)
        return await read_body(request.receive, headers.get(b"content-length"))

    def _response(self, ask: Ask, reply: Reply, *, replayed: bool) -> Response:
        headers = dict(_NOT_KEPT)
        if reply.etag is not None:
            headers["etag"] = reply.etag
        if replayed:
            headers[REPLAYED] = "true"
        if reply.document is None:
            return Response(None, self._route.status, headers)
        if self._route.status == 201:
            headers["location"] = _location(ask, reply.document)
        content = orjson.dumps(dict(reply.document))
        return Response(content, self._route.status, headers, media_type="application/json")


def _location(ask: Ask, document: Mapping[str, object]) -> str:
    path = ask.route.path
    for name, value in ask.path.items():
        path = path.replace(f"{{{name}}}", quote(value, safe=""))
    names = (document.get(member) for member in ("model_id", "provider_id", "name"))
    return f"{path}/{quote(str(next(name for name in names if name is not None)), safe='')}"
