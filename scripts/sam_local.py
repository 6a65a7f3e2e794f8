"""`make local`: the built stack under `sam local start-api`, on an embedded AWS that its containers can reach.

    sam_local.py [--port 3000] [--config gateway.toml] [--architecture x86_64] [-- --skip-pull-image …]

A container has a loopback of its own. So the embedded AWS listens on the address that Docker's bridge has on this
machine, which only this machine and its containers reach. `AWS_ENDPOINT_URL` replaces it, as in `make run`: then that
is what the containers must reach. What follows `--` goes to `sam local start-api`. `--aws-only` stops short of it, for
tests and for `sam local invoke`: it prints where the AWS is and where the variables are that the containers need, and
waits.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm_gateway.local.embedded_address import ACCESS_KEY, SECRET_KEY, STATE_FILE, EmbeddedAddress
from llm_gateway.local.run import CannotRun, Endpoint, Options, Setup, fill, read_config, read_settings
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials

START_S = 60.0
STOP_S = 10.0
SIOCGIFADDR = 0x8915
ARCHITECTURES = {"x86_64": "x86_64", "amd64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        with aws_for_containers(options.data) as url:
            variables = prepare(options, url)
            if options.aws_only:
                print(json.dumps({"endpoint_url": url, "env_vars": str(variables)}), flush=True)
                signal.pause()
            return serve(options, variables)
    except CannotRun as failure:
        print(f"sam_local: {failure}", file=sys.stderr)
        return failure.exit_code
    except KeyboardInterrupt:
        return 0


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The built stack under `sam local start-api`, on an embedded AWS.")
    parser.add_argument("--port", type=int, default=3000)
    parser.add_argument("--config", type=Path, help="a gateway.toml to apply before serving")
    parser.add_argument("--data", type=Path, default=Path(".local/sam"), help="where the embedded AWS keeps its data")
    parser.add_argument("--template", type=Path, default=Path(".aws-sam/build/template.yaml"))
    parser.add_argument("--architecture", default=ARCHITECTURES.get(platform.machine().lower(), "x86_64"))
    parser.add_argument("--aws-only", action="store_true")
    parser.add_argument("sam", nargs="*", help="more for `sam local start-api`, after --")
    return parser.parse_args(arguments)


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@contextmanager
def aws_for_containers(data: Path) -> Iterator[str]:
    """The URL of an AWS that containers reach; it ends with us, unless it was there. Raises `CannotRun`."""
    given = os.environ.get("AWS_ENDPOINT_URL")
    if given:
        yield given
        return
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    (data / STATE_FILE).unlink(missing_ok=True)
    command = [sys.executable, "-m", "llm_gateway.local.embedded_aws", "--data", str(data), "--host", bridge_address()]
    # In a session of its own: Ctrl-C is ours to pass on, once the containers are gone.
    process = subprocess.Popen([*command, "--parent", str(os.getpid())], stdout=sys.stderr, start_new_session=True)
    try:
        yield wait_for_address(data / STATE_FILE, process)
    finally:
        process.terminate()
        process.wait()


def bridge_address() -> str:
    """Where this machine stands on Docker's default network. Raises `CannotRun`."""
    if sys.platform != "linux":
        raise CannotRun(
            "only on Linux is Docker's bridge an address of this machine; name an AWS: AWS_ENDPOINT_URL=http://…"
        )
    name = "com.docker.network.bridge.name"
    question = ["docker", "network", "inspect", "bridge", "--format", f'{{{{index .Options "{name}"}}}}']
    try:
        answer = subprocess.run(question, capture_output=True, text=True, check=True)
        return interface_address(answer.stdout.strip() or "docker0")
    except subprocess.CalledProcessError as error:
        raise CannotRun(f"sam local needs Docker: {error.stderr.strip()}") from error
    except OSError as error:
        raise CannotRun(f"sam local needs Docker and its bridge: {error}") from error


def interface_address(name: str) -> str:
    """The IPv4 address of a network interface. Raises `OSError`.

    https://man7.org/linux/man-pages/man7/netdevice.7.html
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        answer = fcntl.ioctl(any_socket.fileno(), SIOCGIFADDR, struct.pack("256s", name.encode()))
    return socket.inet_ntoa(answer[20:24])


def wait_for_address(file: Path, process: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        address = EmbeddedAddress.read(file)
        if address is not None:
            return address.endpoint_url
        time.sleep(0.05)
    raise CannotRun("the embedded AWS did not come up; its words are above")


def prepare(options: argparse.Namespace, url: str) -> Path:
    """Fills the AWS as `make run` does; the file that tells the containers its names."""
    settings = read_settings({name: value for name, value in os.environ.items() if not name.endswith("_TABLE")})
    settings = settings.model_copy(update={"aws_endpoint_url": url})
    setup = Setup(Options(config=options.config, data=options.data), os.environ, settings, read_config(options.config))
    for name, token in fill(setup, settings, Endpoint(url, credentials(), embedded=None)):
        print(f"llm-gateway made the key {name}, shown this once: {token}")
    variables: Path = options.data / "variables.json"
    variables.parent.mkdir(parents=True, exist_ok=True)
    names = names_of(settings)
    variables.write_text(json.dumps({"GatewayFunction": names, "AdminFunction": names, "RollupFunction": names}))
    if not options.aws_only:
        print(f"llm-gateway under sam local: base_url=http://127.0.0.1:{options.port}/v1 key={setup.key}", flush=True)
    return variables


def credentials() -> AwsCredentials:
    access_key, secret_key = os.environ.get("AWS_ACCESS_KEY_ID"), os.environ.get("AWS_SECRET_ACCESS_KEY")
    if os.environ.get("AWS_ENDPOINT_URL") and access_key and secret_key:
        return AwsCredentials(access_key, secret_key, os.environ.get("AWS_SESSION_TOKEN") or None)
    return AwsCredentials(ACCESS_KEY, SECRET_KEY)


def names_of(settings: Settings) -> dict[str, str]:
    """What CloudFormation would have named; sam local knows only the resources' logical names."""
    return {
        "STACK_NAME": settings.stack,
        "REGISTRY_TABLE": settings.registry_table,
        "LEDGER_TABLE": settings.ledger_table,
        "USAGE_TABLE": settings.usage_table,
        "CACHE_TABLE": settings.cache_table,
        "LOG_LEVEL": settings.log_level,
        "DOCS": "true",
        # Neither SQS nor SNS is here, and logical names are no addresses.
        "LEDGER_FALLBACK_QUEUE_URL": "",
        "ALERT_TOPIC_ARN": "",
        **({"AWS_ENDPOINT_URL": settings.aws_endpoint_url} if settings.aws_endpoint_url else {}),
    }


def serve(options: argparse.Namespace, variables: Path) -> int:
    """Runs sam until it ends or we are told to."""
    keys = credentials()
    environ = {
        **os.environ,
        # sam hands the containers the credentials that it finds itself.
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": os.environ.get("AWS_REGION", "us-east-1"),
        "SAM_CLI_TELEMETRY": os.environ.get("SAM_CLI_TELEMETRY", "0"),
    }
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        environ.pop(name, None)
    command = [
        str(Path(sys.executable).with_name("sam")), "local", "start-api", "--port", str(options.port),
        "--template", str(options.template), "--env-vars", str(variables),
        "--parameter-overrides", f"Architecture={options.architecture}", *options.sam,
    ]  # fmt: skip
    with subprocess.Popen(command, env=environ, start_new_session=True) as sam:
        try:
            return sam.wait()
        finally:
            if sam.poll() is None:
                stop(sam)


def stop(sam: "subprocess.Popen[bytes]") -> None:
    """As Ctrl-C does, which removes its containers; harder where that is ignored, as in a script's background."""
    for signal_number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        sam.send_signal(signal_number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            sam.wait(STOP_S)
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
