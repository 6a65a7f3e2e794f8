"""`llm-gateway doctor --stack`: credentials, outputs, tables and secrets of a stack of moto's, and the gateway behind it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from llm_gateway.local.tables import create_tables
from llm_gateway.settings import Settings
from tests.fakes.gateway_app import KEY, GatewayApp

REGION = "eu-central-1"
OUTPUTS = """
AWSTemplateFormatVersion: "2010-09-09"
Resources:
  Topic: {{Type: "AWS::SNS::Topic"}}
Outputs:
  ApiUrl: {{Value: "{api_url}"}}
  RegistryTable: {{Value: "clinic-registry"}}
  LedgerTable: {{Value: "clinic-ledger"}}
  UsageTable: {{Value: "clinic-usage"}}
  CacheTable: {{Value: "clinic-cache"}}
"""
TABLES = Settings(
    registry_table="clinic-registry",
    ledger_table="clinic-ledger",
    usage_table="clinic-usage",
    cache_table="clinic-cache",
)


@pytest.fixture
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


def doctor(environ: dict[str, str], *arguments: str) -> tuple[int, dict[str, dict[str, Any]]]:
    """The exit code, and the checks by name."""
    done = subprocess.run(
        [sys.executable, "-m", "llm_gateway.local.cli", "doctor", "--json", "--stack", "clinic", *arguments],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "Traceback" not in done.stderr, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"] is (done.returncode == 0)
    return done.returncode, {check["name"]: check for check in told["checks"]}


def test_a_stack_from_its_credentials_to_a_live_call(environ: dict[str, str]) -> None:
    code, checks = doctor(environ)
    assert (code, set(checks)) == (1, {"credentials", "stack"})
    assert checks["credentials"]["status"] == "ok"
    assert "make deploy" in checks["stack"]["advice"]

    with GatewayApp('default_model = "echo:demo"') as app:
        client(environ, "cloudformation").create_stack(
            StackName="clinic", TemplateBody=OUTPUTS.format(api_url=app.base_url)
        )
        code, checks = doctor(environ, "--key", KEY)
        assert code == 1
        assert checks["stack"]["status"] == "ok"
        assert checks["tables"]["status"] == "failed"
        assert "clinic-cache: ResourceNotFoundException" in checks["tables"]["detail"]
        assert checks["secrets"]["status"] == "warning"
        assert "secrets set openai --stack clinic" in checks["secrets"]["advice"]
        assert checks["live call"]["status"] == "ok"

        create_tables(client(environ, "dynamodb"), TABLES)
        client(environ, "secretsmanager").create_secret(Name="clinic/provider/openai", SecretString="sk-very-secret")
        code, checks = doctor(environ, "--key", KEY)
        assert code == 0, checks
        assert checks["tables"]["status"] == "ok"
        assert checks["secrets"]["detail"] == "there is a key of openai"
        assert "sk-very-secret" not in json.dumps(checks)

        code, checks = doctor(environ)
        assert code == 5
        assert "keys create --stack clinic" in checks["key"]["advice"]
        assert "live call" not in checks


def test_without_credentials_nothing_else_is_asked(environ: dict[str, str]) -> None:
    without = {name: value for name, value in environ.items() if not name.startswith("AWS_SECRET_ACCESS")}
    code, checks = doctor({**without, "AWS_ACCESS_KEY_ID": ""})
    assert (code, set(checks)) == (1, {"credentials"})
    assert "aws configure" in checks["credentials"]["advice"]
