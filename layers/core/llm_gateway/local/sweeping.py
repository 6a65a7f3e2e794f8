"""The sweep beside `llm-gateway run`: the rollup function's own code, by a clock.

Totals need nothing here: `/usage` adds up the ledger itself (`adapters/scanned_usage.py`).
"""

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from llm_gateway.errors import GatewayError

if TYPE_CHECKING:
    from llm_gateway.bootstrap_rollup import RollupParts

SWEEP_S = 60.0
_SWEEP_BUDGET_S = 30.0


class Sweeping:
    """Sweeps each minute, until it is cancelled. `warn` hears of trouble."""

    def __init__(self, parts: "RollupParts", warn: Callable[[str], None]) -> None:
        self._rollup = parts.rollup
        self._http = parts.http
        self._warn = warn

    async def run(self) -> None:
        try:
            while True:
                await asyncio.sleep(SWEEP_S)
                try:
                    await self._rollup.sweep(time.gmtime().tm_min, _SWEEP_BUDGET_S)
                except GatewayError as error:
                    self._warn(f"requests that died are not being ended at the moment: {error}")
        finally:
            await self._http.close()
