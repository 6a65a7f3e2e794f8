"""What a route is asked, and what it answers."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from llm_gateway.admin.route_table import Route
from llm_gateway.domain.identity import VirtualKey


@dataclass(frozen=True, slots=True)
class Ask:
    """One request that may be made: its caller is known, its body is JSON of the right members."""

    route: Route
    actor: VirtualKey
    path: Mapping[str, str]
    query: Mapping[str, str]
    body: Mapping[str, Any]
    request_id: str
    if_match: str | None = None
    source_ip: str | None = None
    idempotency_key: str | None = None
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What the body held that nothing may show, taken out of it: by member."""

    @property
    def confined_to(self) -> str | None:
        """The team beyond which the caller sees nothing; None for one who sees all."""
        return None if self.actor.role == "admin" else self.actor.team

    @property
    def target(self) -> str:
        """What the audit says it is about: the names in the path, or that of what is created."""
        named = [value for value in self.path.values() if value]
        created = self.body.get("name") or self.body.get("provider_id") or self.body.get("model_id")
        if self.route.idempotent and isinstance(created, str):
            named.append(created)
        return ":".join(named)[:512]


@dataclass(frozen=True, slots=True)
class Reply:
    """`document` is JSON-shaped; None has no body. `kept` is what a repeated answer says instead of it."""

    document: Mapping[str, Any] | None
    etag: str | None = None
    kept: Mapping[str, Any] | None = None


Handler = Callable[[Ask], Awaitable[Reply]]
