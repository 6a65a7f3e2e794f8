"""FastAPI's own telemetry, switched off: the gateway's is its log line, its metrics and X-Ray."""

from typing import Final

from fastapi.telemetry import TelemetryConfig

NO_TELEMETRY: Final[TelemetryConfig] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
"""It would look for exporters at every request, and hand them the messages of exceptions."""
