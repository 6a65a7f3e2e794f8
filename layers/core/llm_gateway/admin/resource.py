"""What the control plane can edit: each kind of thing as a mapping between its JSON and tables of the configuration."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

from llm_gateway.admin import wire
from llm_gateway.admin.draft import Draft
from llm_gateway.admin.rendering import as_json, stamps
from llm_gateway.catalog.providers import canonical
from llm_gateway.catalog.schema import Table
from llm_gateway.domain.ports import Kind
from llm_gateway.domain.revisions import EntryId, StoredEntry


class Resource(Protocol):
    """`path` are the names in the URL. A `body` is JSON, less what is read-only and less the name."""

    noun: str
    name_member: str | None
    """What a create calls the name; None of what there is one of."""
    body: type[Table]
    """What a PUT takes: its members are those that a body may have."""
    answer: type[Table]
    """What is given back: members that the body has not are the gateway's, and passed over where they come back."""

    def name(self, path: Mapping[str, str]) -> str:
        """What it goes by in the draft, of the names in the URL; and for a create, of the body's."""
        ...

    def names(self, draft: Draft, path: Mapping[str, str]) -> list[str]: ...

    def read(self, draft: Draft, name: str) -> dict[str, Any] | None:
        """Its body as it is now; None where there is none."""
        ...

    def write(self, draft: Draft, name: str, body: Mapping[str, Any]) -> None: ...

    def delete(self, draft: Draft, name: str) -> None: ...

    def entries(self, draft: Draft, name: str) -> Iterable[StoredEntry | None]:
        """What it is made of, for ETag and times. Of the snapshot, whatever the draft changed."""
        ...

    def configured(self, draft: Draft, name: str) -> bool:
        """Whether somebody made it; what ships, and a default, is there all the same."""
        ...

    def place(self, name: str) -> tuple[str, ...]:
        """Where a file has it: `("teams", "search")`."""
        ...

    def member(self, place: str) -> str:
        """A place within the table as the JSON spells it."""
        ...

    def document(self, draft: Draft, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Its JSON as it is given back."""
        ...


class TableResource:
    """A thing whose JSON is its table: models, prices, teams, users; settings and the organisation, of one each."""

    def __init__(
        self,
        kind: Kind,
        noun: str,
        table: str,
        body: type[Table],
        answer: type[Table],
        *,
        single: str | None = None,
    ) -> None:
        self.kind = kind
        self.noun = noun
        self.body = body
        self.answer = answer
        self._table = table
        self._single = single
        self.name_member: str | None = None if single else "name"

    def name(self, path: Mapping[str, str]) -> str:
        given = self._single or path["name"]
        if self.kind != "price":
            return given
        provider, colon, model = given.partition(":")
        return f"{canonical(provider)}{colon}{model}"

    def names(self, draft: Draft, path: Mapping[str, str]) -> list[str]:  # noqa: ARG002 - the protocol's
        return draft.names(self.kind)

    def read(self, draft: Draft, name: str) -> dict[str, Any] | None:
        table = draft.table(self.kind, name)
        if table is None:
            return {"name": "default"} if self.kind == "organisation" else None
        body: dict[str, Any] = as_json(table)
        return body

    def write(self, draft: Draft, name: str, body: Mapping[str, Any]) -> None:
        draft.put(self.kind, name, body)

    def delete(self, draft: Draft, name: str) -> None:
        draft.delete(self.kind, name)

    def entries(self, draft: Draft, name: str) -> Iterable[StoredEntry | None]:
        if self.kind == "organisation":
            return [each for (kind, _), each in draft.snapshot.entries.items() if kind == "organisation"]
        entry: EntryId = (self.kind, name)
        return [draft.snapshot.entries.get(entry)]

    def configured(self, draft: Draft, name: str) -> bool:
        return any(each is not None for each in self.entries(draft, name))

    def place(self, name: str) -> tuple[str, ...]:
        if self.kind == "settings":
            return ()
        return (self._table,) if self._single else (self._table, name)

    def member(self, place: str) -> str:
        return place

    def document(self, draft: Draft, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        named = {} if self._single else {"name": name}
        return {"object": self.noun, **named, **body, **stamps(self.entries(draft, name))}


MODELS = TableResource("model", "model", "models", wire.ModelBody, wire.Model)
PRICES = TableResource("price", "price", "prices", wire.PriceBody, wire.Price)
TEAMS = TableResource("team", "team", "teams", wire.TeamBody, wire.Team)
USERS = TableResource("user", "user", "users", wire.UserBody, wire.User)
SETTINGS = TableResource("settings", "settings", "settings", wire.SettingsBody, wire.Settings, single="gateway")
ORGANISATION = TableResource(
    "organisation", "organisation", "organisation", wire.OrganisationBody, wire.Organisation, single="organisation"
)
