"""The stores of a gateway that is to die at one step of a request: its process gets SIGKILL there, from itself.

Where calls run side by side, the ones that are to come after the step wait for ever, so that the step is always the same.
"""

import asyncio
import os
import signal
from decimal import Decimal
from typing import Literal, Never

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.dynamodb_ledger import DynamoDBLedger
from llm_gateway.adapters.dynamodb_scopes import DynamoDBScopes
from llm_gateway.domain.limits import Grant, Hold, Level, Policy, Refusal
from llm_gateway.domain.usage import RequestRecord

Step = Literal["open", "opened", "held", "settle", "scopes", "one scope"]
"""`open`: before anything is written; `opened`: the item is there, and no hold; `held`: all of it, the provider is not
called; `settle`: the caller has the last byte, nothing is settled; `scopes`: the item is; `one scope`: and one scope."""


def die() -> Never:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("nobody survives this")


class DyingLedger(DynamoDBLedger):
    def __init__(self, client: AwsJsonClient, table: str, step: Step | None) -> None:
        super().__init__(client, table)
        self._step = step
        self.opened = asyncio.Event()

    async def open(self, record: RequestRecord) -> None:
        if self._step == "open":
            die()
        await super().open(record)
        if self._step == "opened":
            die()
        self.opened.set()

    async def settle(self, record: RequestRecord) -> bool:
        if self._step == "settle":
            die()
        return await super().settle(record)


class DyingScopes(DynamoDBScopes):
    def __init__(self, client: AwsJsonClient, table: str, step: Step | None, ledger: DyingLedger, count: int) -> None:
        """`count` is how many scopes limit a request."""
        super().__init__(client, table)
        self._step = step
        self._ledger = ledger
        self._missing = count
        self._settling = False

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        if self._step in ("open", "opened"):
            await asyncio.Event().wait()
        answer = await super().reserve(request_id, hold, policy, now)
        if self._step == "held":
            await self._ledger.opened.wait()
            self._missing -= 1
            if not self._missing:
                die()
        return answer

    async def settle(
        self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float
    ) -> Level | None:
        if self._step == "scopes":
            die()
        if self._step == "one scope":
            if self._settling:
                await asyncio.Event().wait()
            self._settling = True
        level = await super().settle(request_id, hold, tag, cost, tokens, now)
        if self._step == "one scope":
            die()
        return level
