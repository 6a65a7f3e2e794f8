"""The tables of gateway.toml, as pydantic models. What each key means to an operator is in docs/configuration.md."""

import re
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Literal, Self
from unicodedata import category

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    SecretStr,
    Strict,
    StrictBool,
    Tag,
)
from pydantic_core import PydanticCustomError

from llm_gateway.catalog.endpoints import base_url_fault
from llm_gateway.catalog.faults import did_you_mean
from llm_gateway.domain.catalog import Credential, Dialect, Prefill, Recovery, markup_factor
from llm_gateway.domain.identity import Role
from llm_gateway.domain.limits import Abandoned, OnOutage, Period, WithoutMaximum

_LONGEST_NAME = 256


class TomlFloat(float):
    """A TOML float that still knows its text, so that an error can show how to write it exactly."""

    text: str

    def __new__(cls, text: str) -> Self:
        number = super().__new__(cls, text)
        number.text = text
        return number


def _fault(message: str) -> PydanticCustomError:
    # Braces would be read as places to fill in.
    return PydanticCustomError("gateway", message.replace("{", "(").replace("}", ")"))


def _money(value: Any) -> str:
    """US dollars as plain decimal text. Strings and integers are exact; floats are not, and are refused."""
    if isinstance(value, TomlFloat):
        raise _fault(f'is a TOML float, which is not exact: write it in quotes, "{value.text}"')
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _fault('must be a decimal in quotes, such as "0.10", or an integer')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise _fault(f'"{value}" is not a decimal: write it such as "0.10"') from None
    if not number.is_finite() or number.is_signed():
        raise _fault(f'"{value}" is not an amount of money: it must be finite and not negative')
    if number == 0:
        return "0"
    text = format(number, "f") if -12 <= number.adjusted() <= 8 else ""
    if not text or len(text.partition(".")[2]) > 12:
        # So that prices times tokens stay within the 38 digits of a DynamoDB number.
        raise _fault(f'"{value}" is out of range: at most 9 digits before the point, 12 after it')
    return text


def _share(value: Any) -> str:
    """A share of a budget as plain decimal text: the float's own, which is exact, and not the nearest binary one."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _fault("must be a number: a share of the budget, such as 0.8")
    text = value.text if isinstance(value, TomlFloat) else repr(value)
    share = Decimal(text)
    if not share.is_finite() or not 0 < share <= 10:
        raise _fault(f"{text} is no share of a budget: it must be greater than 0 and at most 10")
    text = format(share, "f")
    if len(text.partition(".")[2]) > 6:
        raise _fault(f"{text} is too fine: at most 6 digits after the point")
    return text


def _in_order(shares: list[str]) -> list[str]:
    """Each once: a threshold is told of once."""
    return [str(share) for share in sorted({Decimal(share) for share in shares})]


def _zone_name(value: str) -> str:
    if value == "UTC":
        return value
    from zoneinfo import available_timezones  # noqa: PLC0415 - walks the whole database

    # Those two are in some systems' databases, and mean another thing on each machine.
    zones = available_timezones() - {"localtime", "Factory"}
    if value not in zones:
        raise _fault(
            f'"{value}" is not a time zone{did_you_mean(value, zones)}: write it as the IANA database does, '
            'such as "Europe/Berlin"'
        )
    return value


def _plain_text(value: str) -> str:
    if not value:
        raise _fault("must not be empty")
    if any(category(character) == "Cc" for character in value):
        raise _fault("must not hold control characters")
    return value


def _short(value: str) -> str:
    """Names go into headers, logs, and keys of the ledger's items."""
    if len(value) > _LONGEST_NAME:
        raise _fault(f"is too long: {len(value)} characters, and a name has at most {_LONGEST_NAME}")
    return value


def _url(value: str) -> str:
    if fault := base_url_fault(value):
        raise _fault(f'"{value}" {fault}' if "credentials" not in fault else fault)
    return value.rstrip("/")


def _origin(value: str) -> str:
    fault = base_url_fault(value)
    if value != "*" and (fault or value.startswith("echo:") or value.count("/") > 2):
        raise _fault(f'"{value}" is not an origin: write it such as "https://app.corp.example", without a path')
    return value


def _header_name(value: str) -> str:
    if not value.isascii() or not value.replace("-", "").replace("_", "").isalnum():
        raise _fault(f'"{value}" is not the name of an HTTP header')
    return value


def _percentage(value: str) -> str:
    try:
        markup_factor(value)
    except ValueError as error:
        raise _fault(str(error)) from None
    return value


def _tier(value: str) -> str:
    if value in {"default", "standard", "auto"}:
        raise _fault(f'"{value}" is the standard tier, whose prices stand in the table above')
    return _plain_text(value)


def _region(value: str) -> str:
    # It becomes part of a host.
    if not _REGION.fullmatch(value):
        raise _fault(f'"{value}" is not the name of a region: write it such as "eu-central-1"')
    return value


_REGION = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_OURS = {"authorization", "proxy-authorization", "x-api-key", "api-key", "x-goog-api-key", "cookie"}
_HTTPS_OWN = {"host", "content-length", "transfer-encoding", "connection", "content-type", "te", "upgrade", "trailer"}


def _sent_header_name(value: str) -> str:
    _header_name(value)
    if value.lower() in _OURS:
        raise _fault("carries a key, and keys live in the provider's secret: use credential and credential_header")
    if value.lower() in _HTTPS_OWN:
        raise _fault("is set by the gateway itself")
    return value


def _header_value(value: str) -> str:
    if not value.isascii() or not value.isprintable():
        raise _fault("must be printable ASCII")
    return value


def _token(value: SecretStr) -> SecretStr:
    text = value.get_secret_value()
    if len(text) < 8 or not text.isascii() or not text.isprintable() or " " in text:
        raise _fault("must be at least 8 printable ASCII characters without spaces")
    return value


Money = Annotated[str, BeforeValidator(_money)]
Text = Annotated[str, AfterValidator(_plain_text)]
Name = Annotated[Text, AfterValidator(_short)]
BaseUrl = Annotated[str, AfterValidator(_url)]
Origin = Annotated[str, AfterValidator(_origin)]
Seconds = Annotated[float, Field(gt=0, le=900, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000_000_000, strict=True)]
Share = Annotated[str, BeforeValidator(_share)]
Zone = Annotated[str, AfterValidator(_zone_name)]
Region = Annotated[str, AfterValidator(_region)]
Retries = Annotated[int, Field(ge=0, le=5, strict=True)]


class Table(BaseModel):
    """A table of gateway.toml: a key it does not name is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class QuirksTable(Table):
    stream_usage: Literal["ask", "always", "never"] | None = None
    model_in_path: StrictBool | None = None
    envelope: Literal["native", "bedrock", "vertex"] | None = None
    rename: dict[Text, Text] | None = None
    drop: list[Text] | None = None
    refuse: list[Text] | None = None
    developer_role: StrictBool | None = None
    drop_from_messages: list[Text] | None = None
    tells_cost: StrictBool | None = None
    caps_hosts: StrictBool | None = None
    query: dict[Text, Text] | None = None
    moderations: Literal["openai", "mistral"] | None = None
    free: list[Literal["moderations"]] | None = None
    prefill: Prefill | None = None


class ProviderTable(Table):
    like: str | None = None
    dialect: Dialect | None = None
    base_url: BaseUrl | None = None
    api_key_env: Text | None = None
    credential: Credential | None = None
    credential_header: Annotated[str, AfterValidator(_header_name)] | None = None
    api_version: Text | None = None
    region: Text | None = None
    headers: (
        dict[Annotated[str, AfterValidator(_sent_header_name)], Annotated[str, AfterValidator(_header_value)]] | None
    ) = None
    quirks: QuirksTable | None = None
    display_name: Text | None = None
    enabled: StrictBool = True
    price_as: str | None = None


class LimitsTable(Table):
    rpm: Count | None = None
    tpm: Count | None = None
    parallel: Count | None = None


class LimitedTable(Table):
    """Of whatever has limits: with `shadow` they are counted and told of, not enforced."""

    limits: LimitsTable | None = None
    shadow: StrictBool = False


class DeploymentTable(LimitedTable):
    provider: str
    model: Name
    weight: Count = 1
    region: Region | None = None
    key: Name | None = None


class TimeoutsTable(Table):
    connect_s: Seconds | None = None
    first_token_s: Seconds | None = None
    idle_s: Seconds | None = None
    total_s: Seconds | None = None


class ModelTable(LimitedTable):
    deployments: Annotated[list[DeploymentTable], Field(min_length=1)]
    fallbacks: list[Text] = []
    context_window_fallbacks: list[Text] = []
    content_policy_fallbacks: list[Text] = []
    retries: Retries | None = None
    stream_recovery: Recovery = "continue"
    timeouts: TimeoutsTable | None = None


class CircuitTable(Table):
    failures: Annotated[int, Field(ge=1, le=1000, strict=True)] | None = None
    error_rate: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    cool_down_s: Seconds | None = None


class PriceChangesTable(Table):
    input: Money | None = None
    output: Money | None = None
    cached_input: Money | None = None
    cache_write_5m: Money | None = None
    cache_write_1h: Money | None = None
    reasoning: Money | None = None
    audio_input: Money | None = None
    audio_output: Money | None = None
    cached_audio_input: Money | None = None
    image_input: Money | None = None
    image_output: Money | None = None


class ContextPriceTable(PriceChangesTable):
    input_tokens: Count


class PriceTable(PriceChangesTable):
    input: Money
    output: Money
    per_request: Money | None = None
    web_search: Money | None = None
    above: list[ContextPriceTable] | None = None
    service_tiers: dict[Annotated[str, AfterValidator(_tier)], PriceChangesTable] | None = None


class BudgetTable(Table):
    usd: Money
    period: Period
    zone: Zone = "UTC"
    hard: StrictBool = True
    alerts: Annotated[list[Share], AfterValidator(_in_order)] = ["0.5", "0.8", "1"]


ONE_BUDGET, BUDGETS = "(budget)", "(budgets)"
"""Steps that pydantic puts into the path of an error below `budget`; the file has none of them."""


def _how_many(value: Any) -> str:
    return BUDGETS if isinstance(value, list) else ONE_BUDGET


class SpendingTable(LimitedTable):
    """Of whatever spends: who calls, and not what is called."""

    budget: (
        Annotated[
            Annotated[BudgetTable, Tag(ONE_BUDGET)]
            | Annotated[list[BudgetTable], Field(min_length=1, max_length=8), Tag(BUDGETS)],
            Discriminator(_how_many),
        ]
        | None
    ) = None
    on_ledger_outage: OnOutage | None = None
    without_max_tokens: WithoutMaximum | None = None

    @property
    def budgets(self) -> list[BudgetTable]:
        if isinstance(self.budget, BudgetTable):
            return [self.budget]
        return self.budget or []


class OrganisationTable(SpendingTable):
    name: Name = "default"


class TeamProviderTable(Table):
    api_key_env: Text


class TeamTable(SpendingTable):
    description: Text | None = None
    markup: Annotated[str, AfterValidator(_percentage)] | None = None
    providers: dict[str, TeamProviderTable] = {}


class UserTable(SpendingTable):
    description: Text | None = None


class KeyTable(SpendingTable):
    team: Text | None = None
    key: Annotated[SecretStr, AfterValidator(_token)] | None = None
    models: list[Text] | None = None
    providers: list[Text] | None = None
    role: Role = "caller"
    user: Name | None = None
    owner: Text | None = None
    enabled: StrictBool | None = None
    expires_at: Annotated[AwareDatetime, Strict()] | None = None
    tags: dict[Text, Text] = {}
    metadata: dict[Text, str] = {}


class GatewayFile(Table):
    default_provider: str | None = None
    default_model: Text | None = None
    cors_origins: list[Origin] | None = None
    x_gateway: StrictBool | None = None
    abandoned: Abandoned | None = None
    circuit: CircuitTable | None = None
    organisation: OrganisationTable | None = None
    providers: dict[str, ProviderTable] = {}
    models: dict[Name, ModelTable] = {}
    prices: dict[str, PriceTable] = {}
    teams: dict[Name, TeamTable] = {}
    users: dict[Name, UserTable] = {}
    keys: dict[Name, KeyTable] = {}


TABLES: dict[str, type[Table]] = {
    "quirks": QuirksTable,
    "deployments": DeploymentTable,
    "timeouts": TimeoutsTable,
    "circuit": CircuitTable,
    "above": ContextPriceTable,
    "budget": BudgetTable,
    "limits": LimitsTable,
    "organisation": OrganisationTable,
}
"""The model behind a table, by its key; `ENTRIES` has those behind `[providers.x]` and its like."""

ENTRIES: dict[str, type[Table]] = {
    "providers": ProviderTable,
    "models": ModelTable,
    "prices": PriceTable,
    "teams": TeamTable,
    "users": UserTable,
    "keys": KeyTable,
}
