"""The tables of gateway.toml, as pydantic models. What each key means to an operator is in docs/configuration.md."""

from typing import Annotated, Any, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Discriminator, Field, Strict, StrictBool, Tag

from llm_gateway.catalog.schema_values import (
    After,
    BaseUrl,
    CallerName,
    Count,
    HeaderName,
    HeaderValue,
    Money,
    Name,
    Origin,
    Percent,
    Percentage,
    QueueSeconds,
    Region,
    Retries,
    Seconds,
    SentHeaderName,
    Share,
    Shares,
    Text,
    Tier,
    Token,
    Tokens,
    Zone,
)
from llm_gateway.domain.catalog import Credential, Dialect, Prefill, Recovery
from llm_gateway.domain.identity import Role
from llm_gateway.domain.limits import Abandoned, OnOutage, Period, WithoutMaximum
from llm_gateway.domain.strategies import By, Strategy


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
    tool_call_ids: Literal["alnum9"] | None = None
    tells_cost: StrictBool | None = None
    caps_hosts: StrictBool | None = None
    query: dict[Text, Text] | None = None
    moderations: Literal["openai", "mistral"] | None = None
    free: list[Literal["moderations"]] | None = None
    prefill: Prefill | None = None


class ProviderModelTable(Table):
    """What an operator says of one model at a provider; its price is in `prices`."""

    display_name: Text | None = None
    model_type: Literal["chat", "embedding", "moderation"] | None = None
    context_window: Count | None = None
    max_tokens: Count | None = None
    capabilities: Annotated[list[Name], Field(max_length=32)] | None = None
    enabled: StrictBool = True


class ProviderTable(Table):
    like: str | None = None
    dialect: Dialect | None = None
    base_url: BaseUrl | None = None
    api_key_env: Text | None = None
    credential: Credential | None = None
    credential_header: HeaderName | None = None
    api_version: Text | None = None
    region: Text | None = None
    headers: dict[SentHeaderName, HeaderValue] | None = None
    quirks: QuirksTable | None = None
    display_name: Text | None = None
    description: Text | None = None
    enabled: StrictBool = True
    price_as: str | None = None
    models: dict[Name, ProviderModelTable] | None = None


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


class WhenTable(Table):
    tags: dict[Text, Text] = {}
    metadata: dict[Text, str] = {}
    input_tokens_above: Tokens | None = None
    input_tokens_below: Count | None = None
    user: Text | None = None
    team: Text | None = None
    stream: StrictBool | None = None
    budget_used_above: Share | None = None


class RuleTable(Table):
    when: WhenTable
    use: Text


class ApartTable(Table):
    """A deployment beside those that share the calls."""

    provider: str
    model: Name
    region: Region | None = None
    key: Name | None = None
    percent: Percent


class CanaryTable(ApartTable):
    by: By = "key"


class HedgeTable(Table):
    after: After
    percent: Percent = 10.0


class ModelTable(LimitedTable):
    deployments: Annotated[list[DeploymentTable], Field(min_length=1)]
    fallbacks: list[Text] = []
    context_window_fallbacks: list[Text] = []
    content_policy_fallbacks: list[Text] = []
    retries: Retries | None = None
    stream_recovery: Recovery = "continue"
    timeouts: TimeoutsTable | None = None
    strategy: Strategy = "weighted"
    sticky_by: By | None = None
    rules: list[RuleTable] = []
    canary: CanaryTable | None = None
    shadow_traffic: ApartTable | None = None
    hedge: HedgeTable | None = None
    queue_s: QueueSeconds | None = None


STRATEGY_KEYS = {"strategy", "sticky_by", "rules", "canary", "shadow_traffic", "hedge", "queue_s"}
"""The keys of a model's table that say how its calls are shared."""


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
    service_tiers: dict[Tier, PriceChangesTable] | None = None


class BudgetTable(Table):
    usd: Money
    period: Period
    zone: Zone = "UTC"
    hard: StrictBool = True
    alerts: Shares = ["0.5", "0.8", "1"]


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
    queue_s: QueueSeconds | None = None

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
    markup: Percentage | None = None
    providers: dict[str, TeamProviderTable] = {}


class UserTable(SpendingTable):
    description: Text | None = None


class KeyTable(SpendingTable):
    team: Text | None = None
    key: Token | None = None
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
    teams: dict[CallerName, TeamTable] = {}
    users: dict[CallerName, UserTable] = {}
    keys: dict[CallerName, KeyTable] = {}


TABLES: dict[str, type[Table]] = {
    "quirks": QuirksTable,
    "deployments": DeploymentTable,
    "timeouts": TimeoutsTable,
    "rules": RuleTable,
    "when": WhenTable,
    "canary": CanaryTable,
    "shadow_traffic": ApartTable,
    "hedge": HedgeTable,
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
