"""Totals beside `llm-gateway run`: there within seconds, whole after a crash, and rebuilt by one command."""

import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.fakes.gateway_process import GatewayProcess

StartGateway = Callable[..., GatewayProcess]


def call(gateway: GatewayProcess) -> str:
    body = json.dumps({"model": "echo:demo", "messages": [{"role": "user", "content": "hello"}]}).encode()
    headers = {"authorization": f"Bearer {gateway.key}", "content-type": "application/json"}
    request = urllib.request.Request(f"{gateway.base_url}/chat/completions", body, headers)  # noqa: S310 - loopback
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - loopback
        assert answer.status == 200
        return str(answer.headers["x-request-id"])


def total(gateway: GatewayProcess) -> dict[str, Any]:
    """What the totals of all together say."""
    found = gateway.client("dynamodb").query(
        TableName="llm-gateway-usage",
        KeyConditionExpression="pk = :group",
        ExpressionAttributeValues={":group": {"S": "organisation"}},
    )
    return {name: value["N"] for item in found["Items"] for name, value in item.items() if "N" in value}


def item(gateway: GatewayProcess, request_id: str) -> dict[str, Any]:
    key = {"pk": {"S": f"req#{request_id}"}}
    return dict(gateway.client("dynamodb").get_item(TableName="llm-gateway-ledger", Key=key)["Item"])


def await_calls(gateway: GatewayProcess, count: int) -> None:
    deadline = time.monotonic() + 10
    while total(gateway).get("calls", "0") != str(count):
        assert time.monotonic() < deadline, total(gateway)
        time.sleep(0.1)


def test_usage_is_there_within_seconds_and_survives(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = start_gateway(directory=tmp_path / "data")
    for _ in range(3):
        call(gateway)
    await_calls(gateway, 3)
    # What was settled and not counted when everything was killed is counted at the next start.
    last = call(gateway)
    while "settled" not in str(item(gateway, last)["status"]):
        time.sleep(0.005)
    gateway.kill()
    again = start_gateway(directory=tmp_path / "data")
    await_calls(again, 4)
    assert gateway.data == again.data
    again.client("dynamodb").update_item(
        TableName="llm-gateway-ledger",
        Key={"pk": {"S": f"req#{last}"}},
        UpdateExpression="SET cost = :cost",
        ExpressionAttributeValues={":cost": {"N": "0.5"}},
    )
    today = time.strftime("%Y-%m-%d", time.gmtime())
    command = [sys.executable, "-m", "llm_gateway.local.cli", "usage", "rebuild", "--from", today, "--to", today]
    done = subprocess.run(
        [*command, "--data", str(again.data)], capture_output=True, text=True, check=False, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, f"the totals of {today} to {today} are those of 4 requests\n")
    assert total(again)["cost"].startswith("0.5000")
    assert again.stop() == 0
    assert "Traceback" not in again.log
    assert "not being totalled" not in again.log
