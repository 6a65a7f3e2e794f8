"""The three commands after `sam deploy`: a provider's secret, `apply`, `keys create`, against a stack of moto's."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llm_gateway.domain.identity import hash_key
from llm_gateway.local.tables import create_tables
from llm_gateway.settings import Settings

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


def stored_keys(environ: dict[str, str]) -> list[str]:
    items = client(environ, "dynamodb").scan(TableName="shop-registry")["Items"]
    return [str(item) for item in items if item["pk"]["S"].startswith("key")]


def test_a_newcomers_three_commands(stack: dict[str, str], tmp_path: Path) -> None:
    stored = run(stack, "secrets", "set", "openai", "--stack", STACK, stdin="sk-provider\n")
    assert (stored.returncode, stored.stdout) == (0, "stored as the secret shop/provider/openai\n"), stored.stderr
    again = run(stack, "secrets", "set", "openai", "--stack", STACK, stdin="sk-rotated\n")
    assert again.returncode == 0
    secret = client(stack, "secretsmanager").get_secret_value(SecretId="shop/provider/openai")
    assert secret["SecretString"] == "sk-rotated"

    config = tmp_path / "gateway.toml"
    config.write_text(CONFIG)
    applied = run(stack, "apply", str(config), "--stack", STACK)
    assert applied.returncode == 0, applied.stderr
    token = applied.stdout.splitlines()[-1].removeprefix("key search-prod, shown this once: ")
    assert token.startswith("sk-")
    assert token != "sk-search-prod-for-local-use"
    assert any(hash_key(token) in item for item in stored_keys(stack))
    assert not any(hash_key("sk-search-prod-for-local-use") in item for item in stored_keys(stack))
    unchanged = run(stack, "apply", str(config), "--stack", STACK)
    assert "shown this once" not in unchanged.stdout
    assert any(hash_key(token) in item for item in stored_keys(stack))

    created = run(stack, "keys", "create", "--stack", STACK)
    assert created.returncode == 0, created.stderr
    base_url, key = created.stdout.split()
    assert base_url == "base_url=https://abc.execute-api.eu-central-1.amazonaws.com/prod/v1"
    assert any(hash_key(key.removeprefix("key=")) in item for item in stored_keys(stack))
    twice = run(stack, "keys", "create", "--stack", STACK)
    assert (twice.returncode, twice.stderr) == (
        1,
        "llm-gateway: there is a key named first already: choose another name with --name\n",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["keys", "create", "--stack", "nowhere"], 1, "nowhere"),
        (["apply", "missing.toml", "--stack", STACK], 2, "missing.toml"),
        (["secrets", "set", "openai", "--stack", STACK], 2, "the key is empty"),
    ],
)
def test_what_goes_wrong_is_said_in_a_line(stack: dict[str, str], arguments: list[str], code: int, said: str) -> None:
    result = run(stack, *arguments)
    assert result.returncode == code
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_no_credentials_says_what_to_do(stack: dict[str, str]) -> None:
    bare = {name: value for name, value in stack.items() if not name.startswith(("AWS_ACCESS", "AWS_SECRET"))}
    result = run(bare, "keys", "create", "--stack", STACK)
    assert result.returncode == 1
    assert "aws configure" in result.stderr
