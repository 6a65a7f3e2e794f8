"""One exchange driven in this process: told of, answered, and settled exactly once, whatever happens."""

import asyncio
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, InternalFailure
from llm_gateway.observability.telemetry import Telemetry
from llm_gateway.pipeline.call import Answer
from llm_gateway.pipeline.gateway import Exchange

if TYPE_CHECKING:
    from llm_gateway.observability.call_events import CallFailed, CallStopped


class RunningCall:
    """`told` is what every telemetry event says of the call (`CallEvent`'s fields)."""

    def __init__(self, exchange: Exchange, telemetry: Telemetry, told: Mapping[str, Any]) -> None:
        self.exchange = exchange
        self._telemetry = telemetry
        self._told = dict(told)
        self._began_ns = time.monotonic_ns()
        self._over = False

    @property
    def request_id(self) -> str:
        return self.exchange.call.request_id

    @property
    def record(self) -> RequestRecord:
        """The ledger's entry, once there is one."""
        assert self.exchange.record is not None
        return self.exchange.record

    async def answer(self) -> Answer:
        """A call that fails is settled before its error is raised; one that is answered is the caller's to end."""
        if self._telemetry:
            from llm_gateway.observability.call_events import CallStarted  # noqa: PLC0415 - few processes listen

            self._telemetry.emit(CallStarted(**self._told, at_ns=time.time_ns()))
        try:
            return await self.exchange.answer()
        except BaseException as error:
            await self.fail(error)
            raise

    async def fail(self, error: BaseException) -> None:
        """Settles a call of which nothing comes but `error`, which is the caller's to raise."""
        if isinstance(error, GatewayError):
            self.exchange.failed(error)
        elif isinstance(error, Exception):
            self.exchange.failed(InternalFailure(f"The gateway failed on this request: {type(error).__name__}."))
        else:
            self.exchange.caller_gone()
        await self.end(error)

    async def abandon(self) -> None:
        """Settles a stream whose reader left."""
        if not self._over:
            self.exchange.caller_gone()
            await self.end(None)

    async def end(self, error: BaseException | None = None) -> None:
        """Calls after the first do nothing. Being cancelled waits for the accounts, and then counts."""
        if self._over:
            return
        self._over = True
        duration_ns = time.monotonic_ns() - self._began_ns
        try:
            await _to_its_end(self.exchange)
        finally:
            if self._telemetry:
                self._telemetry.emit(self._ended(error, duration_ns))

    def _ended(self, error: BaseException | None, duration_ns: int) -> "CallStopped | CallFailed":
        from llm_gateway.observability.call_events import CallFailed, CallStopped  # noqa: PLC0415 - as above

        outcome, record = self.exchange.outcome, self.exchange.record
        told = {**self._told, "duration_ns": duration_ns}
        if outcome.first_content_at is not None:
            told["first_content_ns"] = round((outcome.first_content_at - outcome.began) * 1e9)
        if record is not None:
            told |= {
                "provider": record.provider,
                "model": record.routed_model,
                "answered_model": record.answered_model,
                "finish_reason": record.finish_reason,
                "usage": record.usage,
                "cost_usd": record.cost_usd,
            }
        if error is None:
            return CallStopped(**told, abandoned=outcome.gone)
        reason = outcome.error
        return CallFailed(
            **told,
            error=error,
            http_status=None if reason is None else reason.http_status,
            error_code=None if reason is None else reason.error_code or reason.error_type,
        )


async def _to_its_end(exchange: Exchange) -> None:
    settling = asyncio.ensure_future(exchange.settle())
    try:
        await asyncio.shield(settling)
    except asyncio.CancelledError:
        while not settling.done():
            with suppress(asyncio.CancelledError):
                await asyncio.shield(settling)
        raise
