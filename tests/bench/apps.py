"""What is measured: the gateway as it is deployed, and the FastAPI apps it is measured against.

A passthrough does nothing but post the body to the same provider and return the bytes: no key, no ledger, no usage.
"""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request
from starlette.responses import Response, StreamingResponse

from tests.bench.asgi import App
from tests.bench.wire import PROVIDER_KEY

OpenApp = Callable[[str, str], AbstractAsyncContextManager[App]]
"""Takes the provider's and AWS's base URLs; the app's connections are closed in the end."""
_UPSTREAM_HEADERS = {"content-type": "application/json", "authorization": f"Bearer {PROVIDER_KEY}"}
_SSE = "text/event-stream"


def deployed_environment(aws: str) -> dict[str, str]:
    """What the template gives the function, with AWS at another address."""
    return {
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY",
        "AWS_SESSION_TOKEN": "bench-session-token-" + "x" * 400,
        "AWS_ENDPOINT_URL": aws,
        "AWS_LAMBDA_FUNCTION_NAME": "gateway",
        "STACK_NAME": "llm-gateway",
    }


@asynccontextmanager
async def gateway(_provider: str, aws: str) -> AsyncIterator[App]:
    """`bootstrap.build` itself: keys, ledger, log and metrics are all on. The provider's address is in the registry."""
    from llm_gateway.bootstrap import build
    from llm_gateway.settings import Settings
    from llm_gateway.upstream.credentials import AwsCredentials

    environ = deployed_environment(aws)
    credentials = AwsCredentials(
        environ["AWS_ACCESS_KEY_ID"], environ["AWS_SECRET_ACCESS_KEY"], environ["AWS_SESSION_TOKEN"]
    )
    parts = build(Settings.from_environment(environ), aws_credentials=credentials)
    try:
        yield cast("App", parts.app)
    finally:
        await parts.http.close()


@asynccontextmanager
async def on_httpx(provider: str, _aws: str) -> AsyncIterator[App]:
    import httpx

    async with httpx.AsyncClient(trust_env=False, limits=httpx.Limits(max_connections=512), timeout=60) as client:

        async def buffered(body: bytes) -> Response:
            answer = await client.post(f"{provider}/v1/chat/completions", content=body, headers=_UPSTREAM_HEADERS)
            return Response(answer.content, media_type="application/json")

        async def streamed(body: bytes) -> Response:
            request = client.build_request(
                "POST", f"{provider}/v1/chat/completions", content=body, headers=_UPSTREAM_HEADERS
            )
            answer = await client.send(request, stream=True)

            async def pieces() -> AsyncIterator[bytes]:
                try:
                    async for piece in answer.aiter_raw():
                        yield piece
                finally:
                    await answer.aclose()

            return StreamingResponse(pieces(), media_type=_SSE)

        yield passthrough(buffered, streamed)


@asynccontextmanager
async def on_aiohttp(provider: str, _aws: str) -> AsyncIterator[App]:
    import aiohttp

    url = f"{provider}/v1/chat/completions"
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=512)) as session:

        async def buffered(body: bytes) -> Response:
            async with session.post(url, data=body, headers=_UPSTREAM_HEADERS) as answer:
                return Response(await answer.read(), media_type="application/json")

        async def streamed(body: bytes) -> Response:
            answer = await session.post(url, data=body, headers=_UPSTREAM_HEADERS)

            async def pieces() -> AsyncIterator[bytes]:
                async with answer:
                    async for piece in answer.content.iter_any():
                        yield piece

            return StreamingResponse(pieces(), media_type=_SSE)

        yield passthrough(buffered, streamed)


@asynccontextmanager
async def on_pyreqwest(provider: str, _aws: str) -> AsyncIterator[App]:
    from pyreqwest.client import ClientBuilder

    url = f"{provider}/v1/chat/completions"
    async with ClientBuilder().no_proxy().follow_redirects(enable=False).build() as client:

        async def buffered(body: bytes) -> Response:
            answer = await client.post(url).headers(_UPSTREAM_HEADERS).body_bytes(body).build().send()
            return Response(bytes(await answer.bytes()), media_type="application/json")

        async def streamed(body: bytes) -> Response:
            # Without the 0, the head of a stream is held back until 64 KiB of it have come.
            request = client.post(url).headers(_UPSTREAM_HEADERS).body_bytes(body).streamed_read_buffer_limit(0)

            async def pieces() -> AsyncIterator[bytes]:
                async with request.build_streamed() as answer:
                    while (piece := await answer.body_reader.read_chunk()) is not None:
                        yield bytes(piece)

            return StreamingResponse(pieces(), media_type=_SSE)

        yield passthrough(buffered, streamed)


def passthrough(buffered: Callable[[bytes], Any], streamed: Callable[[bytes], Any]) -> App:
    """The one route, the same for each client. It finds out about streams as cheaply as can be."""
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    async def complete(request: Request) -> Response:
        body = await request.body()
        answer: Response = await (streamed(body) if b'"stream": true' in body else buffered(body))
        return answer

    app.add_api_route("/v1/chat/completions", complete, methods=["POST"])
    return cast("App", app)


APPS: Mapping[str, OpenApp] = {
    "gateway": gateway,
    "httpx": on_httpx,
    "aiohttp": on_aiohttp,
    "pyreqwest": on_pyreqwest,
}
PASSTHROUGHS = ("httpx", "aiohttp", "pyreqwest")
