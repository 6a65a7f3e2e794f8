"""Specifies that what `sam package` uploads runs by itself: the zips of the real build, unpacked as Lambda unpacks them (/opt and
/var/task, read-only, as no particular user), under the emulator, with the environment of the transformed template: the
wrapper is on, nothing says `sam local`, and nothing of this machine is within reach."""

import importlib.util
import json
import os
import subprocess
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import httpx
import pytest
from samtranslator.yaml_helper import yaml_parse

from scripts.package_layer import LARGEST, checked
from tests.fakes.lambda_image import (
    ARCHITECTURE,
    IMAGE,
    TOOLS,
    aws_for_containers,
    build_stack,
    free_port,
    need_image,
    run,
    sam_environ,
)
from tests.fakes.lambda_platform.front_ends import CallerRequest, rest
from tests.fakes.sam_template import Stack

pytestmark = pytest.mark.docker
BUCKET = "rehearsal"


@dataclass(frozen=True)
class Packed:
    """The zips that `sam package` uploaded, by what they are."""

    function: Path
    layers: tuple[Path, ...]


@contextmanager
def object_store(directory: Path, bare_environ: dict[str, str]) -> Iterator[str]:
    """An S3 for sam to upload to."""
    port = free_port()
    log = (directory / "s3.log").open("wb")
    command = [str(TOOLS / "moto_server"), "-p", str(port)]
    with log, subprocess.Popen(command, env=bare_environ, stdout=log, stderr=log) as process:
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until(lambda: httpx.get(f"{url}/moto-api/", timeout=5).status_code == 200)
            yield url
        finally:
            process.terminate()


def wait_until(ready: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            if ready():
                return
        except httpx.TransportError:
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it did not come up"
        time.sleep(0.1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Packed:
    need_image()
    directory = tmp_path_factory.mktemp("packed")
    build = build_stack(directory, bare_environ)
    uploaded = directory / "packaged.yaml"
    with object_store(directory, bare_environ) as url:
        s3 = boto3.client("s3", "us-east-1", endpoint_url=url, aws_access_key_id="x", aws_secret_access_key="x")
        s3.create_bucket(Bucket=BUCKET)
        package = ["sam", "package", "--template-file", str(build / "template.yaml"), "--s3-bucket", BUCKET]
        run([*package, "--output-template-file", str(uploaded)], {**sam_environ(bare_environ), "AWS_ENDPOINT_URL": url})
        resources = yaml_parse(uploaded.read_text())["Resources"]

        def fetch(name: str, attribute: str) -> Path:
            target = directory / f"{name}.zip"
            s3.download_file(BUCKET, resources[name]["Properties"][attribute].rpartition("/")[2], str(target))
            return target

        layers = [fetch(name, "ContentUri") for name in ("DependenciesLayer", "CoreLayer")]
        function = fetch("GatewayFunction", "CodeUri")
        s3.close()
    return Packed(function, tuple(layers))


def unpack(archive: Path, target: Path) -> None:
    """As Lambda does: with the permissions that the zip says."""
    with zipfile.ZipFile(archive) as opened:
        for entry in opened.infolist():
            path = Path(opened.extract(entry, target))
            path.chmod((entry.external_attr >> 16) & 0o777)


def emulator() -> Path:
    spec = importlib.util.find_spec("samcli")
    assert spec
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0], "local", "rapid", f"aws-lambda-rie-{ARCHITECTURE}")


@pytest.fixture(scope="module")
def function(
    packed: Packed, tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]
) -> Iterator["Function"]:
    directory = tmp_path_factory.mktemp("unpacked")
    task, opt = directory / "task", directory / "opt"
    unpack(packed.function, task)
    for layer in packed.layers:
        unpack(layer, opt)
    for folder in (directory, task, opt, *task.rglob("*/"), *opt.rglob("*/")):
        folder.chmod(0o755)
    with aws_for_containers(directory, bare_environ) as names, container(task, opt, environment(names)) as one:
        yield one


def environment(names: dict[str, str]) -> dict[str, str]:
    """The template's, with the names that CloudFormation would have given, and what Lambda adds."""
    function = Stack.transformed(Architecture=ARCHITECTURE).of_type("AWS::Lambda::Function")["GatewayFunction"]
    variables: dict[str, str] = function["Environment"]["Variables"]
    assert variables["AWS_LAMBDA_EXEC_WRAPPER"] == "/var/task/run"
    named = {name: value for name, value in names.items() if name.endswith("_TABLE") or name == "AWS_ENDPOINT_URL"}
    return {
        **variables,
        **named,
        "_HANDLER": function["Handler"],
        "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_LAMBDA_FUNCTION_NAME": "llm-gateway",
        "AWS_LAMBDA_FUNCTION_TIMEOUT": str(function["Timeout"]),
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function["MemorySize"]),
        "AWS_LAMBDA_LOG_FORMAT": function["LoggingConfig"]["LogFormat"],
        "AWS_LAMBDA_LOG_LEVEL": function["LoggingConfig"]["ApplicationLogLevel"],
    }


@dataclass(frozen=True)
class Function:
    """A running container: where events are posted, and what it has logged."""

    container: str
    url: str

    def log(self) -> str:
        logs = subprocess.run(["docker", "logs", self.container], capture_output=True, text=True, check=True)
        return logs.stdout + logs.stderr


@contextmanager
def container(task: Path, opt: Path, variables: dict[str, str]) -> Iterator[Function]:
    command = [
        "docker",
        "run",
        "--detach",
        "--read-only",
        "--tmpfs",
        "/tmp",  # noqa: S108 - the container's own, as in Lambda
        "--user",
        "993:990",
        "--publish",
        "127.0.0.1::8080",
    ]
    for source, target in ((task, "/var/task"), (opt, "/opt"), (emulator(), "/aws-lambda-rie")):
        command += ["--volume", f"{source}:{target}:ro"]
    for name, value in variables.items():
        command += ["--env", f"{name}={value}"]
    command += ["--entrypoint", "/aws-lambda-rie", IMAGE]
    command += ["--runtime-interface-emulator-address", "0.0.0.0:8080", "/var/runtime/bootstrap", variables["_HANDLER"]]
    one = said(command)
    try:
        address = said(["docker", "port", one, "8080/tcp"]).splitlines()[0]
        wait_until(lambda: httpx.get(f"http://{address}/", timeout=5).status_code > 0)
        yield Function(one, f"http://{address}/2015-03-31/functions/function/invocations")
    finally:
        said(["docker", "rm", "--force", one])


def said(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def call(url: str, method: str, path: str, body: Any = None) -> tuple[int, dict[str, str], bytes]:
    """One request as API Gateway would send it: status, headers, body of the streamed answer."""
    headers = [("authorization", "Bearer sk-local"), ("content-type", "application/json")]
    content = b"" if body is None else json.dumps(body).encode()
    answer = httpx.post(url, json=rest(CallerRequest(method, path, headers, content)), timeout=60)
    prelude, delimiter, rest_of_it = answer.content.partition(b"\x00" * 8)
    assert delimiter, f"not streamed: {answer.text[:500]}"
    metadata = json.loads(prelude)
    return int(metadata["statusCode"]), metadata["headers"], rest_of_it


CHAT = {"model": "echo:demo", "messages": [{"role": "user", "content": "one two three"}]}


def test_a_buffered_chat_and_its_ledger_entry(function: Function) -> None:
    status, headers, body = call(function.url, "POST", "/v1/chat/completions", CHAT)
    assert status == 200, body
    assert json.loads(body)["choices"][0]["message"]["content"] == "echo: one two three"
    status, _, entry = call(function.url, "GET", f"/usage/requests/{headers['x-request-id']}")
    assert status == 200, entry
    settled = json.loads(entry)
    assert settled["status"] == "settled"
    assert settled["cost_usd"] == headers["x-gateway-cost-usd"]


def test_a_streamed_chat(function: Function) -> None:
    status, headers, body = call(function.url, "POST", "/v1/chat/completions", {**CHAT, "stream": True})
    assert status == 200, body
    assert headers["content-type"].startswith("text/event-stream")
    events = [line.removeprefix("data: ") for line in body.decode().splitlines() if line.startswith("data: ")]
    assert events[-1] == "[DONE]"
    chunks = [json.loads(event) for event in events[:-1]]
    assert len(chunks) > 3
    text = "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"])
    assert text == "echo: one two three"


def test_a_finished_request_is_measured_and_logged_in_lines_that_cloudwatch_reads(function: Function) -> None:
    call(function.url, "POST", "/v1/chat/completions", CHAT)
    lines = [json.loads(line) for line in function.log().splitlines() if line.startswith("{")]
    measured = [line for line in lines if "_aws" in line]
    assert measured
    assert measured[-1]["Requests"] == [1.0]
    assert (measured[-1]["service"], measured[-1]["provider"]) == ("llm-gateway", "echo")
    assert [line for line in lines if line.get("message") == "request" and line["status"] == "settled"]
    assert "sk-local" not in function.log()
    assert "one two three" not in function.log()


def test_an_error_has_its_real_status(function: Function) -> None:
    status, headers, body = call(function.url, "POST", "/v1/chat/completions", {**CHAT, "model": "nobody:has-this"})
    assert status == 404
    assert json.loads(body)["error"]["code"] == "model_not_found"
    assert headers["x-request-id"]


def test_the_zips_hold_bytecode_that_is_used(packed: Packed) -> None:
    sizes = [checked(layer) for layer in packed.layers]
    print(f"layers: {sum(sizes) / 1024 / 1024:.1f} MB unzipped with bytecode")
    assert sum(sizes) <= LARGEST


def test_the_function_is_two_files(packed: Packed) -> None:
    with zipfile.ZipFile(packed.function) as opened:
        modes = {entry.filename: (entry.external_attr >> 16) & 0o777 for entry in opened.infolist()}
    assert set(modes) == {"app.py", "run"}
    assert modes["run"] & 0o555 == 0o555


def test_nothing_of_this_machine_is_packed(packed: Packed) -> None:
    """No source folder in tracebacks, no local half, no tests."""
    (_, core) = packed.layers
    with zipfile.ZipFile(core) as opened:
        names = opened.namelist()
        bytecode = next(name for name in names if name.endswith("bootstrap.cpython-313.pyc"))
        content = opened.read(bytecode)
    assert b"/opt/python/llm_gateway/bootstrap.py" in content
    assert os.fsencode(Path(__file__).parents[2]) not in content
    assert not [name for name in names if "/local/" in name or "/tests/" in name]
