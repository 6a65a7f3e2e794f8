"""Specifies that the built stack works under the real `sam local start-api`, started as `make local` starts it."""

import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from openai import OpenAI

from tests.fakes.lambda_image import ARCHITECTURE, ROOT, build_stack, free_port, need_image, sam_environ

pytestmark = pytest.mark.docker
START_S = 60.0


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[str]:
    need_image()
    directory = tmp_path_factory.mktemp("sam-local")
    build = build_stack(directory, bare_environ)
    port = free_port()
    command = [
        sys.executable, "scripts/sam_local.py", "--port", str(port), "--data", str(directory / "aws"),
        "--template", str(build / "template.yaml"), "--architecture", ARCHITECTURE,
        "--", "--skip-pull-image", "--warm-containers", "LAZY",
    ]  # fmt: skip
    log = directory / "sam.log"
    environ = sam_environ(bare_environ)
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=output, stderr=output, start_new_session=True)
    try:
        wait_for(port, process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=60)


def wait_for(port: int, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()
        with socket.socket() as one:
            if one.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    pytest.fail(f"sam local did not come up\n{log.read_text()}")


@pytest.fixture(scope="module")
def client(base_url: str) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{base_url}/v1", api_key="sk-local", timeout=120, max_retries=0) as one:
        yield one


def test_a_chat_completion(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="echo:demo", messages=[{"role": "user", "content": "hello there"}])
    assert answer.choices[0].message.content == "echo: hello there"
    assert answer.usage
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_its_ledger_entry_is_read_back(client: OpenAI, base_url: str) -> None:
    answer = client.chat.completions.with_raw_response.create(
        model="echo:demo", messages=[{"role": "user", "content": "hello"}]
    )
    request_id = answer.headers["x-request-id"]
    entry = httpx.get(
        f"{base_url}/usage/requests/{request_id}", headers={"authorization": "Bearer sk-local"}, timeout=60
    ).json()
    assert entry["status"] == "settled"
    assert entry["cost_usd"] == answer.headers["x-gateway-cost-usd"]


def test_a_stream_comes_whole_though_not_live(client: OpenAI) -> None:
    """`sam local` buffers: the wrapper has stepped aside for Mangum."""
    stream = client.chat.completions.create(
        model="echo:demo", messages=[{"role": "user", "content": "one two three"}], stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in stream if chunk.choices)
    assert text == "echo: one two three"


@pytest.mark.parametrize(
    ("path", "key", "status", "code"),
    [
        ("/v1/models", "sk-wrong", 401, "invalid_api_key"),
        ("/v1/nothing", "sk-local", 404, "unknown_url"),
        ("/health", "sk-local", 200, None),
    ],
)
def test_errors_are_in_the_envelope(base_url: str, path: str, key: str, status: int, code: str | None) -> None:
    answer = httpx.get(base_url + path, headers={"authorization": f"Bearer {key}"}, timeout=60)
    assert answer.status_code == status
    assert answer.headers["x-request-id"]
    assert answer.json().get("error", {}).get("code") == code
