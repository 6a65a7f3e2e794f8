"""What the process was told by its environment.

Sources: https://docs.aws.amazon.com/lambda/latest/dg/configuration-envvars.html#configuration-envvars-runtime and, for
the concurrency of Managed Instances, https://docs.aws.amazon.com/lambda/latest/dg/runtimes-custom.html#runtimes-custom-managed-instances
"""

from collections.abc import Mapping
from dataclasses import dataclass

DEFAULT_APP = "llm_gateway.bootstrap:build_lambda_app"


@dataclass(frozen=True, slots=True)
class RuntimeConfig:
    """One process of the runtime loop. Times are in seconds."""

    host: str
    port: int
    app: str = DEFAULT_APP
    """`module:callable`; the callable takes nothing and returns the ASGI app, or a coroutine of it."""
    concurrency: int = 1
    snap_start: bool = False
    deadline_margin_s: float = 2.0
    """How long before Lambda's own deadline an unfinished app is cancelled; at most a fifth of the time there is."""
    deadline_reserve_s: float = 0.5
    """How long before the deadline the loop stops waiting for a cancelled app and ends the stream itself."""
    drain_s: float = 1.2
    """After SIGTERM: how long invocations under way may take. Lambda gives its shutdown phase 2 s in all."""
    function_name: str = ""
    function_version: str = ""
    memory_limit_mb: int = 0
    log_group: str = ""
    log_stream: str = ""
    log_json: bool = False

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "RuntimeConfig":
        """Raises `ValueError` with the variable's name where one is missing or makes no sense."""
        host, _, port = environ.get("AWS_LAMBDA_RUNTIME_API", "").rpartition(":")
        if not host or not port.isdigit():
            raise ValueError("AWS_LAMBDA_RUNTIME_API must be host:port")
        return cls(
            host=host,
            port=int(port),
            app=environ.get("LLM_GATEWAY_APP") or DEFAULT_APP,
            concurrency=_whole_number(environ, "AWS_LAMBDA_MAX_CONCURRENCY", 1, at_least=1),
            snap_start=environ.get("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start",
            function_name=environ.get("AWS_LAMBDA_FUNCTION_NAME", ""),
            function_version=environ.get("AWS_LAMBDA_FUNCTION_VERSION", ""),
            memory_limit_mb=_whole_number(environ, "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", 0, at_least=0),
            log_group=environ.get("AWS_LAMBDA_LOG_GROUP_NAME", ""),
            log_stream=environ.get("AWS_LAMBDA_LOG_STREAM_NAME", ""),
            log_json=environ.get("AWS_LAMBDA_LOG_FORMAT", "").upper() == "JSON",
        )


def _whole_number(environ: Mapping[str, str], name: str, default: int, *, at_least: int) -> int:
    text = environ.get(name, "")
    if not text:
        return default
    if not text.isdigit() or int(text) < at_least:
        raise ValueError(f"{name} must be a whole number from {at_least} up")
    return int(text)
