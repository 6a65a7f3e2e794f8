"""Whether a JSON Web Token is one of the identity provider's, for this gateway, and good now.

PyJWT takes it apart and holds its claims against the policy; the key that is found for it verifies the signature with
the one algorithm that the key is for, so what the token says of itself decides nothing.

Sources: https://www.rfc-editor.org/rfc/rfc7519, https://www.rfc-editor.org/rfc/rfc8725 (best practice),
https://docs.aws.amazon.com/cognito/latest/developerguide/amazon-cognito-user-pools-using-tokens-verifying-a-jwt.html
"""

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Any, Final, NoReturn

import jwt
from jwt.algorithms import Algorithm
from jwt.types import Options

from llm_gateway.domain.oidc import OidcPolicy
from llm_gateway.errors import AuthenticationFailed
from llm_gateway.pipeline.signatures import PublicKey
from llm_gateway.pipeline.signing_keys import SigningKey, SigningKeys

LONGEST_TOKEN: Final = 16 * 1024
_TYPES: Final = frozenset({"jwt", "at+jwt", "application/at+jwt"})
"""Of tokens that say who calls. Others of the same provider (`logout+jwt`, `secevent+jwt`) must not open anything."""
_REMEMBERED: Final = 10_000
_REMEMBERED_S: Final = 300.0
"""How long a token that was verified is taken without asking whether its key is still published."""

Claims = Mapping[str, Any]


class TokenVerifier:
    """Tokens that were good are remembered by their hash, until they expire and five minutes at most."""

    def __init__(self, keys: SigningKeys, policy: OidcPolicy, now: Callable[[], float] = time.time) -> None:
        self._keys = keys
        self._policy = policy
        self._now = now
        self._jwt = jwt.PyJWT()
        self._good: OrderedDict[bytes, tuple[Claims, float]] = OrderedDict()

    async def claims(self, token: str) -> Claims:
        """Raises `AuthenticationFailed`, and `Unavailable` where there are no keys to verify with."""
        if len(token) > LONGEST_TOKEN:
            raise _refused("The token is too long.")
        name = hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()
        held = self._good.get(name)
        if held is not None and self._now() < held[1]:
            self._good.move_to_end(name)
            return held[0]
        key = await self._key(token)
        claims = self._verified(token, key)
        self._remember(name, claims)
        return claims

    async def _key(self, token: str) -> SigningKey:
        try:
            header = jwt.get_unverified_header(token)
        except jwt.InvalidTokenError:
            raise _refused("The token cannot be read.") from None
        algorithm, kind = header.get("alg"), header.get("typ")
        if algorithm not in self._policy.algorithms:
            raise _refused("The token is not signed by an algorithm that is accepted here.")
        if kind is not None and (not isinstance(kind, str) or kind.lower() not in _TYPES):
            raise _refused("The token is of a type that says nothing about a caller.")
        if "crit" in header:
            raise _refused("The token asks for extensions that are not understood here.")
        key = await self._keys.find(header.get("kid"), algorithm)
        if key is None:
            raise _refused("The token's signature cannot be verified: its key is not one of the identity provider's.")
        return key

    def _verified(self, token: str, key: SigningKey) -> Claims:
        try:
            claims: dict[str, Any] = self._jwt.decode(
                token,
                _BoundKey(key),
                algorithms=[key.algorithm],
                issuer=self._policy.issuer,
                leeway=self._policy.leeway_s,
                options=_OPTIONS,
            )
            self._check_audience(claims)
        except jwt.InvalidSignatureError:
            raise _refused("The token's signature is not its key's.") from None
        except jwt.ExpiredSignatureError:
            raise _refused("The token has expired: get a new one.", "token_expired") from None
        except jwt.ImmatureSignatureError:
            raise _refused("The token is not valid yet.") from None
        except jwt.InvalidIssuerError:
            raise _refused("The token is not of the identity provider that is trusted here (`iss`).") from None
        except jwt.InvalidAudienceError:
            raise _refused("The token is not made for this gateway (`aud`).") from None
        except jwt.MissingRequiredClaimError as error:
            raise _refused(f"The token has no `{error.claim}`.") from None
        except jwt.InvalidTokenError:
            raise _refused("The token cannot be read.") from None
        return claims

    def _check_audience(self, claims: Claims) -> None:
        """`aud` is a text or a list (RFC 7519, 4.1.3). Cognito's access tokens have none, and a `client_id` instead."""
        given = claims.get("aud")
        if given is None and claims.get("token_use") == "access":
            given = claims.get("client_id")
        if given is None:
            raise jwt.MissingRequiredClaimError("aud")
        listed = given if isinstance(given, list) else [given]
        if not any(isinstance(each, str) and each in self._policy.audiences for each in listed):
            raise jwt.InvalidAudienceError

    def _remember(self, name: bytes, claims: Claims) -> None:
        until = min(int(claims["exp"]) + self._policy.leeway_s, self._now() + _REMEMBERED_S)
        self._good[name] = (claims, until)
        self._good.move_to_end(name)
        while len(self._good) > _REMEMBERED:
            self._good.popitem(last=False)


_OPTIONS: Final[Options] = {"require": ["exp", "iss", "sub"], "verify_aud": False}


class _BoundKey(jwt.PyJWK):
    """A key of ours where PyJWT takes one of its own: it brings its algorithm, and PyJWT takes no other then."""

    def __init__(self, key: SigningKey) -> None:
        self.key = key.key
        self.algorithm_name = key.algorithm
        self.Algorithm = _VERIFYING


class _Verifying(Algorithm):
    """PyJWT's seam for algorithms; of a key that verifies by itself."""

    def prepare_key(self, key: PublicKey) -> PublicKey:
        return key

    def verify(self, msg: bytes, key: PublicKey, sig: bytes) -> bool:
        return key.verify(msg, sig)

    def sign(self, msg: bytes, key: Any) -> NoReturn:
        raise NotImplementedError

    @staticmethod
    def to_jwk(key_obj: Any, as_dict: bool = False) -> NoReturn:
        raise NotImplementedError

    @staticmethod
    def from_jwk(jwk: Any) -> NoReturn:
        raise NotImplementedError


_VERIFYING: Final = _Verifying()


def _refused(message: str, code: str = "invalid_token") -> AuthenticationFailed:
    """The challenge is RFC 6750's, by which clients know that a new token would help."""
    return AuthenticationFailed(message, code=code, headers={"www-authenticate": 'Bearer error="invalid_token"'})
