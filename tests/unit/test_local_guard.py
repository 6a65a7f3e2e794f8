"""`AUTH=none`: programs of this machine are served, web pages from elsewhere are not."""

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from llm_gateway.local.guard import OnlyFromThisMachine


async def served(_: Request) -> PlainTextResponse:
    return PlainTextResponse("served")


APP = OnlyFromThisMachine(Starlette(routes=[Route("/", served, methods=["POST"])]))


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("127.0.0.1:8000", None, 200),
        ("localhost", None, 200),
        ("[::1]:8000", None, 200),
        ("127.0.0.1:8000", "http://localhost:3000", 200),
        ("127.0.0.1:8000", "https://evil.example", 403),
        ("127.0.0.1:8000", "null", 403),
        ("evil.example", None, 403),
        ("localhost.evil.example:8000", None, 403),
    ],
)
async def test_hosts_and_origins(host: str, origin: str | None, status: int) -> None:
    headers = {"host": host, **({"origin": origin} if origin else {})}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(APP), base_url="http://x") as client:
        answer = await client.post("/", headers=headers)
    assert answer.status_code == status
    if status == 403:
        assert answer.json()["error"]["code"] == "permission_denied"
