"""A limit's item under any interleaving, on the in-memory store. The same machine runs on DynamoDB in the contract suite."""

from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import settings

from llm_gateway.adapters.memory_scopes import MemoryScopes
from tests.contract.limit_machine import LimitMachine

_Result = TypeVar("_Result")


class InMemory(LimitMachine):
    def __init__(self) -> None:
        super().__init__()
        self.scopes = MemoryScopes()

    def run(self, call: Coroutine[Any, Any, _Result]) -> _Result:
        """Nothing in the store waits, so one step is the whole call."""
        with pytest.raises(StopIteration) as done:
            call.send(None)
        result: _Result = done.value.value
        return result


TestLimitItem = InMemory.TestCase
TestLimitItem.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
