"""Specifies the echo provider's models, and the behaviours that their names ask for: errors, delays, cuts."""

import asyncio
import re

import orjson
import pytest
from openai.types import Model

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed, UpstreamTimeout, UpstreamUnreachable
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.echo import MODELS, PAUSE_S
from tests.fakes.virtual_time import in_virtual_time
from tests.unit.echo_calls import USER, assemble, call, chat, stream


class TestModels:
    async def test_the_list_and_any_single_one(self) -> None:
        listed = orjson.loads(await (await call("/models", b"", "GET")).read(1 << 16))
        assert [Model.model_validate(row, strict=True).id for row in listed["data"]] == list(MODELS)
        single = orjson.loads(await (await call("/models/vendor%2Fany", b"", "GET")).read(1 << 16))
        assert Model.model_validate(single, strict=True).id == "vendor/any"


class TestBehaviours:
    @pytest.mark.parametrize(
        ("status", "kind", "code"),
        [(400, "invalid_request_error", None), (401, "authentication_error", "invalid_api_key"),
         (404, "invalid_request_error", "model_not_found"), (429, "rate_limit_error", "rate_limit_exceeded"),
         (500, "server_error", None), (503, "server_error", None)],
    )  # fmt: skip
    @pytest.mark.parametrize("prefix", ["", "vendor/"])
    async def test_errors(self, prefix: str, status: int, kind: str, code: str | None) -> None:
        response = await call("/chat/completions", {"model": f"{prefix}error-{status}", "messages": [USER]})
        error = orjson.loads(await response.read(1 << 16))["error"]
        assert (response.status, error["type"], error["code"]) == (status, kind, code)
        assert ("retry-after" in response.headers) == (status in (429, 503))

    @in_virtual_time
    async def test_slow(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        pieces = await stream(model="slow")
        assert assemble(pieces)[0]["content"] == "echo: hello wide world"
        assert loop.time() - start == pytest.approx(PAUSE_S * (len(pieces) + 1))

    async def test_no_usage(self) -> None:
        assert (await chat(model="no-usage")).usage is None
        chunks = await stream(model="no-usage", stream_options={"include_usage": True})
        assert all("usage" not in chunk for chunk in chunks)

    async def test_an_error_in_the_stream(self) -> None:
        body = {"model": "error-in-stream", "messages": [USER]}
        response = await call("/chat/completions", body | {"stream": True})
        data = [orjson.loads(piece[6:]) async for piece in response.chunks()]
        assert data[-1]["error"]["type"] == "server_error"
        assert data[0]["choices"]
        assert (await call("/chat/completions", body)).status == 500

    @pytest.mark.parametrize("streamed", [True, False])
    @pytest.mark.parametrize(("model", "error"), [("cut", UpstreamCut), ("stall", UpstreamTimeout)])
    @in_virtual_time
    async def test_a_body_that_breaks_off(self, model: str, error: type[UpstreamError], streamed: bool) -> None:
        body = {"model": model, "messages": [USER], "stream": streamed}
        response = await call("/chat/completions", body, idle_s=0.05)
        pieces = response.chunks()
        assert await anext(pieces)
        with pytest.raises(error):
            await (await call("/chat/completions", body, idle_s=0.05)).read(1 << 20)
        await response.close()

    @in_virtual_time
    async def test_no_answer(self) -> None:
        with pytest.raises(UpstreamTimeout, match=re.escape("within 0.05 s")):
            await call("/chat/completions", {"model": "no-answer"}, first_byte_s=0.05)
        with pytest.raises(UpstreamUnreachable):
            await call("/chat/completions", {"model": "unreachable"})

    @in_virtual_time
    async def test_closing_and_cancelling_stop_it(self) -> None:
        response = await call("/chat/completions", {"model": "slow", "messages": [USER], "stream": True})
        pieces = response.chunks()
        await anext(pieces)
        task = asyncio.ensure_future(pieces.__anext__())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await response.close()
        await response.close()
        assert [piece async for piece in response.chunks()] == []

    async def test_read_keeps_to_its_limit(self) -> None:
        with pytest.raises(UpstreamMalformed):
            await (await call("/models", b"", "GET")).read(10)

    async def test_the_upstream_client_finds_it_by_its_scheme(self) -> None:
        client = open_client()
        body = orjson.dumps({"model": "echo", "messages": [USER]})
        for base in ("echo:", "echo://local/v1", "echo://x"):
            response = await client.send(HttpRequest("POST", f"{base}/chat/completions", {}, body))
            assert b"echo: hello wide world" in await response.read(1 << 20)
        await client.close()
