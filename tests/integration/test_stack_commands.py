"""The commands after `sam deploy`: a provider's secret, `apply`, `keys …`, against a stack of moto's."""

import asyncio
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from moto.server import ThreadedMotoServer

from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.local.place import Place, with_registry
from llm_gateway.local.tables import create_tables
from llm_gateway.settings import Settings
from llm_gateway.upstream.credentials import AwsCredentials

STACK = "shop"
REGION = "eu-central-1"
OUTPUTS = """
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Topic: {Type: "AWS::SNS::Topic"}
Outputs:
  ApiUrl: {Value: "https://abc.execute-api.eu-central-1.amazonaws.com/prod/v1"}
  RegistryTable: {Value: "shop-registry"}
  LedgerTable: {Value: "shop-ledger"}
  UsageTable: {Value: "shop-usage"}
"""
CONFIG = """
[models.fast]
deployments = [{ provider = "openai", model = "gpt-4.1-mini" }]
[teams.search]
[keys.search-prod]
team = "search"
key = "sk-search-prod-for-local-use"
models = ["fast"]
"""


@pytest.fixture(scope="module")
def environ(bare_environ: dict[str, str]) -> Iterator[dict[str, str]]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        **bare_environ,
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    server.stop()


def client(environ: dict[str, str], service: str) -> Any:
    return boto3.client(
        service,  # type: ignore[call-overload] # one of many services
        endpoint_url=environ["AWS_ENDPOINT_URL"],
        region_name=REGION,
        aws_access_key_id="test",
        aws_secret_access_key="test",
    )


@pytest.fixture(scope="module")
def stack(environ: dict[str, str]) -> dict[str, str]:
    client(environ, "cloudformation").create_stack(StackName=STACK, TemplateBody=OUTPUTS)
    create_tables(client(environ, "dynamodb"), Settings(registry_table="shop-registry"))
    return environ


def run(environ: dict[str, str], *arguments: str, stdin: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "llm_gateway.local.cli", *arguments],
        env=environ,
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def stored_keys(environ: dict[str, str]) -> Sequence[VirtualKey]:
    """As the gateway reads them."""
    endpoint = environ["AWS_ENDPOINT_URL"]
    place = Place("shop-registry", "", "", REGION, AwsCredentials("test", "test"), endpoint_url=endpoint)
    return asyncio.run(with_registry(place, lambda registry: registry.list_keys()))


def test_a_newcomers_three_commands(stack: dict[str, str], tmp_path: Path) -> None:
    stored = run(stack, "secrets", "set", "openai", "--stack", STACK, stdin="sk-provider\n")
    assert (stored.returncode, stored.stdout) == (0, "stored as the secret shop/provider/openai\n"), stored.stderr
    again = run(stack, "secrets", "set", "openai", "--stack", STACK, stdin="sk-rotated\n")
    assert again.returncode == 0
    secret = client(stack, "secretsmanager").get_secret_value(SecretId="shop/provider/openai")
    assert secret["SecretString"] == "sk-rotated"

    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    applied = run(stack, "apply", str(config), "--stack", STACK, "--yes")
    assert applied.returncode == 0, applied.stderr
    token = applied.stdout.splitlines()[-1].removeprefix("key search-prod, shown this once: ")
    assert token.startswith("sk-")
    assert token != "sk-search-prod-for-local-use"
    assert any(key.matches(token) for key in stored_keys(stack))
    assert not any(key.matches("sk-search-prod-for-local-use") for key in stored_keys(stack))
    unchanged = run(stack, "apply", str(config), "--stack", STACK, "--yes")
    assert "shown this once" not in unchanged.stdout
    assert any(key.matches(token) for key in stored_keys(stack))

    created = run(stack, "keys", "create", "--stack", STACK)
    assert created.returncode == 0, created.stderr
    base_url, key = created.stdout.split()
    assert base_url == "base_url=https://abc.execute-api.eu-central-1.amazonaws.com/prod/v1"
    assert any(one.matches(key.removeprefix("key=")) for one in stored_keys(stack))
    twice = run(stack, "keys", "create", "--stack", STACK)
    assert (twice.returncode, twice.stderr) == (
        1,
        "llm-gateway: there is a key named first already: choose another name with --name\n",
    )


def stored_key(environ: dict[str, str], token: str) -> dict[str, Any]:
    (found,) = [key for key in stored_keys(environ) if key.matches(token)]
    return asdict(found)


def test_a_key_is_rotated_disabled_enabled_and_listed(stack: dict[str, str]) -> None:
    restricted = ["--provider", "azure-openai", "--model", "fast", "--owner", "ops"]
    created = run(stack, "keys", "create", "--stack", STACK, "--name", "rotating", *restricted)
    old = created.stdout.split("key=")[1].strip()
    rotated = run(stack, "keys", "rotate", "rotating", "--overlap", "1h", "--stack", STACK)
    assert rotated.returncode == 0, rotated.stderr
    new = rotated.stdout.split("key=")[1].strip()
    assert re.search(r"Keys before it are good until 20\S+Z\.", rotated.stderr)
    assert stored_key(stack, old)["rotated"]
    assert 3500 < stored_key(stack, old)["expires_at"] - time.time() <= 3600
    before = {field: stored_key(stack, old)[field] for field in ("name", "models", "providers", "owner")}
    assert before == {"name": "rotating", "models": ("fast",), "providers": ("azure_openai",), "owner": "ops"}
    assert {field: stored_key(stack, new)[field] for field in before} == before
    assert (stored_key(stack, new)["expires_at"], stored_key(stack, new)["rotated"]) == (None, False)

    disabled = run(stack, "keys", "disable", "rotating", "--stack", STACK)
    assert (disabled.returncode, disabled.stdout) == (0, "rotating is disabled; it takes effect within 30 seconds\n")
    assert [stored_key(stack, token)["enabled"] for token in (old, new)] == [False, False]
    enabled = run(stack, "keys", "enable", "rotating", "--stack", STACK)
    assert enabled.returncode == 0, enabled.stderr
    assert [stored_key(stack, token)["enabled"] for token in (old, new)] == [False, True]

    listed = run(stack, "keys", "list", "--stack", STACK)
    assert listed.returncode == 0, listed.stderr
    (line,) = [line.split() for line in listed.stdout.splitlines() if line.startswith("rotating")]
    assert line == ["rotating", "active", "caller", "-", "-", "ops", "-", "fast", "azure_openai"]
    for secret in (old, new, hash_key(old), hash_key(new), lookup_id(new)):
        assert secret not in listed.stdout


def test_without_a_stack_it_is_the_local_one(stack: dict[str, str], tmp_path: Path) -> None:
    local = {**stack, "REGISTRY_TABLE": "shop-registry", "AWS_REGION": REGION}
    created = run(local, "keys", "create", "--name", "laptop")
    assert re.fullmatch(r"key=sk-\S+\n", created.stdout), created.stderr
    rotated = run(local, "keys", "rotate", "laptop", "--overlap", "0")
    assert rotated.stderr.endswith("Keys before it are refused within 30 seconds.\n")
    listed = run(local, "keys", "list")
    assert len([line for line in listed.stdout.splitlines() if line.startswith("laptop ")]) == 1
    bare = {name: value for name, value in stack.items() if name != "AWS_ENDPOINT_URL"}
    nobody = run(bare, "keys", "list", "--data", str(tmp_path))
    assert (nobody.returncode, nobody.stderr) == (
        4,
        f"llm-gateway: no gateway runs on {tmp_path}/: start one with `make run`, or name a stack with --stack\n",
    )


def test_a_teams_own_key_and_several_in_one(stack: dict[str, str], tmp_path: Path) -> None:
    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    assert run(stack, "apply", str(config), "--stack", STACK, "--yes").returncode == 0
    ring = '{"keys": [{"key": "sk-1", "weight": 3, "name": "a"}, {"key": "sk-2"}]}'
    stored = run(stack, "secrets", "set", "openai", "--stack", STACK, "--team", "search", stdin=ring)
    assert (stored.returncode, stored.stdout) == (0, "stored as the secret shop/team/search/openai\n"), stored.stderr
    secret = client(stack, "secretsmanager").get_secret_value(SecretId="shop/team/search/openai")
    assert secret["SecretString"] == ring


def test_a_credential_file_is_stored_as_it_is(stack: dict[str, str]) -> None:
    account = (
        '{\n  "type": "service_account",\n  "client_email": "a@b",\n  "private_key": "-----BEGIN PRIVATE KEY-----\\n",\n'
        '  "token_uri": "https://oauth2.googleapis.com/token"\n}'
    )
    assert run(stack, "secrets", "set", "anthropic-vertex", "--stack", STACK, stdin=account).returncode == 0
    secret = client(stack, "secretsmanager").get_secret_value(SecretId="shop/provider/google_vertex")
    assert secret["SecretString"] == account


def test_a_credential_file_for_tokens_of_somebody_elses_is_not_stored(stack: dict[str, str]) -> None:
    account = (
        '{"type": "service_account", "client_email": "a@b", "private_key": "p", "token_uri": "https://evil.example/t"}'
    )
    refused = run(stack, "secrets", "set", "google_vertex", "--stack", STACK, stdin=account)
    assert refused.returncode == 1
    assert "its `token_uri` is not Google's" in refused.stderr


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("sk one", "no header can carry"),
        ('{"keys": []}', "list of 1 to 100 keys"),
        ('{"type": "service_account"}', "is JSON, and not"),
    ],
)
def test_what_is_no_key_is_not_stored(stack: dict[str, str], key: str, said: str) -> None:
    refused = run(stack, "secrets", "set", "groq", "--stack", STACK, stdin=key)
    assert refused.returncode == 1
    assert said in refused.stderr
    with pytest.raises(ClientError, match="ResourceNotFound"):
        client(stack, "secretsmanager").get_secret_value(SecretId="shop/provider/groq")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["secrets", "set", "openai", "--stack", STACK, "--team", "serach"], 1, "no team serach in the stack"),
        (["keys", "create", "--stack", "nowhere"], 1, "nowhere"),
        (["apply", "missing.toml", "--stack", STACK], 3, "missing.toml"),
        (["secrets", "set", "openai", "--stack", STACK], 3, "the key is empty"),
        (["keys", "rotate", "nobody", "--stack", STACK], 1, "there is no key named nobody"),
        (["keys", "disable", "nobody", "--stack", STACK], 1, "there is no key named nobody"),
        (["keys", "rotate", "first", "--overlap", "soon", "--stack", STACK], 3, "is no span of time"),
        (["keys", "rotate", "first", "--overlap", "31d", "--stack", STACK], 3, "30 days at most"),
        (["keys", "create", "--team", "nobody", "--stack", STACK], 1, "there is no team nobody here"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(stack: dict[str, str], arguments: list[str], code: int, said: str) -> None:
    result = run(stack, *arguments, stdin="sk-x" if "--team" in arguments else "")
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_no_credentials_says_what_to_do(stack: dict[str, str]) -> None:
    bare = {name: value for name, value in stack.items() if not name.startswith(("AWS_ACCESS", "AWS_SECRET"))}
    result = run(bare, "keys", "create", "--stack", STACK)
    assert result.returncode == 1
    assert "aws configure" in result.stderr
