"""A real build of the stack, and the container image that stands in for Lambda's: what the tests with Docker share.

`LAMBDA_IMAGE_BUILD` names a program that makes the image (and starts a Docker daemon); one found beside the checkout serves too.
Without Docker the tests are skipped, and say why; with `REQUIRE_DOCKER=1` they fail instead.
"""

import fcntl
import json
import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
IMAGE = "public.ecr.aws/lambda/python:3.13-x86_64"
ARCHITECTURE = "x86_64"
TOOLS = Path(sys.executable).parent


def need_image() -> None:
    """Makes sure that the image is there, or skips the test with the reason why it is not."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "lambda-image.lock").open("w") as lock:  # one test process makes it, the other waits
        fcntl.flock(lock, fcntl.LOCK_EX)
        missing = missing_image()
    if missing and os.environ.get("REQUIRE_DOCKER") == "1":
        pytest.fail(missing)
    if missing:
        pytest.skip(missing)


def missing_image() -> str | None:
    if quiet("docker", "image", "inspect", IMAGE):
        return None
    build = Path(os.environ.get("LAMBDA_IMAGE_BUILD") or ROOT.parent / "shared" / "lambda-image" / "build")
    if not build.is_file():
        return f"{IMAGE} is not there; pull it, or name a program that makes it: LAMBDA_IMAGE_BUILD"
    made = subprocess.run([str(build)], capture_output=True, text=True, check=False, timeout=600)
    if made.returncode or not quiet("docker", "image", "inspect", IMAGE):
        return f"{build} did not make {IMAGE}: {made.stderr[-500:]}"
    return None


def quiet(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def sam_environ(bare_environ: dict[str, str]) -> dict[str, str]:
    """What sam needs to find its tools and nobody's account. The layers' makefiles run Python and uv from the path."""
    environ = {
        **bare_environ,
        "PATH": f"{TOOLS}:{bare_environ.get('PATH', os.defpath)}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "SAM_CLI_TELEMETRY": "0",
    }
    # Where package installers find their index is a matter of the machine, and no key of anybody.
    carried = (
        "UV_",
        "PIP_",
        "PYTHON313",
        "PYENV_",
        "DOCKER_",
        "SSL_CERT",
        "REQUESTS_CA",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "NO_PROXY",
    )
    return environ | {name: value for name, value in os.environ.items() if name.upper().startswith(carried)}


def build_stack(directory: Path, bare_environ: dict[str, str]) -> Path:
    """`sam build` as README says; the folder it made. Fails the test with sam's own words."""
    target = directory / "build"
    run(
        [
            "sam",
            "build",
            "--no-cached",
            "--build-dir",
            str(target),
            "--parameter-overrides",
            f"Architecture={ARCHITECTURE}",
        ],
        sam_environ(bare_environ),
    )
    return target


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return int(one.getsockname()[1])


def run(command: list[str], environ: dict[str, str]) -> str:
    """Runs one of our tools in the repository; its standard output."""
    tool = str(TOOLS / command[0])
    done = subprocess.run([tool, *command[1:]], cwd=ROOT, env=environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@contextmanager
def aws_for_containers(directory: Path, bare_environ: dict[str, str]) -> Iterator[dict[str, str]]:
    """An embedded AWS, filled, that containers reach; gives the function's variables for it.

    It is not this process that talks to it: the tests' network guard allows loopback alone.
    """
    command = [sys.executable, "scripts/sam_local.py", "--aws-only", "--data", str(directory / "aws")]
    with subprocess.Popen(command, cwd=ROOT, env=bare_environ, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            ready, _, _ = select.select([process.stdout], [], [], 60)
            line = process.stdout.readline() if ready else ""
            assert line, "the embedded AWS did not come up"
            variables = json.loads(Path(json.loads(line)["env_vars"]).read_text())["GatewayFunction"]
            yield {name: str(value) for name, value in variables.items()}
        finally:
            process.terminate()
            process.wait(timeout=20)
