"""The limit's item against its model, on AWS's own engine: what `tests/unit/test_limit_item_properties.py` does in memory."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.upstream.client import open_client
from tests.contract.conftest import CREDENTIALS, create_ledger_table
from tests.contract.engines import DynamoDBLocal
from tests.contract.limit_machine import LimitMachine

_Result = TypeVar("_Result")


@pytest.mark.dynamodb_local
def test_any_interleaving_leaves_the_counters_that_it_should(dynamodb_local: DynamoDBLocal) -> None:
    class OnDynamoDB(LimitMachine):
        def __init__(self) -> None:
            super().__init__()
            self._runner = asyncio.Runner()
            self._http = open_client()
            client = AwsJsonClient(
                self._http,
                service="dynamodb",
                region="us-east-1",
                credentials=CREDENTIALS,
                endpoint_url=dynamodb_local.url,
                timeout_s=20.0,
            )
            self.scopes = DynamoDBScopes(client, self.run(create_ledger_table(client)))

        def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
            return self._runner.run(call)

        def teardown(self) -> None:
            self.run(self._http.close())
            self._runner.close()

    run_state_machine_as_test(
        OnDynamoDB,
        settings=settings(
            max_examples=40, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )
