"""What the rollup tells of its work: one structured line for each thing done, none where nothing was."""

from aws_lambda_powertools.logging import Logger

from llm_gateway.pipeline.repair import Swept


class RollupLog:
    """`service.Log` on the process's logger. docs/operations.md says what each line is for."""

    def __init__(self, logger: Logger) -> None:
        self._logger = logger

    def folded(self, counted: int, alerts: int) -> None:
        self._logger.debug("folded", extra={"requests": counted, "alerts": alerts})

    def poisoned(self, source: str, place: str, reason: str) -> None:
        """Something that can never be folded or settled: `place` is its sequence number, or its message's id."""
        self._logger.error("rollup_poison", extra={"source": source, "place": place, "reason": reason})

    def swept(self, swept: Swept) -> None:
        if swept.abandoned or swept.ended or swept.pruned:
            fields = {"abandoned": swept.abandoned, "ended": swept.ended, "pruned": swept.pruned}
            self._logger.info("swept", extra=fields)

    def drained(self, request_id: str) -> None:
        self._logger.info("settled_from_queue", extra={"request_id": request_id})

    def warn(self, message: str) -> None:
        self._logger.warning(message)
