"""`POST /api/chat` and `GET /` beside `llm-gateway run`, whose stores are those of AWS's API."""

import httpx

from tests.fakes.gateway_process import GatewayProcess


def test_a_session_is_kept_in_the_cache_table(gateway: GatewayProcess) -> None:
    root, headers = gateway.base_url.removesuffix("/v1"), {"authorization": f"Bearer {gateway.key}"}
    tokens = []
    for message in ("one", "two"):
        body = {"message": message, "session_id": "größe 🙂", "model": "echo:demo"}
        answer = httpx.post(f"{root}/api/chat", json=body, headers=headers)
        assert answer.status_code == 200, answer.text
        assert answer.json()["reply"] == f"echo: {message}"
        tokens.append(answer.json()["usage"]["prompt_tokens"])
    assert tokens == [1, 4]
    items = gateway.client("dynamodb").scan(TableName="llm-gateway-cache")["Items"]
    (kept,) = [item for item in items if item["pk"]["S"].startswith("chat#")]
    assert kept["state"] == {"S": "free"}
    assert kept["ttl"] == kept["kept_until"]
    assert gateway.key not in str(kept)


def test_the_front_page_says_where_it_is(gateway: GatewayProcess) -> None:
    root = gateway.base_url.removesuffix("/v1")
    page = httpx.get(root, headers={"accept": "text/html"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert f'<pre id="url" tabindex="0">{gateway.base_url}</pre>' in page.text
    assert httpx.get(root).json()["base_url"] == gateway.base_url
