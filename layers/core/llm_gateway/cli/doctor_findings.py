"""What `doctor` finds."""

from dataclasses import dataclass
from typing import Any, Literal

from llm_gateway.cli.failures import ExitCode, Failure

Status = Literal["ok", "warning", "failed", "skipped"]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at. `advice` is what to do about it; `exit_code` the command's, where it failed."""

    name: str
    status: Status
    detail: str
    advice: str | None = None
    exit_code: ExitCode | None = None

    def told(self) -> dict[str, Any]:
        return {"name": self.name, "status": self.status, "detail": self.detail, "advice": self.advice}


def failed(name: str, why: Exception | str, advice: str | None = None) -> Finding:
    code = why.exit_code if isinstance(why, Failure) else ExitCode.FAILED
    return Finding(name, "failed", str(why), advice, code)
