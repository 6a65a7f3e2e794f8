"""Typed settings: the only reader of the environment.

Everything is optional here: a deployment's are set by `template.yaml`, a laptop's by `llm_gateway.local`.
"""

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Settings(BaseModel):
    """One process's settings. Field aliases are the environment's names."""

    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    stack: str = Field("llm-gateway", alias="STACK_NAME")
    registry_table: str = Field("llm-gateway-registry", alias="REGISTRY_TABLE")
    ledger_table: str = Field("llm-gateway-ledger", alias="LEDGER_TABLE")
    usage_table: str = Field("llm-gateway-usage", alias="USAGE_TABLE")
    cache_table: str = Field("llm-gateway-cache", alias="CACHE_TABLE")
    region: str = Field("us-east-1", alias="AWS_REGION")
    aws_endpoint_url: str | None = Field(None, alias="AWS_ENDPOINT_URL")
    auth: Literal["keys", "none"] = Field("keys", alias="AUTH")
    log_level: str = Field("INFO", alias="LOG_LEVEL")
    log_format: Literal["json", "text"] = Field("json", alias="LOG_FORMAT")
    docs: bool = Field(False, alias="DOCS")
    cors_origins: tuple[str, ...] = Field((), alias="CORS_ORIGINS")
    """Allowed besides those of the configuration; separated by commas in the environment."""
    fallback_queue_url: str | None = Field(None, alias="LEDGER_FALLBACK_QUEUE_URL")
    """The SQS queue that settlements go to when the ledger cannot be written; the gateway's."""
    alert_topic: str | None = Field(None, alias="ALERT_TOPIC_ARN")
    """The SNS topic that budget alerts go to; the rollup's."""
    count_capacity: bool = Field(False, alias="COUNT_CAPACITY")
    """Asks DynamoDB for the capacity that each call took; for the bench."""
    tracing: bool = Field(False, alias="TRACING")
    xray_daemon: str | None = Field(None, alias="AWS_XRAY_DAEMON_ADDRESS")
    function_name: str | None = Field(None, alias="AWS_LAMBDA_FUNCTION_NAME")
    """Set by Lambda: metrics are written where there is a log that CloudWatch reads."""
    environment: dict[str, str] = Field(default_factory=dict)
    """What people are used to setting for providers: LLM_PROVIDER, LLM_MODEL, *_BASE_URL, …; never a key."""

    @field_validator("cors_origins", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(origin.strip().rstrip("/") for origin in value.split(",") if origin.strip())
        return value

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> "Settings":
        """Raises `pydantic.ValidationError`, which names the variable at fault."""
        known = {name: value for name, value in environ.items() if value != ""}
        return cls.model_validate({**known, "environment": provider_environment(known)})


def provider_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that shape providers; those that hold a key are left out."""
    endings = ("_BASE_URL", "_ENDPOINT", "_API_VERSION", "_API_BASE")
    names = {"LLM_PROVIDER", "LLM_MODEL", "AWS_REGION", "OR_SITE_URL", "OR_APP_NAME"}
    return {name: value for name, value in environ.items() if name in names or name.endswith(endings)}
