"""Logs: one structured line a request, by Powertools; readable lines on a laptop. Never content, never a key.

Source of the JSON's base fields: https://docs.powertools.aws.dev/lambda/python/latest/core/logger/
"""

import logging
import sys
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

import orjson
from aws_lambda_powertools.logging import Logger
from aws_lambda_powertools.logging.formatter import LambdaPowertoolsFormatter

from llm_gateway.domain.limits import Scope
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError
from llm_gateway.observability.budget_alerts import BudgetAlert

if TYPE_CHECKING:
    from llm_gateway.routing.circuits import Opening

SERVICE = "llm-gateway"


def _as_json(fields: Any) -> str:
    return orjson.dumps(fields, default=str).decode()


class ReadableFormatter(LambdaPowertoolsFormatter):
    """A line for a person: time, level, message, and the fields that came with it."""

    _OWN = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime"}

    def format(self, record: logging.LogRecord) -> str:
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%H:%M:%S")
        extra = {name: value for name, value in record.__dict__.items() if name not in self._OWN}
        fields = " ".join(f"{name}={value}" for name, value in extra.items() if value is not None)
        line = _one_line(f"{moment} {record.levelname.lower():7} {record.getMessage()} {fields}".rstrip())
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        return line


def _one_line(text: str) -> str:
    """Callers choose names that are logged; none may look like a line of its own."""
    return "".join(character if character.isprintable() else repr(character)[1:-1] for character in text)


def open_logger(level: str, form: Literal["json", "text"]) -> Logger:
    """The process's logger. Raises `ValueError` for a level that logging does not know."""
    if form == "text":
        return Logger(service=SERVICE, level=level, logger_formatter=ReadableFormatter(), stream=sys.stderr)
    formatter = LambdaPowertoolsFormatter(json_serializer=_as_json, utc=True)
    return Logger(service=SERVICE, level=level, logger_formatter=formatter)


def request_fields(record: RequestRecord, overhead_s: float) -> dict[str, Any]:
    """What a log says of a finished request."""
    usage = record.usage
    return {
        "request_id": record.request_id,
        "key_id": record.key_id,
        "endpoint": record.endpoint,
        "requested_model": record.requested_model,
        "provider": record.provider,
        "routed_model": record.routed_model,
        "stream": record.stream,
        "status": record.status,
        "http_status": record.http_status,
        "error_code": record.error_code,
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "service_tier": usage.service_tier,
        "estimated": usage.estimated,
        "cost_usd": None if record.cost_usd is None else format(record.cost_usd, "f"),
        "provider_cost_usd": None if record.provider_cost_usd is None else format(record.provider_cost_usd, "f"),
        "price_version": record.price_version,
        "latency_ms": record.latency_ms,
        "ttft_ms": record.ttft_ms,
        "key_source": record.attempts[-1].key_source if record.attempts else None,
        "overhead_ms": round(overhead_s * 1000, 2),
        "over_limits": list(record.over_limits) or None,
    }


class RequestLog:
    """Writes what a finished request came to."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def finished(self, record: RequestRecord, overhead_s: float) -> None:
        if self._logger.log_level <= logging.INFO:
            self._logger.info("request", extra=request_fields(record, overhead_s))

    def refused(self, request_id: str, method: str, path: str, error: GatewayError) -> None:
        """A request that never came to a ledger entry. The path is logged without its query."""
        self._logger.info(
            "refused",
            extra={
                "request_id": request_id,
                "method": method,
                "path": path,
                "http_status": error.http_status,
                "error_code": error.error_code,
            },
        )

    def replayed(self, request_id: str, original: str, latency_s: float) -> None:
        """A request that got the kept answer of an earlier one: no provider was called, nothing is billed."""
        self._logger.info(
            "replayed",
            extra={
                "request_id": request_id,
                "original_request_id": original,
                "latency_ms": max(0, round(latency_s * 1000)),
            },
        )

    def lost(self, request_id: str, settlement: str, error: GatewayError) -> None:
        """One that neither the ledger nor the queue took: kept here as the message that the queue would have got."""
        self._logger.error(
            "ledger_unavailable",
            extra={"reason": error.message, "request_id": request_id, "settlement": settlement},
        )

    def unopened(self, record: RequestRecord, error: GatewayError) -> None:
        """A request that runs though the ledger has no entry of it yet: its settlement writes one."""
        self._logger.warning("ledger_not_opened", extra={"reason": error.message, "record": _as_json(record)})

    def debug(self, event: str, **fields: Any) -> None:
        """A step of a request, for `LOG_LEVEL=DEBUG`."""
        self._logger.debug(event, extra=fields)

    def warn(self, message: str) -> None:
        """Something the gateway got over, such as a store that is away while its cache serves."""
        self._logger.warning(message)

    def circuit_turned(self, name: str, opening: "Opening | None") -> None:
        """A deployment is passed over from now on, or serves again (None)."""
        if opening is None:
            self._logger.info("circuit_closed", extra={"deployment": name})
            return
        seconds = round(opening.rests_until - opening.opened_at, 1)
        self._logger.warning("circuit_open", extra={"deployment": name, "error_code": opening.error, "for_s": seconds})

    def crashed(self, request_id: str, error: BaseException) -> None:
        """A defect of ours: the traceback goes to the log, never to the caller."""
        self._logger.error("unhandled", exc_info=error, extra={"request_id": request_id})

    def budget_alert(self, alert: BudgetAlert) -> None:
        self._logger.warning(
            "budget_alert",
            extra={
                "scope": alert.scope.id,
                "period": alert.label,
                "share": format(alert.share, "f"),
                "spent_usd": format(alert.spent, "f"),
                "budget_usd": format(alert.budget.usd, "f"),
            },
        )

    def scope_lost(self, request_id: str, scope: Scope, error: GatewayError) -> None:
        """Counters that could not be written: the sweep puts them right from the request's record."""
        self._logger.error(
            "scope_not_written", extra={"request_id": request_id, "scope": scope.id, "reason": error.message}
        )
