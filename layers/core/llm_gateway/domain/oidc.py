"""Whose tokens are believed, and what their claims mean here."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from llm_gateway.domain.identity import Role


@dataclass(frozen=True, slots=True)
class OidcPolicy:
    """One identity provider. Claims are named as they are in the token, or by a path: `realm_access.roles`."""

    issuer: str
    """As its tokens spell it in `iss`, to the letter."""
    audiences: tuple[str, ...]
    """A token must be made for one of these. Never empty."""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    leeway_s: int = 60
    """How far the clocks of the provider and of this machine may be apart, in seconds."""
    name_claim: str = "sub"
    """What tells one caller from another; only `sub` is promised never to be given to somebody else."""
    team_claim: str | None = None
    """None: nobody has a team."""
    teams: Mapping[str, str] = field(default_factory=dict)
    """From the claim's values to names of teams, the first that a token has; empty: the values are the names."""
    role_claim: str | None = None
    roles: Mapping[str, Role] = field(default_factory=dict)
    """From the claim's values to roles; of several the mightiest."""
    default_role: Role | None = "caller"
    """Of a token that has none of `roles`; None lets it in nowhere."""
