"""Everybody who may come to the door, for the authorisation matrices: by key, by token, by neither.

Ann is a caller of the team `search`; what a matrix tries to reach is hers, or her team's.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, Literal

from tests.fakes.gateway_app import KEY
from tests.fakes.identity_provider import IdentityProvider

Kind = Literal[
    "admin",
    "team-admin",
    "ann",
    "colleague",
    "other team-admin",
    "other caller",
    "unteamed caller",
    "nobody",
    "stranger",
]
"""What a caller is to the door. `nobody` is not let in (401); `stranger` has a good token and no place here (403)."""

TEAMS: Final = "[teams.search]\n[teams.ads]\n"
_EXPIRED = datetime(2020, 1, 1, tzinfo=UTC).isoformat()
CALLERS_CONFIG: Final = f"""
{TEAMS}
[keys.team-admin]
key = "sk-team-admin"
team = "search"
role = "team-admin"
[keys.ann]
key = "sk-ann-of-search"
team = "search"
[keys.colleague]
key = "sk-colleague"
team = "search"
[keys.other-team-admin]
key = "sk-other-team-admin"
team = "ads"
role = "team-admin"
[keys.other-caller]
key = "sk-other-caller"
team = "ads"
[keys.unteamed]
key = "sk-unteamed"
[keys.expired]
key = "sk-expired"
role = "admin"
expires_at = {_EXPIRED}
[keys.disabled]
key = "sk-disabled"
role = "admin"
enabled = false
"""


@dataclass(frozen=True)
class Caller:
    name: str
    kind: Kind
    token: str | None

    @property
    def headers(self) -> dict[str, str]:
        return {} if self.token is None else {"authorization": f"Bearer {self.token}"}

    def __str__(self) -> str:
        return self.name


OIDC_SETTINGS: Final[dict[str, Any]] = {
    "oidc_audience": "llm-gateway",
    "oidc_team_claim": "team",
    "oidc_role_claim": "groups",
    "oidc_roles": "ops=admin,leads=team-admin",
}

BY_KEY: Final = (
    Caller("an admin's key", "admin", KEY),
    Caller("a team-admin's key", "team-admin", "sk-team-admin"),
    Caller("Ann's key", "ann", "sk-ann-of-search"),
    Caller("a colleague's key", "colleague", "sk-colleague"),
    Caller("another team's admin", "other team-admin", "sk-other-team-admin"),
    Caller("another team's caller", "other caller", "sk-other-caller"),
    Caller("a key of no team", "unteamed caller", "sk-unteamed"),
    Caller("no key", "nobody", None),
    Caller("an unknown key", "nobody", "sk-unknown"),
    Caller("an expired admin's key", "nobody", "sk-expired"),
    Caller("a disabled admin's key", "nobody", "sk-disabled"),
)


def by_token(provider: IdentityProvider) -> tuple[Caller, ...]:
    """Ann is the key of that name: a token makes another caller, who is a colleague of hers."""
    token = provider.token
    forger = provider.new_key("EC", "first", publish=False)
    return (
        Caller("an admin's token", "admin", token(sub="root", groups=["ops"])),
        Caller("a team-admin's token", "team-admin", token(sub="lea", team="search", groups=["leads"])),
        Caller("a colleague's token", "colleague", token(sub="ann", team="search")),
        Caller("another team's admin's token", "other team-admin", token(sub="leo", team="ads", groups=["leads"])),
        Caller("another team's token", "other caller", token(sub="ben", team="ads")),
        Caller("a token of no team", "stranger", token(sub="cem")),
        Caller("an expired admin's token", "nobody", token(sub="root", groups=["ops"], exp=1)),
        Caller("an admin's token for another service", "nobody", token(sub="root", groups=["ops"], aud="another")),
        Caller("a forged admin's token", "nobody", token(forger, sub="root", groups=["ops"])),
        Caller("an unsigned admin's token", "nobody", token(header={"alg": "none"}, sub="root", groups=["ops"])),
    )
