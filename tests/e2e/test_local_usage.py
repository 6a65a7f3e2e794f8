"""Usage beside `llm-gateway run`: there at once, whole after a crash, and never behind."""

import json
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import GatewayProcess

StartGateway = Callable[..., GatewayProcess]


def ask(gateway: GatewayProcess, path: str, body: bytes | None = None) -> tuple[Any, str]:
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}{path}", body, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - loopback
        assert answer.status == 200
        return json.loads(answer.read()), str(answer.headers["x-request-id"])


def call(gateway: GatewayProcess) -> str:
    body = json.dumps({"model": "echo:demo", "messages": [{"role": "user", "content": "hello"}]}).encode()
    return ask(gateway, "/chat/completions", body)[1]


def await_calls(gateway: GatewayProcess, count: int) -> None:
    """Asks until the totals, by each kind of group, are those of so many calls."""
    deadline = time.monotonic() + 10
    while True:
        found = [
            sum(row["calls"] for row in ask(gateway, f"/usage?group_by={group}")[0]["data"])
            for group in ("day", "key", "provider,model")
        ]
        if found == [count] * 3:
            return
        assert time.monotonic() < deadline, found
        time.sleep(0.1)


def test_usage_is_there_after_each_call_and_survives(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = start_gateway(directory=tmp_path / "data")
    calls = []
    for number in range(1, 6):
        calls.append(call(gateway))
        await_calls(gateway, number)
    gateway.kill()
    again = start_gateway(directory=tmp_path / "data")
    await_calls(again, 5)
    call(again)
    await_calls(again, 6)
    assert ask(again, f"/usage/requests/{calls[-1]}")[0]["status"] == "settled"
    assert again.stop() == 0
    assert "Traceback" not in again.log
