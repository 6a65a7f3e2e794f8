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

from llm_gateway.admin.route_table import ROUTES
from tests.fakes.admin_app import check_answer
from tests.fakes.lambda_image import ARCHITECTURE, ROOT, build_stack, free_port, need_image, sam_environ
from tests.integration.test_authorisation_control_plane import CONFIG, EXAMPLES, expected, path_of

pytestmark = pytest.mark.docker
START_S = 60.0


@pytest.fixture(scope="module")
def base_url(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[str]:
    need_image()
    directory = tmp_path_factory.mktemp("sam-local")
    build = build_stack(directory, bare_environ)
    (directory / "gateway.toml").write_text(CONFIG)
    port = free_port()
    command = [
        sys.executable, "scripts/sam_local.py", "--port", str(port), "--data", str(directory / "aws"),
        "--template", str(build / "template.yaml"), "--architecture", ARCHITECTURE,
        "--config", str(directory / "gateway.toml"),
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


def admin(base_url: str, method: str, path: str, body: object = None, etag: str | None = None) -> httpx.Response:
    headers = {"authorization": "Bearer sk-local", **({} if etag is None else {"if-match": etag})}
    answer = httpx.request(method, f"{base_url}{path}", json=body, headers=headers, timeout=60)
    check_answer(method, path, answer)
    return answer


def test_every_route_of_the_control_plane(base_url: str) -> None:
    """On one configuration, so in an order in which nothing is gone before it is asked for."""
    methods = ("GET", "PUT", "PATCH", "POST", "DELETE")
    forwards = [route for route in ROUTES if route.method != "DELETE"]
    backwards = [route for route in reversed(ROUTES) if route.method == "DELETE"]
    wrong = []
    for route in sorted([*forwards, *backwards], key=lambda one: (one.group != "prices", methods.index(one.method))):
        current = admin(base_url, "GET", "/admin/revisions?limit=1").json()["data"][0]["revision"]
        path, body = path_of(route, current), EXAMPLES[route.operation].body
        answer = admin(base_url, route.method, path, body, "*" if route.if_match else None)
        if answer.status_code != expected(route, "admin"):
            wrong.append(f"{route.operation}: {answer.status_code} {answer.text}")
    assert not wrong, "\n".join(wrong)


def test_a_stale_change_is_refused_and_both_attempts_are_told(base_url: str) -> None:
    made = admin(base_url, "POST", "/admin/keys", {"name": "sam-local", "models": ["echo:*"]})
    assert made.json()["key"].startswith("sk-")
    etag = made.headers["etag"]
    assert admin(base_url, "PATCH", "/admin/keys/sam-local", {"owner": "ann"}, etag).status_code == 200
    assert admin(base_url, "DELETE", "/admin/keys/sam-local", etag=etag).status_code == 412
    told = admin(base_url, "GET", "/admin/audit?target=sam-local").json()["data"]
    assert [(event["action"], event["outcome"]) for event in told] == [
        ("key.delete", "refused"), ("key.change", "done"), ("key.create", "done"),
    ]  # fmt: skip
    assert admin(base_url, "GET", "/admin/nothing").json()["error"]["code"] == "unknown_url"
