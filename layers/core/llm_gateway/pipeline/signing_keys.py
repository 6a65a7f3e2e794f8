"""An identity provider's public keys (JWK), each bound to the one algorithm that it verifies.

Sources: https://www.rfc-editor.org/rfc/rfc7517 (keys and sets), https://www.rfc-editor.org/rfc/rfc7518#section-6
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from llm_gateway.pipeline.signatures import EcKey, PublicKey, RsaKey

_MOST_KEYS: Final = 100


@dataclass(frozen=True, slots=True)
class SigningKey:
    kid: str | None
    algorithm: str
    key: PublicKey


class SigningKeys(Protocol):
    async def find(self, kid: str | None, algorithm: str) -> SigningKey | None:
        """The key that a token names; of a token that names none, the only one there is for its algorithm.

        Raises `errors.Unavailable` where the identity provider cannot be asked and has never been.
        """
        ...


def read_key_set(document: object) -> tuple[SigningKey, ...]:
    """The keys of a JWK set that we can verify with; others are passed over, as RFC 7517 section 5 has it.

    Raises `ValueError` for what is no JWK set.
    """
    listed = document.get("keys") if isinstance(document, Mapping) else None
    if not isinstance(listed, list):
        raise ValueError("it is no JWK set")  # noqa: TRY004 - what is at fault is a document, no argument
    found = (_read_key(each) for each in listed[:_MOST_KEYS] if isinstance(each, Mapping))
    return tuple(key for key in found if key is not None)


def chosen(keys: Sequence[SigningKey], kid: str | None, algorithm: str) -> SigningKey | None:
    """See `SigningKeys.find`. Two keys of one name are none: nobody knows which is meant."""
    fitting = [key for key in keys if key.algorithm == algorithm and kid in (None, key.kid)]
    return fitting[0] if len(fitting) == 1 else None


def _read_key(jwk: Mapping[str, Any]) -> SigningKey | None:
    operations = jwk.get("key_ops", ["verify"])
    if jwk.get("use", "sig") != "sig" or not isinstance(operations, list) or "verify" not in operations:
        return None
    try:
        algorithm, key = _key_of(jwk)
    except (KeyError, TypeError, ValueError, binascii.Error):
        return None
    kid = jwk.get("kid")
    if jwk.get("alg", algorithm) != algorithm or not isinstance(kid, str | None):
        return None
    return SigningKey(kid, algorithm, key)


def _key_of(jwk: Mapping[str, Any]) -> tuple[str, PublicKey]:
    match jwk["kty"], jwk.get("crv"):
        case "RSA", _:
            return "RS256", RsaKey(_number(jwk["n"]), _number(jwk["e"]))
        case "EC", "P-256":
            return "ES256", EcKey(_number(jwk["x"]), _number(jwk["y"]))
    raise ValueError("a kind of key that is not verified with here")


def _number(text: str) -> int:
    return int.from_bytes(base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True))
