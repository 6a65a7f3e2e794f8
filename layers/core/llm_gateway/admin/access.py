"""Who may do what. The rows of the route table say which roles a route is for; here is what those see through it."""

from collections.abc import Mapping
from typing import Any

from llm_gateway.admin.route_table import Route
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import PermissionDenied

_TEAM_MEMBERS_OF_ITS_ADMIN = frozenset({"description"})
"""A team's budget, limits and markup are what others allow it: its own admin cannot raise them."""


_BOUNDS = ("on_ledger_outage", "without_max_tokens")
"""Members of a key that say whether budgets hold where they cannot be looked up, or a call has no bound."""
_OF_ITS_OWN = ("budget", "limits", "shadow", "queue_s", "models", "providers", "user", "expires_at")
"""Members of a key that bound it; `user` brings that user's budget and limits."""
_OF_TOKENS = "oidc:"
"""As `pipeline.oidc.PREFIX`, which is loaded only where an identity provider is configured."""


def authorise(route: Route, key: VirtualKey) -> None:
    """Raises `PermissionDenied` where the route is not for the caller's role."""
    if key.role == "admin":
        return
    if key.role == "team-admin" and key.team is not None and route.access == "team":
        return
    needed = "an admin's key" if route.access == "admin" else "the key of an admin or of a team's admin"
    raise PermissionDenied(f"Your key has the role `{key.role}`; this needs {needed}.")


def check_team_edit(before: Mapping[str, Any], after: Mapping[str, Any], confined_to: str | None) -> None:
    """Raises `PermissionDenied` where a team's admin changes what is not theirs to change."""
    if confined_to is None:
        return
    changed = {name for name in {*before, *after} if before.get(name) != after.get(name)}
    if theirs := sorted(changed - _TEAM_MEMBERS_OF_ITS_ADMIN):
        raise PermissionDenied(
            f"`{theirs[0]}` of a team is changed by an admin: its own admin may change the description.",
            param=theirs[0],
        )


def check_key_edit(
    name: str, before: Mapping[str, Any] | None, after: Mapping[str, Any], confined_to: str | None, own: str
) -> None:
    """Raises `PermissionDenied` for what a team's admin may not make of a key: of another team, mightier, unbounded.

    `own` is the name of the key that asks: what bounds it was set by somebody else.
    """
    if confined_to is None:
        return
    if name.startswith(_OF_TOKENS):
        raise PermissionDenied(
            f"Names that begin with `{_OF_TOKENS}` are those of callers by token: an admin limits them.", param="name"
        )
    for member in _BOUNDS:
        if after.get(member) != (before or {}).get(member):
            raise PermissionDenied(f"`{member}` of a key is changed by an admin.", param=member)
    if before is not None and name == own:
        for member in _OF_ITS_OWN:
            if after.get(member) != before.get(member):
                raise PermissionDenied(f"`{member}` of your own key is changed by another.", param=member)
    if after.get("team") != confined_to:
        raise PermissionDenied(f"You may make keys of the team `{confined_to}` only.", param="team")
    if after.get("role", "caller") == "admin":
        raise PermissionDenied("Only an admin may give a key the role `admin`.", param="role")


def sees_key(table: Mapping[str, Any], confined_to: str | None) -> bool:
    """A team's admin sees its team's keys, but not an admin's: whoever rotates a key has it."""
    return confined_to is None or (table.get("team") == confined_to and table.get("role", "caller") != "admin")
