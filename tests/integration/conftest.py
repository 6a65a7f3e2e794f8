"""One gateway with a month of usage for each module that asks about it."""

import asyncio
from collections.abc import Iterator

import httpx
import pytest

from llm_gateway.adapters.memory import MemoryLedger
from llm_gateway.domain.usage import RequestRecord
from tests.fakes.gateway_app import GatewayApp
from tests.integration.november import CONFIG, Usages, fill, november


@pytest.fixture(scope="module")
def records() -> list[RequestRecord]:
    return november()


@pytest.fixture(scope="module")
def usages(records: list[RequestRecord]) -> Iterator[Usages]:
    ledger = MemoryLedger()
    with GatewayApp(CONFIG, ledger=ledger, docs=True) as app, httpx.Client() as client:
        asyncio.run(fill(app, records))
        yield Usages(app, client)
