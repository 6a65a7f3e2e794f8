"""Puts together who may call: keys, and the tokens of an identity provider where one is named. Of both planes."""

from collections.abc import Callable

from llm_gateway.domain.ports import HttpClient, Registry
from llm_gateway.pipeline.auth import Authenticator, Identification
from llm_gateway.settings import Settings


def open_identification(
    settings: Settings, registry: Registry, http: HttpClient, warn: Callable[[str], None] | None = None
) -> Identification:
    """`registry` is the cached one. Where no identity provider is named, nothing of OpenID Connect is loaded."""
    keys = Authenticator(registry, settings.auth)
    if settings.oidc_issuer is None or settings.auth == "none":
        return keys

    from llm_gateway.adapters.jwks import PublishedKeys  # noqa: PLC0415 - 20 ms that only those who use it pay for
    from llm_gateway.domain.oidc import OidcPolicy  # noqa: PLC0415
    from llm_gateway.pipeline.oidc import KnownTeams, TokensBesideKeys  # noqa: PLC0415
    from llm_gateway.pipeline.token_verification import TokenVerifier  # noqa: PLC0415

    policy = OidcPolicy(
        issuer=settings.oidc_issuer,
        audiences=settings.oidc_audience,
        algorithms=settings.oidc_algorithms,
        leeway_s=settings.oidc_leeway_s,
        name_claim=settings.oidc_name_claim,
        team_claim=settings.oidc_team_claim,
        teams=settings.oidc_teams,
        role_claim=settings.oidc_role_claim,
        roles=settings.oidc_roles,
        default_role=None if settings.oidc_default_role == "none" else settings.oidc_default_role,
    )
    published = PublishedKeys(http, policy.issuer, settings.oidc_jwks_url, warn=warn)
    return TokensBesideKeys(keys, TokenVerifier(published, policy), policy, KnownTeams(registry))
