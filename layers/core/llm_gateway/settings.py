"""Typed settings: the only reader of the environment.

Everything is optional here: a deployment's are set by `template.yaml`, a laptop's by `llm_gateway.local`.
"""

import json
from collections.abc import Mapping
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator


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
    oidc_issuer: str | None = Field(None, alias="OIDC_ISSUER")
    """The identity provider whose tokens are let in beside keys (docs/identity.md); the others shape what they may."""
    oidc_audience: tuple[str, ...] = Field((), alias="OIDC_AUDIENCE")
    oidc_jwks_url: str | None = Field(None, alias="OIDC_JWKS_URL")
    oidc_algorithms: tuple[Literal["RS256", "ES256"], ...] = Field(("RS256", "ES256"), alias="OIDC_ALGORITHMS")
    oidc_leeway_s: int = Field(60, alias="OIDC_LEEWAY_S", ge=0, le=300)
    oidc_name_claim: str = Field("sub", alias="OIDC_NAME_CLAIM")
    oidc_team_claim: str | None = Field(None, alias="OIDC_TEAM_CLAIM")
    oidc_teams: dict[str, str] = Field(default_factory=dict, alias="OIDC_TEAMS")
    """From the claim's values to teams: `group-a=search,group-b=ads`, or JSON."""
    oidc_role_claim: str | None = Field(None, alias="OIDC_ROLE_CLAIM")
    oidc_roles: dict[str, Literal["admin", "team-admin", "caller"]] = Field(default_factory=dict, alias="OIDC_ROLES")
    oidc_default_role: Literal["team-admin", "caller", "none"] = Field("caller", alias="OIDC_DEFAULT_ROLE")
    function_name: str | None = Field(None, alias="AWS_LAMBDA_FUNCTION_NAME")
    """Set by Lambda: metrics are written where there is a log that CloudWatch reads."""
    environment: dict[str, str] = Field(default_factory=dict)
    """What people are used to setting for providers: LLM_PROVIDER, LLM_MODEL, *_BASE_URL, …; never a key."""

    @field_validator("oidc_audience", "oidc_algorithms", mode="before")
    @classmethod
    def _listed(cls, value: object) -> object:
        if isinstance(value, str):
            return tuple(each.strip() for each in value.split(",") if each.strip())
        return value

    @field_validator("oidc_teams", "oidc_roles", mode="before")
    @classmethod
    def _paired(cls, value: object) -> object:
        """Pairs, or a JSON object for values that hold commas or equals signs themselves (names of a directory)."""
        if not isinstance(value, str):
            return value
        if value.lstrip().startswith("{"):
            return json.loads(value)
        pairs = [each.rpartition("=") for each in value.split(",") if each.strip()]
        if not all(name.strip() and meaning.strip() for name, _, meaning in pairs):
            raise ValueError('pairs are written "value=meaning", with commas between them')
        return {name.strip(): meaning.strip() for name, _, meaning in pairs}

    @model_validator(mode="after")
    def _whole(self) -> "Settings":
        """A half-configured identity provider would let in tokens that were made for somebody else."""
        if self.oidc_issuer is None:
            return self
        if not self.oidc_audience:
            raise ValueError("OIDC_AUDIENCE says whom tokens must be made for: it is needed with OIDC_ISSUER")
        for url in filter(None, (self.oidc_issuer, self.oidc_jwks_url)):
            parts = urlsplit(url)
            if parts.scheme != "https" and parts.hostname not in {"127.0.0.1", "::1", "localhost"}:
                raise ValueError(f"{url} is not https")
        if self.oidc_roles and self.oidc_role_claim is None:
            raise ValueError("OIDC_ROLES says what the values of OIDC_ROLE_CLAIM mean: name the claim")
        if self.oidc_teams and self.oidc_team_claim is None:
            raise ValueError("OIDC_TEAMS says what the values of OIDC_TEAM_CLAIM mean: name the claim")
        return self

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
