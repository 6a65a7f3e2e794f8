"""Every route of the control plane: who may call it, what it takes, what it answers. One row is one operation.

The app, its description (OpenAPI) and the authorisation matrix of the tests are made from these rows: a route that is
not here does not exist, and one without a rule cannot be written.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from llm_gateway.admin import wire

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Access = Literal["admin", "team"]
"""`admin`: the role `admin` alone. `team`: `team-admin` too, for what is its own team's; another's is not there (404).

A `caller` is refused everywhere.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """`operation` names it uniquely. `path` is FastAPI's; a name with `:path` may hold slashes."""

    operation: str
    method: Method
    path: str
    summary: str
    access: Access
    answer: type[wire.Body] | None
    status: int = 200
    body: type[wire.Body] | None = None
    body_required: bool = True
    if_match: bool = False
    """Whether it must come with `If-Match`: without it is a 428, with another ETag than the resource's a 412."""
    idempotent: bool = False
    """Whether it takes an `Idempotency-Key`."""
    paged: bool = False
    filters: tuple[str, ...] = ()
    changes: bool = True
    """False of a POST that only asks: what it is asked about is too long for a URL."""

    @property
    def mutates(self) -> bool:
        """Whether each attempt is told to the audit."""
        return self.method != "GET" and self.changes

    @property
    def group(self) -> str:
        """The resource it is of: what stands behind `/admin/`."""
        return self.path.split("/")[2]

    @property
    def action(self) -> str:
        """What the audit calls it: `key.rotate` of `rotate_key`."""
        verb, _, noun = self.operation.partition("_")
        return f"{noun}.{verb}"

    @property
    def shown_path(self) -> str:
        """As OpenAPI spells it."""
        return self.path.replace(":path}", "}")


def _route(called: str, operation: str, summary: str, access: Access, answer: Any, **more: Any) -> Route:
    method, path = called.split()
    return Route(
        operation=operation,
        method=cast("Method", method),
        path=path,
        summary=summary,
        access=access,
        answer=answer,
        **more,
    )


def _crud(
    path: str, noun: str, body: Any, answer: Any, access: Access, delete: Access | None = None
) -> Iterator[Route]:
    """Reading, replacing, changing and deleting one thing. `delete` says who may delete it, if others than the rest."""
    name, delete = noun.replace(" ", "_"), delete or access
    yield _route(f"GET {path}", f"get_{name}", f"One {noun}", access, answer)
    yield _route(f"PUT {path}", f"replace_{name}", f"Replace a {noun}", access, answer, body=body, if_match=True)
    yield _route(
        f"PATCH {path}", f"change_{name}", f"Change a {noun} by a merge patch", access, answer, body=wire.Patch
    )
    yield _route(f"DELETE {path}", f"delete_{name}", f"Delete a {noun}", delete, None, status=204, if_match=True)


def _collection(
    path: str,
    noun: str,
    created: Any,
    answer: Any,
    page: Any,
    access: Access,
    filters: tuple[str, ...] = (),
    create: Access | None = None,
) -> Iterator[Route]:
    """The list, and what adds to it. `create` says who may add, if others than may read."""
    name = noun.replace(" ", "_")
    yield _route(f"GET {path}", f"list_{name}s", f"The {noun}s", access, page, paged=True, filters=filters)
    yield _route(
        f"POST {path}",
        f"create_{name}",
        f"Create a {noun}",
        create or access,
        answer,
        body=created,
        status=201,
        idempotent=True,
    )


_PROVIDER: Final = "/admin/providers/{provider_id}"
_PROVIDER_MODELS: Final = f"{_PROVIDER}/models"
_TEAM: Final = "/admin/teams/{name:path}"
_KEY: Final = "/admin/keys/{name:path}"

ROUTES: Final[tuple[Route, ...]] = (
    *_collection(
        "/admin/providers",
        "provider",
        wire.ProviderCreate,
        wire.Provider,
        wire.Providers,
        "admin",
        ("enabled", "configured", "provider_type"),
    ),
    _route(
        f"POST {_PROVIDER}/test",
        "test_provider",
        "Make one real call to the provider",
        "admin",
        wire.TestResult,
        body=wire.TestBody,
        body_required=False,
    ),
    _route(
        f"PUT {_PROVIDER}/key",
        "replace_provider_key",
        "Store the provider's key, tested before it counts",
        "admin",
        wire.StoredKey,
        body=wire.SecretBody,
    ),
    _route(f"DELETE {_PROVIDER}/key", "delete_provider_key", "Delete the provider's key", "admin", None, status=204),
    _route(f"GET {_PROVIDER}/rotation", "get_rotation", "When the provider's key is due", "admin", wire.Rotation),
    _route(
        f"PUT {_PROVIDER}/rotation",
        "replace_rotation",
        "Note when the provider's key is to be replaced",
        "admin",
        wire.Rotation,
        body=wire.RotationBody,
    ),
    _route(f"DELETE {_PROVIDER}/rotation", "delete_rotation", "Take that note away", "admin", None, status=204),
    *_collection(
        _PROVIDER_MODELS,
        "provider model",
        wire.ProviderModelCreate,
        wire.ProviderModel,
        wire.ProviderModels,
        "admin",
        ("enabled", "model_type"),
    ),
    _route(
        f"POST {_PROVIDER_MODELS}/refresh",
        "refresh_provider_model",
        "Ask the provider which models it has, and add those that are new",
        "admin",
        wire.Refreshed,
    ),
    *_crud(
        f"{_PROVIDER_MODELS}/{{model_id:path}}", "provider model", wire.ProviderModelBody, wire.ProviderModel, "admin"
    ),
    *_crud(_PROVIDER, "provider", wire.ProviderBody, wire.Provider, "admin"),
    *_collection("/admin/models", "model", wire.ModelCreate, wire.Model, wire.Models, "admin"),
    *_crud("/admin/models/{name:path}", "model", wire.ModelBody, wire.Model, "admin"),
    *_crud("/admin/organisation", "organisation", wire.OrganisationBody, wire.Organisation, "admin"),
    *_collection("/admin/teams", "team", wire.TeamCreate, wire.Team, wire.Teams, "team", create="admin"),
    _route(
        f"GET {_TEAM}/providers",
        "list_team_provider_keys",
        "The team's own provider keys",
        "team",
        wire.StoredKeys,
    ),
    _route(
        f"PUT {_TEAM}/providers/{{provider_id}}/key",
        "replace_team_provider_key",
        "Store a key of the team's own for a provider, tested before it counts",
        "team",
        wire.StoredKey,
        body=wire.SecretBody,
    ),
    _route(
        f"DELETE {_TEAM}/providers/{{provider_id}}/key",
        "delete_team_provider_key",
        "Delete a key of the team's own",
        "team",
        None,
        status=204,
    ),
    *_crud(_TEAM, "team", wire.TeamBody, wire.Team, "team", delete="admin"),
    *_collection("/admin/users", "user", wire.UserCreate, wire.User, wire.Users, "admin"),
    *_crud("/admin/users/{name:path}", "user", wire.UserBody, wire.User, "admin"),
    *_collection(
        "/admin/keys",
        "key",
        wire.KeyCreate,
        wire.NewKey,
        wire.Keys,
        "team",
        ("team", "user", "owner", "role", "state"),
    ),
    _route(
        f"POST {_KEY}/rotate",
        "rotate_key",
        "Make another token of the same key; the ones before it end later",
        "team",
        wire.NewKey,
        body=wire.RotateBody,
        body_required=False,
    ),
    _route(f"POST {_KEY}/disable", "disable_key", "Switch a key off, with all its tokens", "team", wire.Key),
    _route(f"POST {_KEY}/enable", "enable_key", "Switch a key on again", "team", wire.Key),
    *_crud(_KEY, "key", wire.KeyBody, wire.Key, "team"),
    *_crud("/admin/settings", "settings", wire.SettingsBody, wire.Settings, "admin"),
    *_collection("/admin/prices", "price", wire.PriceCreate, wire.Price, wire.Prices, "admin", ("provider",)),
    *_crud("/admin/prices/{name:path}", "price", wire.PriceBody, wire.Price, "admin"),
    _route(
        "POST /admin/plan",
        "plan_config",
        "What `apply` would do",
        "admin",
        wire.Plan,
        body=wire.File,
        filters=("prune",),
        changes=False,
    ),
    _route(
        "POST /admin/apply",
        "apply_config",
        "Make the configuration what a gateway.toml says, all of it or nothing",
        "admin",
        wire.Applied,
        body=wire.File,
        if_match=True,
        filters=("prune",),
    ),
    _route("GET /admin/export", "export_config", "The configuration as a gateway.toml", "admin", wire.Configuration),
    _route(
        "GET /admin/audit",
        "list_audit",
        "Who changed what, newest first",
        "admin",
        wire.AuditEvents,
        paged=True,
        filters=("actor", "action", "target_kind", "target", "team", "outcome", "from", "to"),
    ),
    _route(
        "GET /admin/revisions",
        "list_revisions",
        "The revisions of the configuration, newest first",
        "admin",
        wire.Revisions,
        paged=True,
    ),
    _route(
        "POST /admin/revisions/{revision}/rollback",
        "restore_revision",
        "Make the configuration what it was, as a new revision",
        "admin",
        wire.Revision,
    ),
    _route("GET /admin/revisions/{revision}", "get_revision", "One revision, whole", "admin", wire.RevisionContents),
)
"""In the order in which paths are matched: those that end in a word of their own stand before those with any name."""
