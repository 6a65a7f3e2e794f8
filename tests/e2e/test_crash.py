"""`kill -9` of the gateway in mid-stream: its entry stays open for the sweep, and nothing else is lost."""

from collections.abc import Callable

import httpx
import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.openai_upstream import ChatStream, OpenAIUpstream

CONFIG = """
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
credential = "none"
"""
StartGateway = Callable[..., GatewayProcess]


def test_a_kill_in_mid_stream_leaves_an_open_entry(start_gateway: StartGateway) -> None:
    with OpenAIUpstream() as upstream:
        scenario = ChatStream(text="one two three", gate_after=2)
        upstream.script("x", scenario)
        gateway = start_gateway(CONFIG.format(base_url=upstream.base_url), outlive=True)
        headers = {"Authorization": f"Bearer {gateway.key}"}
        body = {"model": "echo:a", "messages": [{"role": "user", "content": "hi"}]}
        before = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers=headers)
        with httpx.stream(
            "POST",
            f"{gateway.base_url}/chat/completions",
            json={**body, "model": "corp:x", "stream": True},
            headers=headers,
        ) as stream:
            request_id = stream.headers["x-request-id"]
            lines = stream.iter_lines()
            while "one" not in next(lines):
                pass
            gateway.kill()
            with pytest.raises(httpx.RemoteProtocolError):
                list(lines)
        assert upstream.last().wait_left(), "the provider's connection dies with the process"

    dynamodb = gateway.client("dynamodb")
    table = next(name for name in dynamodb.list_tables()["TableNames"] if name.endswith("ledger"))

    def status(wanted: str) -> str:
        item = dynamodb.get_item(TableName=table, Key={"pk": {"S": f"req#{wanted}"}}, ConsistentRead=True)["Item"]
        found: str = item["status"]["S"]
        return found

    assert status(request_id) == "open"
    assert status(before.headers["x-request-id"]) == "settled"
