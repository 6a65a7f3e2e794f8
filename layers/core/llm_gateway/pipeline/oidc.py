"""Who calls, by a token of the organisation's identity provider (OpenID Connect), beside keys.

A token is a Bearer of three parts that begins as JSON does; everything else is a key. What a token's claims mean here
is `domain.oidc`; a caller that comes by one is named `oidc:<name>`, and so is never taken for a key of its name.
"""

import hashlib
from collections.abc import Awaitable, Callable, Container, Sequence
from typing import Any, Final

from llm_gateway.domain.identity import Role, VirtualKey
from llm_gateway.domain.oidc import OidcPolicy
from llm_gateway.domain.ports import Registry, RegistryEntry
from llm_gateway.errors import AuthenticationFailed, PermissionDenied
from llm_gateway.pipeline.auth import Identification
from llm_gateway.pipeline.token_verification import Claims, TokenVerifier

PREFIX: Final = "oidc:"
_LONGEST_NAME: Final = 200
_VERIFIED: Final = (None, True, "true")
_MIGHT: Final[tuple[Role, ...]] = ("caller", "team-admin", "admin")


class TokensBesideKeys:
    """`Identification` by tokens; `keys` has what is no token. `teams` gives the names of those there are."""

    def __init__(
        self,
        keys: Identification,
        tokens: TokenVerifier,
        policy: OidcPolicy,
        teams: Callable[[], Awaitable[Container[str]]],
    ) -> None:
        self._keys = keys
        self._tokens = tokens
        self._policy = policy
        self._teams = teams

    async def identify(self, token: str | None) -> VirtualKey:
        """Raises `AuthenticationFailed` for a token that is not good, `PermissionDenied` for a stranger's good one."""
        if token is None or not looks_like_a_token(token):
            return await self._keys.identify(token)
        claims = await self._tokens.claims(token)
        teams = await self._teams() if self._policy.team_claim is not None else ()
        return caller_of(claims, self._policy, teams)


class KnownTeams:
    """The names of the registry's teams. `registry` gives the same sequence while it has read nothing again."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._entries: Sequence[RegistryEntry] | None = None
        self._names: frozenset[str] = frozenset()

    async def __call__(self) -> Container[str]:
        entries = await self._registry.load_catalog()
        if entries is not self._entries:
            self._names = frozenset(entry.name for entry in entries if entry.kind == "team")
            self._entries = entries
        return self._names


def looks_like_a_token(text: str) -> bool:
    """`ey` is how a JSON object begins in Base64."""
    return text.startswith("ey") and text.count(".") == 2


def caller_of(claims: Claims, policy: OidcPolicy, teams: Container[str]) -> VirtualKey:
    """The caller that good claims speak of.

    Raises `AuthenticationFailed` where they do not say who it is, `PermissionDenied` where it has no role, or no team
    though it needs one: everyone but an admin does, where teams come from a claim, and a team-admin always.
    """
    name = _name(claims, policy)
    role = _role(claims, policy)
    team = _team(claims, policy, teams)
    if team is None and (role == "team-admin" or (policy.team_claim is not None and role != "admin")):
        raise PermissionDenied(
            "Your token belongs to no team of this gateway: its operator maps claims to teams.", code="no_team"
        )
    subject = hashlib.sha256(f"{policy.issuer}\n{claims['sub']}".encode()).hexdigest()
    return VirtualKey(
        key_id=PREFIX + subject[:24],
        name=PREFIX + name,
        # No token is ever held against it; page tokens are made with it, and must outlive a token that is renewed.
        key_hash=hashlib.sha256(f"{PREFIX}{subject}".encode()).hexdigest(),
        role=role,
        team=team,
        user=name,
        expires_at=int(claims["exp"]),
    )


def _name(claims: Claims, policy: OidcPolicy) -> str:
    name = _claim(claims, policy.name_claim)
    if not isinstance(name, str) or not name.strip() or len(name) > _LONGEST_NAME or not name.isprintable():
        raise AuthenticationFailed(f"The token's `{policy.name_claim}` is no name.", code="invalid_token")
    # Some providers write it as a text; those that do not verify leave it out, and are the operator's to trust.
    if policy.name_claim == "email" and claims.get("email_verified", True) not in _VERIFIED:
        raise AuthenticationFailed("The token's `email` is not verified.", code="invalid_token")
    return name


def _role(claims: Claims, policy: OidcPolicy) -> Role:
    held = _texts(_claim(claims, policy.role_claim)) if policy.role_claim is not None else ()
    found: list[Role] = [policy.roles[each] for each in held if each in policy.roles]
    if found:
        return max(found, key=_MIGHT.index)
    if policy.default_role is None:
        raise PermissionDenied("Your token gives you no role at this gateway.", code="no_role")
    return policy.default_role


def _team(claims: Claims, policy: OidcPolicy, known: Container[str]) -> str | None:
    """Only a team that there is: another name would be one without a budget."""
    if policy.team_claim is None:
        return None
    held = _texts(_claim(claims, policy.team_claim))
    named = [team for value, team in policy.teams.items() if value in held] if policy.teams else held
    return next((team for team in named if team in known), None)


def _claim(claims: Claims, name: str) -> Any:
    """By its name as it is (`https://example.com/team` holds dots itself), or else by a path."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        if not isinstance(found, dict):
            return None
        found = found.get(part)
    return found


def _texts(value: Any) -> tuple[str, ...]:
    """A text is one value, a list several; anything else is none."""
    listed = value if isinstance(value, list) else [value]
    return tuple(each for each in listed if isinstance(each, str))
