"""`GET /`. What it answers is imported when it is first asked: few processes ever are."""

from fastapi import FastAPI, Request
from starlette.responses import Response

from llm_gateway.api.documentation import FRONT_PAGE


def add_front_page(app: FastAPI) -> None:
    async def respond(request: Request) -> Response:
        from llm_gateway.api.front_page_answer import answer_to  # noqa: PLC0415 - see above

        return answer_to(request.scope, app.docs_url)

    if app.openapi_url is None:
        app.router.add_route("/", respond, methods=["GET"])
        return
    app.add_api_route("/", respond, methods=["GET"], openapi_extra=FRONT_PAGE, summary=FRONT_PAGE["summary"])
    app.add_api_route("/", respond, methods=["HEAD"], include_in_schema=False)
