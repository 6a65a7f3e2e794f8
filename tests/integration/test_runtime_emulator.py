"""Specifies that AWS's runtime interface emulator, the one inside the aws-sam-cli wheel, gets along with both ways in:
the streaming loop, and the buffered handler under AWS's own Python runtime client.

The emulator takes the streaming protocol but gives the body only when it is complete, prelude and delimiter included.
"""

import importlib.util
import json
import os
import platform
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
APPS = "tests.fakes.lambda_platform.apps:"


def emulator() -> Path:
    """aws-sam-cli is a development dependency, so its absence is a failure, not a reason to skip."""
    spec = importlib.util.find_spec("samcli")
    assert spec is not None, "aws-sam-cli is not installed"
    assert spec.submodule_search_locations
    machine = {"x86_64": "x86_64", "aarch64": "arm64"}[platform.machine()]
    return Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{machine}")


def free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@contextmanager
def emulated(command: list[str], log: Path, **env: str) -> Iterator[str]:
    """Runs `command` under the emulator; gives the URL that events are posted to."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the emulator is a Linux program")
    outer, inner = free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": f"{ROOT / 'layers' / 'core'}:{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "AWS_LAMBDA_FUNCTION_NAME": "gateway",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": "30",
        "LLM_GATEWAY_APP": APPS + "build",
        **env,
    }
    arguments = [
        str(emulator()),
        "--runtime-interface-emulator-address",
        f"127.0.0.1:{outer}",
        "--runtime-api-address",
        f"127.0.0.1:{inner}",
        *command,
    ]
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, env=environment, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(outer, process, log)
        yield f"http://127.0.0.1:{outer}/2015-03-31/functions/function/invocations"
    finally:
        # The emulator starts the runtime in a process of its own: the whole session ends with it.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(200):
        assert process.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    raise AssertionError(f"the emulator does not listen: {log.read_text()}")


def event(path: str, query: dict[str, str] | None = None, body: str | None = None) -> dict[str, Any]:
    base: dict[str, Any] = json.loads((ROOT / "events" / "rest_chat.json").read_text())
    many = {name: [value] for name, value in query.items()} if query else None
    return {
        **base,
        "path": path,
        "pathParameters": {"proxy": path.lstrip("/")},
        "queryStringParameters": query,
        "multiValueQueryStringParameters": many,
        "body": body,
    }


def example(name: str) -> Any:
    return json.loads((ROOT / "events" / f"{name}.json").read_text())


def streamed(url: str, payload: Any) -> tuple[dict[str, Any], bytes]:
    """The prelude and the body."""
    reply = httpx.post(url, json=payload, timeout=20)
    assert reply.status_code == 200
    prelude, delimiter, body = reply.content.partition(b"\x00" * 8)
    assert delimiter, reply.text
    metadata: dict[str, Any] = json.loads(prelude)
    return metadata, body


def test_the_emulator_drives_the_streaming_loop(tmp_path: Path) -> None:
    with emulated([sys.executable, "-m", "llm_gateway.runtime"], tmp_path / "log") as url:
        prelude, body = streamed(url, event("/stream", {"n": "3", "gap": "0.01"}))
        assert prelude == {"statusCode": 200, "headers": {"content-type": "text/event-stream"}}
        assert body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"

        prelude, body = streamed(url, event("/fail-before"))
        assert prelude["statusCode"] == 500
        assert json.loads(body)["error"]["code"] == "internal_error"

        prelude, body = streamed(url, event("/fail-mid"))
        assert prelude["statusCode"] == 200
        assert b"event: error" in body

        # More than 2 KB: the emulator chunks the event it hands out.
        prelude, body = streamed(url, event("/echo", body="x" * 100_000))
        assert prelude["statusCode"] == 200
        assert len(json.loads(body)["body"]) > 100_000

        prelude, body = streamed(url, example("rest_chat_stream"))
        assert prelude["headers"]["content-type"] == "text/event-stream"
        assert body.endswith(b"data: [DONE]\n\n")

        failed = httpx.post(url, json={"not": "http"}, timeout=20).json()
        assert failed["errorType"] == "Runtime.UnsupportedEvent"
        assert streamed(url, event("/status", {"code": "204"}))[0]["statusCode"] == 204


def test_the_emulator_is_told_of_an_app_that_does_not_load(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "llm_gateway.runtime"]
    with emulated(command, tmp_path / "log", LLM_GATEWAY_APP=APPS + "broken") as url:
        failed = httpx.post(url, json=event("/echo"), timeout=20).json()
        assert failed["errorType"] == "Runtime.RuntimeError"
        assert failed["errorMessage"] == "REGISTRY_TABLE is not set"


@pytest.mark.parametrize("name", ["rest_chat", "http_api_chat", "alb_chat"])
def test_the_emulator_drives_the_buffered_handler(tmp_path: Path, name: str) -> None:
    command = [sys.executable, "-m", "awslambdaric", "tests.fakes.lambda_platform.buffered.handler"]
    with emulated(command, tmp_path / "log") as url:
        answer = httpx.post(url, json=example(name), timeout=20).json()
        assert answer["statusCode"] == 200
        assert answer["isBase64Encoded"] is False
        content = json.loads(answer["body"])["choices"][0]["message"]["content"]
        assert content == "Hello from Lambda"


def test_the_wrapper_under_the_emulator(tmp_path: Path) -> None:
    """As deployed: the managed bootstrap's command line, handed to `functions/gateway/run`."""
    run = str(ROOT / "functions" / "gateway" / "run")
    managed = [sys.executable, "-m", "awslambdaric", "tests.fakes.lambda_platform.buffered.handler"]
    task_root = {"LAMBDA_TASK_ROOT": str(ROOT)}
    with emulated([run, *managed], tmp_path / "streaming", **task_root) as url:
        assert streamed(url, example("rest_chat"))[0]["statusCode"] == 200
    with emulated([run, *managed], tmp_path / "buffered", **task_root, LLM_GATEWAY_STREAMING="off") as url:
        assert httpx.post(url, json=example("rest_chat"), timeout=20).json()["statusCode"] == 200
