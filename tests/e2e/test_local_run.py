"""`llm-gateway run` as a process: how it starts, what it says, how it ends, and what a crash leaves behind."""

import http.client
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest

from llm_gateway.local.embedded_address import EmbeddedAddress
from tests.fakes.gateway_process import GatewayProcess

StartGateway = Callable[..., GatewayProcess]


def get(gateway: GatewayProcess, path: str, key: str | None = None) -> tuple[int, str]:
    url = urlsplit(gateway.base_url)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {key or gateway.key}"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode()
    finally:
        connection.close()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_it_says_one_ready_line_and_stops_cleanly(start_gateway: StartGateway, number: signal.Signals) -> None:
    began = time.monotonic()
    gateway = start_gateway()
    assert time.monotonic() - began < 15
    assert gateway.out == f"llm-gateway ready: base_url={gateway.base_url} key=sk-local\n"
    assert urlsplit(gateway.base_url).hostname == "127.0.0.1"
    assert get(gateway, "/health")[0] == 200
    assert get(gateway, "/v1/models")[0] == 200
    assert gateway.stop(number) == 0
    assert "Traceback" not in gateway.log
    assert not gateway.aws_is_up()


def test_a_stop_while_it_starts_leaves_nothing_behind(new_gateway: StartGateway) -> None:
    gateway = new_gateway().launch()
    deadline = time.monotonic() + 20
    while not gateway.aws_is_up():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert gateway.stop() == 0
    assert "Traceback" not in gateway.log
    assert not gateway.aws_is_up()


@pytest.mark.parametrize(
    ("environ", "told"),
    [
        ({"OLLAMA_BASE_URL": "localhost:11434"}, "OLLAMA_BASE_URL: must begin with https://"),
        ({"LLM_PROVIDER": "opnai"}, 'LLM_PROVIDER: "opnai" is not a provider (did you mean "openai"?)'),
    ],
)
def test_a_wrong_variable_of_a_provider_is_one_line_and_exit_code_3(
    new_gateway: StartGateway, environ: dict[str, str], told: str
) -> None:
    gateway = new_gateway(environ=environ).launch()
    assert gateway.wait() == 3
    assert gateway.log.startswith(f"llm-gateway: the environment is wrong: {told}")
    assert gateway.log.count("\n") == 1
    assert gateway.out == ""


def test_what_the_file_says_is_not_asked_of_the_environment(start_gateway: StartGateway) -> None:
    config = 'default_provider = "echo"\n[providers.ollama]\nbase_url = "http://127.0.0.1:9/v1"'
    gateway = start_gateway(config, environ={"OLLAMA_BASE_URL": "localhost:11434", "LLM_PROVIDER": "opnai"})
    assert get(gateway, "/v1/models")[0] == 200


def test_a_port_in_use_is_one_line_and_exit_code_1(gateway: GatewayProcess, new_gateway: StartGateway) -> None:
    port = urlsplit(gateway.base_url).port
    second = new_gateway(port=port).launch()
    assert second.wait() == 1
    assert second.log.startswith(f"llm-gateway: port {port} on 127.0.0.1 cannot be used")
    assert second.log.count("\n") == 1


def test_a_wrong_configuration_is_named_and_exit_code_3(new_gateway: StartGateway) -> None:
    gateway = new_gateway('[models.fast]\ndeployments = [{ provider = "nobody", model = "x" }]').launch()
    assert gateway.wait() == 3
    assert "gateway.toml: models.fast.deployments[0].provider" in gateway.log
    assert "Traceback" not in gateway.log


def test_a_users_own_key_is_masked_and_alone_opens_the_door(start_gateway: StartGateway) -> None:
    gateway = start_gateway(environ={"GATEWAY_API_KEY": "sk-a-key-of-my-own"})
    assert gateway.shown_key == "sk-…-own"
    assert "sk-a-key-of-my-own" not in gateway.out + gateway.log
    assert get(gateway, "/v1/models", "sk-local")[0] == 401
    assert get(gateway, "/v1/models")[0] == 200


def test_a_dotenv_file_is_read_and_the_real_environment_wins(start_gateway: StartGateway, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        "GATEWAY_API_KEY=sk-from-the-file\nOPENAI_API_KEY=from-file\nXAI_API_KEY=from-file\n"
    )
    gateway = start_gateway(environ={"OPENAI_API_KEY": "from-environment"})
    assert get(gateway, "/v1/models", "sk-from-the-file")[0] == 200
    secrets = gateway.client("secretsmanager")
    found = {
        name: secrets.get_secret_value(SecretId=f"llm-gateway/provider/{name}")["SecretString"]
        for name in ("openai", "xai")
    }
    assert found == {"openai": "from-environment", "xai": "from-file"}


def test_a_provider_key_that_left_the_environment_leaves_the_stack(start_gateway: StartGateway) -> None:
    gateway = start_gateway(environ={"OPENAI_API_KEY": "k"})
    gateway.client("secretsmanager").create_secret(Name="llm-gateway/provider/byhand", SecretString="stays")
    gateway.stop()
    again = start_gateway()
    names = [secret["Name"] for secret in again.client("secretsmanager").list_secrets()["SecretList"]]
    assert names == ["llm-gateway/provider/byhand"]


def test_a_provider_key_that_was_stored_stays_whatever_the_environment_has(start_gateway: StartGateway) -> None:
    config = '[providers.vllm]\napi_key_env = "FA_KEY"'
    gateway = start_gateway(config, environ={"FA_KEY": "k1"})
    put = httpx.put(
        f"{gateway.base_url.removesuffix('/v1')}/admin/providers/vllm/key",
        json={"value": "sk-mine", "test": False},
        headers={"authorization": f"Bearer {gateway.key}"},
        timeout=30,
    )
    assert put.status_code == 200
    gateway.stop()
    for environ, lines in (({}, 0), ({"FA_KEY": "k2"}, 1)):
        again = start_gateway(config, environ=environ)
        secret = again.client("secretsmanager").get_secret_value(SecretId="llm-gateway/provider/vllm")
        assert secret["SecretString"] == "sk-mine"
        assert again.out.count("llm-gateway keeps the key stored as llm-gateway/provider/vllm") == lines
        again.stop()


def test_keys_are_off_where_the_user_says_so(start_gateway: StartGateway) -> None:
    gateway = start_gateway(environ={"AUTH": "none"})
    assert get(gateway, "/v1/models", "no-key-at-all")[0] == 200


def test_configuration_stays_after_a_crash_and_the_next_run(start_gateway: StartGateway) -> None:
    first = start_gateway('[models.fast]\ndeployments = [{ provider = "echo", model = "demo" }]', outlive=True)
    assert get(first, "/v1/models/fast")[0] == 200
    aws = first.aws
    first.kill()
    time.sleep(1.2)  # twice the time in which an embedded AWS looks after its parent
    assert first.client("dynamodb").list_tables()["TableNames"]

    second = start_gateway()
    assert second.aws == aws  # the one that outlived the crash
    assert get(second, "/v1/models/fast")[0] == 200
    assert second.stop() == 0
    assert not second.aws_is_up()

    third = start_gateway("")
    assert third.aws != aws
    assert get(third, "/v1/models/fast")[0] == 404


def test_without_outlive_a_crash_ends_the_embedded_aws_too(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    gateway.kill()
    deadline = time.monotonic() + 6
    while gateway.aws_is_up():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_it_ends_with_a_word_where_its_aws_dies(start_gateway: StartGateway) -> None:
    gateway = start_gateway()
    os.kill(gateway.aws.pid, signal.SIGKILL)
    assert gateway.wait() == 1
    assert "the embedded AWS has ended" in gateway.log


def test_another_aws_can_be_given(start_gateway: StartGateway, tmp_path: Path) -> None:
    owner = start_gateway(directory=tmp_path / "owner")
    address: EmbeddedAddress = owner.aws
    guest = start_gateway(environ={"AWS_ENDPOINT_URL": address.endpoint_url}, directory=tmp_path / "guest")
    assert get(guest, "/v1/models")[0] == 200
    assert not guest.data.exists()
    assert guest.stop() == 0
    assert get(owner, "/v1/models")[0] == 200
