"""Specifies what the upstream client sends over real sockets, and that it hands back any answer as it is."""

import orjson
import pytest

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamUnreachable
from llm_gateway.upstream.client import UpstreamClient
from llm_gateway.upstream.network import encode_head, parse_target
from tests.fakes.openai_upstream import OpenAIUpstream, Raw, Reply, chat, redirect
from tests.integration import upstream_calls
from tests.integration.upstream_calls import KEY, read_all, request_for

client, up, provider = upstream_calls.client, upstream_calls.up, upstream_calls.provider


class TestRequests:
    async def test_a_buffered_answer(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(chat("Hi", headers={"X-Request-Id": "one", "x-request-ID": "two"}))
        response = await client.send(request_for(up))
        assert response.status == 200
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-request-id"] == "two"
        body = await response.read(1 << 20)
        assert orjson.loads(body)["choices"][0]["message"]["content"] == "Hi"
        assert await response.read(1 << 20) == b""
        await response.close()
        await response.close()

    async def test_what_goes_over_the_wire(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        sent = request_for(up)
        await read_all(client, sent)
        got = up.last()
        assert (got.method, got.target, got.body) == ("POST", "/v1/chat/completions", sent.body)
        assert got.headers == {
            "host": up.base_url.removeprefix("http://").removesuffix("/v1"),
            "content-type": "application/json",
            "authorization": f"Bearer {KEY}",
            "x-title": "Some App",
            "accept-encoding": "identity",
            "user-agent": "llm-gateway",
            "content-length": str(len(sent.body)),
        }

    async def test_a_get_has_no_body_and_a_query_stays(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        request = HttpRequest("GET", f"{up.base_url}/models?api-version=2024-10-21&x=%2F", {"host": "other.example"})
        assert orjson.loads(await read_all(client, request))["object"] == "list"
        assert up.last().target == "/v1/models?api-version=2024-10-21&x=%2F"
        assert up.last().headers["host"] == "other.example"
        assert "content-length" not in up.last().headers

    async def test_the_callers_framing_headers_do_not_go_out(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        headers = {
            "content-length": "5",
            "transfer-encoding": "chunked",
            "connection": "close",
            "expect": "100-continue",
        }
        await read_all(client, HttpRequest("POST", f"{up.base_url}/embeddings", headers, b'{"input":"x"}'))
        assert up.last().headers["content-length"] == "13"
        assert not {"transfer-encoding", "connection", "expect"} & set(up.last().headers)

    @pytest.mark.parametrize("size", [0, 1, 64 * 1024, 6 * 1024 * 1024])
    async def test_large_bodies_both_ways(self, up: OpenAIUpstream, client: UpstreamClient, size: int) -> None:
        body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
        up.queue(Reply(body))
        assert await read_all(client, HttpRequest("POST", f"{up.base_url}/x", {}, body)) == body
        assert up.last().body == body
        assert up.last().headers["content-length"] == str(size)

    async def test_head_is_answered_without_a_body(self, up: OpenAIUpstream, client: UpstreamClient) -> None:
        up.queue(Raw(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", close=False))
        response = await client.send(HttpRequest("HEAD", f"{up.base_url}/x", {}))
        assert (response.headers["content-length"], await response.read(10)) == ("5", b"")

    async def test_a_redirect_is_an_answer_and_is_not_followed(
        self, up: OpenAIUpstream, client: UpstreamClient
    ) -> None:
        up.queue(redirect(f"{up.base_url}/models"))
        response = await client.send(request_for(up))
        assert (response.status, response.headers["location"]) == (307, f"{up.base_url}/models")
        await response.close()
        assert len(up.requests) == 1

    async def test_proxies_of_the_environment_are_not_used(
        self, up: OpenAIUpstream, client: UpstreamClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, "http://127.0.0.1:1")
        assert await read_all(client, request_for(up))


class TestHeads:
    @pytest.mark.parametrize(
        ("url", "authority", "port", "path"),
        [
            ("https://api.openai.com/v1/x", "api.openai.com", 443, "/v1/x"),
            ("https://api.openai.com:443", "api.openai.com", 443, "/"),
            ("http://h:8080/a?b=c#d", "h:8080", 8080, "/a?b=c"),
            ("http://[::1]:9/a", "[::1]:9", 9, "/a"),
            ("https://user:pw@h/a", "h", 443, "/a"),
            ("https://bücher.example/a", "xn--bcher-kva.example", 443, "/a"),
            ("https://h/openai/deployments/a%3Ab/c", "h", 443, "/openai/deployments/a%3Ab/c"),
        ],
    )
    def test_targets(self, url: str, authority: str, port: int, path: str) -> None:
        target = parse_target(url)
        assert (target.authority, target.port, target.path) == (authority, port, path)

    @pytest.mark.parametrize(
        "url",
        ["ftp://h/x", "h/x", "", "http://", "http:///x", "http://h:port/x", "http://h:99999/", "http://h/a b",
         "http://h/\u00e9", "http://a b/x", "http://" + "x" * 70 + "\u00e9/"],
    )  # fmt: skip
    def test_what_is_no_url(self, url: str) -> None:
        with pytest.raises(UpstreamUnreachable):
            parse_target(url)

    @pytest.mark.parametrize("value", [f"{KEY}\n", f"{KEY}\r\nx: y", f"{KEY}\0", f"{KEY}\u2026"])
    def test_a_header_that_cannot_be_sent_is_named_without_its_value(self, value: str) -> None:
        with pytest.raises(UpstreamUnreachable, match="header 'authorization' for h") as caught:
            encode_head("POST", parse_target("http://h/"), {"authorization": value}, 0)
        assert KEY not in str(caught.value)
