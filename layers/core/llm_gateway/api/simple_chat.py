"""`POST /api/chat`. What it is made of is imported when it is first called."""

from collections.abc import Callable

from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.data_plane import DataPlane
from llm_gateway.api.documentation import SIMPLE_CHAT
from llm_gateway.api.exchange_response import Driven, ExchangeResponse
from llm_gateway.pipeline.call import Call

PATH = "/api/chat"
OpenTurn = Callable[[Call], Driven]


def add_simple_chat(app: FastAPI, plane: DataPlane, turn: OpenTurn) -> None:
    async def respond(request: Request) -> Response:
        return ExchangeResponse(turn(await plane.call_of(request, "chat.completions")), plane.log)

    if app.openapi_url is None:
        app.router.add_route(PATH, respond, methods=["POST"])
        return
    app.add_api_route(
        PATH,
        respond,
        methods=["POST"],
        openapi_extra=SIMPLE_CHAT,
        response_class=Response,
        summary=SIMPLE_CHAT["summary"],
    )
