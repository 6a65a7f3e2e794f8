"""What the control plane takes and gives, as pydantic models: the source of its OpenAPI document.

Where a resource is a table of gateway.toml, its body is that table in JSON, with the same names, rules and units: money
in strings, times as RFC 3339. `*Body` is what a PUT takes, `*Create` what a POST takes, the plain name what is given
back. Members that only the gateway writes (`object`, `created_at`, …) are ignored in what it takes, so that what was
read can be sent back.
"""

from typing import Any, Literal

from pydantic import AwareDatetime, ConfigDict, Field, SecretStr

from llm_gateway.catalog.schema import (
    CircuitTable,
    GatewayFile,
    ModelTable,
    PriceTable,
    ProviderModelTable,
    QuirksTable,
    SpendingTable,
    Table,
)
from llm_gateway.catalog.schema_values import BaseUrl, CallerName, Name, Text
from llm_gateway.domain.audit import Outcome
from llm_gateway.domain.catalog import Credential, Dialect
from llm_gateway.domain.identity import Role
from llm_gateway.domain.limits import Abandoned

Body = Table

LONGEST_OVERLAP_S = 30 * 86_400
LONGEST_SECRET = 65_536
"""Bytes of a secret's text: https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_PutSecretValue.html"""


class Stamps(Table):
    """When it was first stored, and last; None for what nobody has stored (a vendor that ships, a default)."""

    created_at: AwareDatetime | None = None
    updated_at: AwareDatetime | None = None


class Page(Table):
    object: Literal["list"] = "list"
    next: str | None = Field(None, description="Pass it as `next`, with the same parameters; null on the last page.")


class Patch(Table):
    """A merge patch (RFC 7396) of the resource: null removes a member, objects are merged, all else is replaced."""

    model_config = ConfigDict(extra="allow", frozen=True)


# --- Providers ---------------------------------------------------------------------------------------------------


class ConnectionParams(Table):
    like: Text | None = Field(None, description="The shipped vendor whose wire, credential and quirks it has.")
    base_url: BaseUrl | None = None
    credential: Credential | None = None
    credential_header: Text | None = None
    api_version: Text | None = None
    region: Text | None = None
    headers: dict[str, str] | None = None
    quirks: QuirksTable | None = None
    price_as: Text | None = None


class SecretValue(Table):
    """A provider's key: written, and never given back."""

    value: SecretStr = Field(json_schema_extra={"writeOnly": True}, min_length=1, max_length=LONGEST_SECRET)


class SecretBody(SecretValue):
    test: bool = Field(True, description="Call the provider with it first; where that fails the old key stays.")
    model: Name | None = Field(None, description="Test by a call of this model; without it, by listing the models.")
    rotate_in_days: int | None = Field(None, ge=1, le=3650, strict=True)


class KeyState(Table):
    """What may be told of a provider's key. `rotate_at`: when somebody wanted it replaced."""

    configured: bool
    updated_at: AwareDatetime | None = None
    rotate_at: AwareDatetime | None = None


class StoredKey(KeyState):
    object: Literal["provider_key"] = "provider_key"
    provider_id: str
    team: str | None = None
    tested: "TestResult | None" = None


class StoredKeys(Table):
    object: Literal["list"] = "list"
    data: list[StoredKey]


class RotationBody(Table):
    in_days: int = Field(ge=1, le=3650, strict=True)


class Rotation(Table):
    object: Literal["rotation"] = "rotation"
    provider_id: str
    rotate_at: AwareDatetime | None
    overdue: bool


class ProviderModelBody(ProviderModelTable):
    prices: PriceTable | None = Field(None, description="US dollars per million tokens: the entry of `/admin/prices`.")


class ProviderModelCreate(ProviderModelBody):
    model_id: Name


class ProviderModel(ProviderModelCreate, Stamps):
    object: Literal["provider_model"] = "provider_model"
    provider_id: str


class ProviderModels(Page):
    data: list[ProviderModel]


class Refreshed(Table):
    object: Literal["refreshed_models"] = "refreshed_models"
    provider_id: str
    found: int
    added: list[str]
    missing: list[str] = Field(description="Configured here, and not in the provider's list.")


class ProviderBody(Table):
    display_name: Text | None = None
    provider_type: Dialect | None = Field(None, description="The wire it speaks; by default its vendor's.")
    description: Text | None = None
    enabled: bool = True
    connection_params: ConnectionParams = ConnectionParams()
    models: list[ProviderModelCreate] = Field([], max_length=2000)
    api_key: SecretValue | None = None


class ProviderCreate(ProviderBody):
    provider_id: Name


class Provider(Stamps):
    object: Literal["provider"] = "provider"
    provider_id: str
    configured: bool = Field(description="Whether somebody configured it; a vendor that ships is there all the same.")
    display_name: str
    provider_type: Dialect
    description: str | None
    enabled: bool
    connection_params: ConnectionParams
    models: list[ProviderModel]
    api_key: KeyState


class Providers(Page):
    data: list[Provider]


class TestBody(Table):
    __test__ = False  # not a class of pytest's

    model: Name | None = Field(None, description="Call this model; without it, list the models.")


class TestResult(Table):
    """What became of one real call. `usage` is what the provider billed, where a model was called."""

    __test__ = False

    object: Literal["provider_test"] = "provider_test"
    ok: bool
    provider_id: str
    model: str | None
    called: Literal["models", "chat.completions"] | None
    status: int | None = Field(description="The provider's; null where it never answered.")
    latency_ms: int | None
    error: dict[str, Any] | None
    usage: dict[str, int] | None


StoredKey.model_rebuild()


# --- What is called, and what it costs ---------------------------------------------------------------------------


class ModelBody(ModelTable):
    pass


class ModelCreate(ModelTable):
    name: Name


class Model(ModelCreate, Stamps):
    object: Literal["model"] = "model"


class Models(Page):
    data: list[Model]


class PriceBody(PriceTable):
    pass


class PriceCreate(PriceTable):
    name: Name = Field(description="`provider:model`")


class Price(PriceCreate, Stamps):
    object: Literal["price"] = "price"


class Prices(Page):
    data: list[Price]


class SettingsBody(Table):
    default_provider: Text | None = None
    default_model: Text | None = None
    cors_origins: list[str] | None = None
    x_gateway: bool | None = None
    abandoned: Abandoned | None = None
    circuit: CircuitTable | None = None


class Settings(SettingsBody, Stamps):
    object: Literal["settings"] = "settings"


# --- Who calls ---------------------------------------------------------------------------------------------------


class OrganisationBody(SpendingTable):
    name: Name = "default"


class Organisation(OrganisationBody, Stamps):
    object: Literal["organisation"] = "organisation"


class TeamBody(SpendingTable):
    description: Text | None = None
    markup: str | None = Field(None, description='What its cost is raised by: "20%", "-5%".')


class TeamCreate(TeamBody):
    name: CallerName


class Team(TeamCreate, Stamps):
    object: Literal["team"] = "team"


class Teams(Page):
    data: list[Team]


class UserBody(SpendingTable):
    description: Text | None = None


class UserCreate(UserBody):
    name: CallerName


class User(UserCreate, Stamps):
    object: Literal["user"] = "user"


class Users(Page):
    data: list[User]


class KeyBody(SpendingTable):
    team: Text | None = None
    models: list[Text] | None = Field(None, description="Models and patterns that it may use; null allows all.")
    providers: list[Text] | None = None
    role: Role = "caller"
    user: Name | None = None
    owner: Text | None = None
    enabled: bool | None = None
    expires_at: AwareDatetime | None = None
    tags: dict[Text, Text] | None = None
    metadata: dict[Text, str] | None = None


class KeyCreate(KeyBody):
    name: CallerName


class Token(Table):
    """One of a key's tokens: its public id, and until when it is good."""

    key_id: str
    state: Literal["active", "rotated", "disabled", "expired"]
    expires_at: AwareDatetime | None


class Key(KeyCreate, Stamps):
    object: Literal["key"] = "key"
    state: Literal["active", "rotated", "disabled", "expired"]
    tokens: list[Token]


class NewKey(Key):
    key: str | None = Field(description="The token, shown this once; null where an earlier answer is repeated.")


class Keys(Page):
    data: list[Key]


class RotateBody(Table):
    overlap_s: int = Field(
        3600, ge=0, le=LONGEST_OVERLAP_S, strict=True, description="How long the old ones stay good."
    )


# --- What has happened -------------------------------------------------------------------------------------------


class AuditChange(Table):
    """An entry before and after, secrets masked. `omitted`: too large for the event; its revision has both."""

    kind: str
    name: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    omitted: bool


class AuditEvent(Table):
    object: Literal["audit_event"] = "audit_event"
    id: str
    at: AwareDatetime
    actor: str
    role: str | None
    team: str | None
    action: str
    target_kind: str
    target: str
    source_ip: str | None
    request_id: str | None
    outcome: Outcome
    reason: str | None
    revision: int | None
    changes: list[AuditChange]
    more_changes: int = Field(description="Of those that are not told here: the revision has them.")


class AuditEvents(Page):
    data: list[AuditEvent]


class Revision(Table):
    object: Literal["revision"] = "revision"
    revision: int
    current: bool
    at: AwareDatetime | None
    actor: str | None
    action: str | None
    audit_event: str | None


class Revisions(Page):
    data: list[Revision]


class RevisionContents(Table):
    object: Literal["revision_contents"] = "revision_contents"
    revision: int
    current: bool
    entries: dict[str, dict[str, Any]] = Field(description="Documents by kind and name; of tokens no hash.")


# --- The configuration as a whole ----------------------------------------------------------------------------------


class File(GatewayFile):
    """A gateway.toml as JSON, whole. Of keys, no token: the gateway makes those, and shows them once."""


class MemberChange(Table):
    """`null` is what is not there. `***` stands for what may be a secret."""

    member: str = Field(description="As TOML spells its place in the table: `deployments[0].weight`.")
    before: Any
    after: Any


class ItemChange(Table):
    action: Literal["create", "change", "delete"]
    kind: str
    name: str | None = Field(description="null of what there is one of: settings, organisation.")
    members: list[MemberChange]


class Named(Table):
    kind: str
    name: str | None


class Plan(Table):
    """What an `apply` of the same body would do to this revision. The ETag is for its `If-Match`."""

    object: Literal["plan"] = "plan"
    revision: int
    changes: list[ItemChange]
    new_keys: list[str] = Field(description="Keys whose token `apply` makes.")
    unnamed: list[Named] = Field(description="What is there, is not in the file, and stays: `prune=true` deletes it.")


class NewToken(Table):
    name: str
    key: str = Field(description="The token, shown this once.")


class Applied(Table):
    object: Literal["applied"] = "applied"
    revision: int
    changes: list[ItemChange]
    keys: list[NewToken]
    secrets_left: list[str] = Field(
        [], description="Secrets of what was removed that could not be deleted: they are in Secrets Manager still."
    )


class Configuration(Table):
    object: Literal["configuration"] = "configuration"
    revision: int
    config: File
