"""Specifies callers by a token of an identity provider: which tokens are good, and what their claims mean."""

import hmac
import json
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.adapters.jwks import PublishedKeys
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.oidc import OidcPolicy
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.errors import AuthenticationFailed, GatewayError, PermissionDenied, Unavailable
from llm_gateway.pipeline.auth import Authenticator
from llm_gateway.pipeline.oidc import KnownTeams, TokensBesideKeys, caller_of
from llm_gateway.pipeline.signing_keys import read_key_set
from llm_gateway.pipeline.token_verification import LONGEST_TOKEN, TokenVerifier
from tests.fakes.identity_provider import AUDIENCE, IdentityProvider, base64url, number
from tests.fakes.manual_clock import ManualClock

KEY = "sk-one.of.ours"
ODD_KEY = "brought.from.elsewhere"


class Deployment:
    """A gateway that believes one provider, with a clock for what is remembered of its keys."""

    def __init__(self, provider: IdentityProvider | None = None, **policy: Any) -> None:
        self.provider = provider or IdentityProvider()
        self.clock = ManualClock()
        self.policy = OidcPolicy(self.provider.issuer, (AUDIENCE,), **policy)
        registry = MemoryRegistry(
            [RegistryEntry("team", "search", {}), RegistryEntry("team", "ads", {})],
            [VirtualKey(lookup_id(key), "prod", hash_key(key)) for key in (KEY, ODD_KEY)],
        )
        self.published = PublishedKeys(self.provider, self.provider.issuer, clock=self.clock)
        tokens = TokenVerifier(self.published, self.policy)
        self.auth = TokensBesideKeys(Authenticator(registry, "keys"), tokens, self.policy, KnownTeams(registry))

    async def refusal(self, token: str) -> GatewayError:
        with pytest.raises(GatewayError) as caught:
            await self.auth.identify(token)
        return caught.value


@pytest.fixture
def deployed() -> Deployment:
    return Deployment()


class TestBesideKeys:
    async def test_keys_are_what_they_were(self, deployed: Deployment) -> None:
        for key in (KEY, ODD_KEY):
            assert (await deployed.auth.identify(key)).name == "prod"
        for nothing in (None, "", "sk-wrong", "a.b.c"):
            with pytest.raises(AuthenticationFailed):
                await deployed.auth.identify(nothing)
        assert not deployed.provider.requests, "no key is a reason to ask the provider"

    async def test_a_good_token_is_a_caller(self, deployed: Deployment) -> None:
        caller = await deployed.auth.identify(deployed.provider.token())
        assert (caller.name, caller.user, caller.role, caller.team) == ("oidc:ann", "ann", "caller", None)
        again = await deployed.auth.identify(deployed.provider.token(exp=4_000_000_000))
        assert (again.key_id, again.key_hash) == (caller.key_id, caller.key_hash), "page tokens outlive a token"

    @pytest.mark.parametrize("kind", ["RSA", "EC"])
    async def test_either_algorithm(self, deployed: Deployment, kind: Any) -> None:
        signer = deployed.provider.new_key(kind)
        assert (await deployed.auth.identify(deployed.provider.token(signer))).name == "oidc:ann"

    async def test_the_operator_may_accept_one_of_them_alone(self) -> None:
        deployed = Deployment(algorithms=("ES256",))
        elliptic = deployed.provider.new_key("EC")
        assert (await deployed.auth.identify(deployed.provider.token(elliptic))).name == "oidc:ann"
        assert "algorithm" in (await deployed.refusal(deployed.provider.token())).message


class TestWhatIsRefused:
    @pytest.mark.parametrize(
        ("claims", "code", "says"),
        [
            ({"exp": 1}, "token_expired", "expired"),
            ({"exp": None}, "invalid_token", "`exp`"),
            ({"exp": "soon"}, "invalid_token", ""),
            ({"nbf": 4_000_000_000}, "invalid_token", "not valid yet"),
            ({"iat": 4_000_000_000}, "invalid_token", "not valid yet"),
            ({"iss": "https://id.corp.example/tenant/"}, "invalid_token", "`iss`"),
            ({"iss": None}, "invalid_token", "`iss`"),
            ({"iss": ["https://id.corp.example/tenant"]}, "invalid_token", "`iss`"),
            ({"aud": "another"}, "invalid_token", "`aud`"),
            ({"aud": None}, "invalid_token", "`aud`"),
            ({"aud": None, "client_id": AUDIENCE}, "invalid_token", "`aud`"),
            ({"aud": {"llm-gateway": 1}}, "invalid_token", "`aud`"),
            ({"aud": []}, "invalid_token", "`aud`"),
            ({"sub": None}, "invalid_token", "`sub`"),
            ({"sub": 7}, "invalid_token", ""),
            ({"sub": ""}, "invalid_token", ""),
            ({"sub": "a\nb"}, "invalid_token", "no name"),
            ({"sub": "x" * 201}, "invalid_token", "no name"),
        ],
    )
    async def test_claims(self, deployed: Deployment, claims: dict[str, Any], code: str, says: str) -> None:
        error = await deployed.refusal(deployed.provider.token(**claims))
        assert (error.http_status, error.error_code) == (401, code)
        assert says in error.message

    @pytest.mark.parametrize(
        "header",
        [
            {"alg": "none"},
            {"alg": "None"},
            {"alg": "HS256"},
            {"alg": "RS512"},
            {"alg": "ES256"},
            {"alg": None},
            {"alg": ["RS256"]},
            {"kid": "unknown"},
            {"kid": 7},
            {"typ": "logout+jwt"},
            {"typ": 7},
            {"crit": ["b64"], "b64": False},
            {"crit": ["b64"], "b64": True},
            {"crit": ["exp"]},
        ],
    )
    async def test_headers(self, deployed: Deployment, header: dict[str, Any]) -> None:
        error = await deployed.refusal(deployed.provider.token(header=header))
        assert (error.http_status, error.error_type) == (401, "authentication_error")
        assert error.headers["www-authenticate"] == 'Bearer error="invalid_token"'

    async def test_the_public_key_is_no_secret_to_sign_with(self, deployed: Deployment) -> None:
        """The classic confusion: HS256 with the RSA key's own bytes for a secret."""
        head = base64url(b'{"alg":"HS256","kid":"first"}')
        _, body, _ = deployed.provider.token().split(".")
        secret = json.dumps(deployed.provider.first.jwk()).encode()
        forged = base64url(hmac.digest(secret, f"{head}.{body}".encode(), "sha256"))
        assert (await deployed.refusal(f"{head}.{body}.{forged}")).http_status == 401

    async def test_a_key_that_the_token_brings_along_is_not_believed(self, deployed: Deployment) -> None:
        stranger = deployed.provider.new_key("RSA", "first", publish=False)
        brought = {"jwk": stranger.jwk(), "jku": "https://evil.example/keys", "x5u": "https://evil.example/c"}
        error = await deployed.refusal(deployed.provider.token(stranger, header=brought))
        assert "signature" in error.message
        assert not [path for path in deployed.provider.requests if "evil" in path]

    async def test_a_token_without_a_signature(self, deployed: Deployment) -> None:
        head, body, signature = deployed.provider.token().split(".")
        for forged in (f"{head}.{body}.", f"{head}.{body}.{signature[:-4]}", f"{head}.{body}x.{signature}"):
            assert (await deployed.refusal(forged)).http_status == 401

    async def test_a_token_that_is_too_long(self, deployed: Deployment) -> None:
        error = await deployed.refusal(deployed.provider.token(padding="x" * LONGEST_TOKEN))
        assert "too long" in error.message

    @given(st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60), st.text(max_size=60))
    async def test_nothing_that_looks_like_a_token_breaks_anything(self, head: str, rest: str) -> None:
        deployed = Deployment()
        token = f"ey{head}.{rest}.x"
        if token.count(".") == 2:
            assert (await deployed.refusal(token)).http_status == 401

    async def test_a_header_as_deep_as_a_well(self, deployed: Deployment) -> None:
        head = base64url(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}")
        assert (await deployed.refusal(f"{head}.e30.x")).http_status == 401

    async def test_an_error_holds_nothing_of_the_token(self, deployed: Deployment) -> None:
        token = deployed.provider.token(exp=1, sub="canary-subject")
        error = await deployed.refusal(token)
        assert error.__cause__ is None
        for part in (*token.split("."), "canary-subject"):
            assert part not in str(error.envelope())


class TestClocks:
    async def test_a_minute_is_forgiven_and_no_more(self, deployed: Deployment) -> None:
        now = int(time.time())
        assert (await deployed.auth.identify(deployed.provider.token(exp=now - 30, sub="a"))).role == "caller"
        assert (await deployed.auth.identify(deployed.provider.token(nbf=now + 30, sub="b"))).role == "caller"
        assert (await deployed.refusal(deployed.provider.token(exp=now - 90))).error_code == "token_expired"
        assert (await deployed.refusal(deployed.provider.token(nbf=now + 120))).http_status == 401

    async def test_what_is_remembered_ends_when_the_token_does(self) -> None:
        provider = IdentityProvider()
        clock = ManualClock()
        clock.now = time.time()
        tokens = TokenVerifier(
            PublishedKeys(provider, provider.issuer), OidcPolicy(provider.issuer, (AUDIENCE,)), clock
        )
        short, long = provider.token(exp=int(clock.now) - 50), provider.token()
        held = [await tokens.claims(token) for token in (short, long)]
        assert [await tokens.claims(token) for token in (short, long)] == held
        clock.now += 11
        assert await tokens.claims(short) is not held[0], "verified anew"
        assert await tokens.claims(long) is held[1]
        clock.now += 300
        assert await tokens.claims(long) is not held[1], "its key may have been withdrawn"


class TestPublishedKeys:
    async def test_they_are_read_once(self, deployed: Deployment) -> None:
        for _ in range(3):
            await deployed.auth.identify(deployed.provider.token())
        assert len(deployed.provider.requests) == 2
        assert deployed.provider.requests[0] == "https://id.corp.example/tenant/.well-known/openid-configuration"

    async def test_a_new_key_is_looked_for_at_once(self, deployed: Deployment) -> None:
        await deployed.auth.identify(deployed.provider.token())
        deployed.clock.now += 31
        rotated = deployed.provider.new_key("EC", "rotated")
        assert (await deployed.auth.identify(deployed.provider.token(rotated))).role == "caller"
        assert len(deployed.provider.requests) == 4

    async def test_made_up_keys_are_looked_for_every_30_seconds_at_most(self, deployed: Deployment) -> None:
        stranger = deployed.provider.new_key("EC", "strange", publish=False)
        for second in range(90):
            await deployed.refusal(deployed.provider.token(stranger, header={"kid": f"made-up-{second}"}))
            deployed.clock.now += 1
        assert len(deployed.provider.requests) <= 2 * 4

    async def test_a_key_that_is_withdrawn_opens_nothing_any_more(self, deployed: Deployment) -> None:
        assert (await deployed.auth.identify(deployed.provider.token())).role == "caller"
        deployed.provider.new_key("EC", "next")
        deployed.provider.published.remove(deployed.provider.first)
        deployed.clock.now += 601
        assert (await deployed.refusal(deployed.provider.token(sub="another"))).http_status == 401

    async def test_known_keys_serve_on_while_the_provider_is_away(self, deployed: Deployment) -> None:
        await deployed.auth.identify(deployed.provider.token())
        deployed.provider.away = True
        deployed.clock.now += 3600
        assert (await deployed.auth.identify(deployed.provider.token(sub="ben"))).role == "caller"
        deployed.clock.now += 6 * 3600
        with pytest.raises(Unavailable):
            await deployed.auth.identify(deployed.provider.token(sub="cem"))

    async def test_a_provider_that_was_never_there_is_a_503_and_is_not_stormed(self, deployed: Deployment) -> None:
        deployed.provider.away = True
        for _ in range(5):
            error = await deployed.refusal(deployed.provider.token())
            assert (error.http_status, error.retry_after) == (503, 5.0)
        deployed.provider.away = False
        assert (await deployed.refusal(deployed.provider.token())).http_status == 503
        deployed.clock.now += 5
        assert (await deployed.auth.identify(deployed.provider.token())).role == "caller"

    @pytest.mark.parametrize(
        "said",
        [
            {"issuer": "https://evil.example"},
            {"jwks_uri": None},
            {"jwks_uri": "http://id.corp.example/tenant/keys"},
            {"jwks_uri": "file:///etc/keys"},
            {"jwks_uri": "echo:keys"},
        ],
    )
    async def test_a_discovery_document_that_is_not_to_be_believed(self, said: dict[str, Any]) -> None:
        deployed = Deployment()
        deployed.provider.said = said
        assert (await deployed.refusal(deployed.provider.token())).http_status == 503
        assert len(deployed.provider.requests) == 1

    async def test_a_token_that_names_no_key_has_the_only_one(self, deployed: Deployment) -> None:
        nameless = {"kid": None}
        deployed.provider.new_key("EC", "of another algorithm")
        assert (await deployed.auth.identify(deployed.provider.token(header=nameless))).role == "caller"
        deployed.provider.new_key("RSA")
        deployed.clock.now += 601
        error = await deployed.refusal(deployed.provider.token(header=nameless, sub="another"))
        assert error.http_status == 401


def key_with(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**IdentityProvider().first.jwk(), **changes}.items() if value is not None}


@pytest.mark.parametrize(
    ("jwk", "counts"),
    [
        (key_with(), True),
        (key_with(alg=None, use=None, kid=None), True),
        (key_with(key_ops=["verify"]), True),
        (key_with(use="enc"), False),
        (key_with(key_ops=["encrypt"]), False),
        (key_with(alg="RS512"), False),
        (key_with(alg="HS256"), False),
        (key_with(kty="oct", k="c2VjcmV0"), False),
        (key_with(n=number(2**1023 + 1)), False),
        (key_with(n=7), False),
        (key_with(e="AQAB!"), False),
        (key_with(kid=7), False),
        ({"kty": "EC", "crv": "P-256", "x": "AQ", "y": "AQ"}, False),
        ({"kty": "EC", "crv": "secp256k1", "x": "AQ", "y": "AQ"}, False),
        ({}, False),
    ],
)
def test_only_keys_for_this_are_taken_from_a_set(jwk: Mapping[str, Any], counts: bool) -> None:
    assert bool(read_key_set({"keys": ["odd", jwk]})) == counts


@pytest.mark.parametrize("document", [None, [], {}, {"keys": {}}, {"keys": "x"}])
def test_what_is_no_set_is_a_fault(document: object) -> None:
    with pytest.raises(ValueError, match="JWK set"):
        read_key_set(document)


CLAIMS = {"sub": "ann", "exp": 4_000_000_000}


def caller(claims: dict[str, Any], **policy: Any) -> VirtualKey:
    return caller_of({**CLAIMS, **claims}, OidcPolicy("https://i", (AUDIENCE,), **policy), {"search", "ads"})


class TestRoles:
    MAPPED: ClassVar[Any] = {"role_claim": "groups", "roles": {"ops": "admin", "leads": "team-admin", "all": "caller"}}

    @pytest.mark.parametrize(
        ("groups", "role"),
        [
            ("ops", "admin"),
            (["all", "ops"], "admin"),
            (["all"], "caller"),
            (["other"], "caller"),
            (None, "caller"),
            (7, "caller"),
        ],
    )
    def test_the_mightiest_counts_and_strangers_have_the_default(self, groups: Any, role: str) -> None:
        assert caller({"groups": groups}, **self.MAPPED).role == role

    def test_a_role_of_that_name_is_none_unless_it_is_mapped(self) -> None:
        assert caller({"groups": ["admin"]}, **self.MAPPED).role == "caller"
        assert caller({"role": "admin"}).role == "caller"

    def test_without_a_default_strangers_are_refused(self) -> None:
        with pytest.raises(PermissionDenied) as caught:
            caller({"groups": ["other"]}, default_role=None, **self.MAPPED)
        assert caught.value.error_code == "no_role"


class TestTeams:
    @pytest.mark.parametrize(
        ("claim", "claims"),
        [
            ("team", {"team": "search"}),
            ("teams", {"teams": ["unknown", "search", "ads"]}),
            ("realm.team", {"realm": {"team": "search"}}),
            ("https://corp.example/team", {"https://corp.example/team": "search"}),
        ],
    )
    def test_a_claim_names_it(self, claim: str, claims: dict[str, Any]) -> None:
        assert caller(claims, team_claim=claim).team == "search"

    def test_groups_are_mapped_in_the_operators_order(self) -> None:
        teams = {"g-2": "ads", "g-1": "search", "g-0": "gone"}
        assert caller({"g": ["g-0", "g-1", "g-2"]}, team_claim="g", teams=teams).team == "ads"
        with pytest.raises(PermissionDenied):
            caller({"g": ["search"]}, team_claim="g", teams=teams)

    @pytest.mark.parametrize("claims", [{}, {"team": "unknown"}, {"team": 7}, {"team": {"a": 1}}])
    def test_without_a_team_that_there_is_nobody_but_an_admin_comes_in(self, claims: dict[str, Any]) -> None:
        with pytest.raises(PermissionDenied) as caught:
            caller(claims, team_claim="team")
        assert caught.value.error_code == "no_team"
        assert caller({**claims, "r": "ops"}, team_claim="team", role_claim="r", roles={"ops": "admin"}).team is None

    def test_a_team_admin_of_no_team_is_nobody(self) -> None:
        with pytest.raises(PermissionDenied):
            caller({"r": "leads"}, role_claim="r", roles={"leads": "team-admin"})


def test_an_email_that_nobody_has_verified_is_no_name() -> None:
    assert caller({"email": "ann@corp.example"}, name_claim="email").name == "oidc:ann@corp.example"
    for verified in (True, "true", None):
        assert caller({"email": "ann@corp.example", "email_verified": verified}, name_claim="email").name
    refused: list[Any] = [False, "false", "False", 0, "", "no", [], {}, ["true"]]
    for unverified in refused:
        with pytest.raises(AuthenticationFailed):
            caller({"email": "ann@corp.example", "email_verified": unverified}, name_claim="email")


async def test_cognitos_access_tokens_name_their_client_instead(deployed: Deployment) -> None:
    token = deployed.provider.token(aud=None, token_use="access", client_id=AUDIENCE)
    assert (await deployed.auth.identify(token)).name == "oidc:ann"
    other = deployed.provider.token(aud=None, token_use="access", client_id="another")
    assert (await deployed.refusal(other)).http_status == 401
