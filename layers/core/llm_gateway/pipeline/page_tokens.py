"""Where the next page of an answer begins, as an opaque word that only the gateway can make.

A token is bound to the question and to the key that asked it. It says where to go on and nothing of what may be seen:
that is decided anew with each page. Its secret is the asking key's stored hash, so that there is no other one to keep.
Whoever has the key can compute it, and so a position is looked at as anything else that a caller sends.
"""

import base64
import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any, Final, TypeVar

from llm_gateway.errors import InvalidRequest

_MAC_BYTES: Final = 16
_LONGEST: Final = 8192
_LAST_MS: Final = 10**15
_LONGEST_ID: Final = 128
_Position = TypeVar("_Position")


class PageTokens:
    def __init__(self, key_hash: str) -> None:
        self._secret = hashlib.sha256(b"llm-gateway pages:" + key_hash.encode()).digest()

    def seal(self, question: object, position: object) -> str:
        """Both are JSON-shaped."""
        payload = _bytes(position)
        return _encoded(self._mac(question, payload) + payload)

    def open(self, question: object, token: str, read: Callable[[Any], _Position]) -> _Position:
        """The position, as `read` makes it of what was sealed: it raises `ValueError` for what can be none.

        Raises `InvalidRequest` for what `seal` has not made for this question and key.
        """
        try:
            sealed = base64.b64decode(token[:_LONGEST] + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
            # Base64 has several spellings of one value: only ours counts.
            if hmac.compare_digest(mac, self._mac(question, payload)) and _encoded(sealed) == token:
                return read(json.loads(payload))
        except (ValueError, RecursionError):
            pass
        raise InvalidRequest(
            "This page token is not of this question: pass `next` as it was given, with the same parameters.",
            param="next",
        )

    def _mac(self, question: object, payload: bytes) -> bytes:
        return hmac.digest(self._secret, _bytes(question) + b"\0" + payload, "sha256")[:_MAC_BYTES]


def read_moment(position: Any) -> tuple[int, str]:
    """A place among what is in the order of time: Unix milliseconds, and an id. Raises `ValueError`."""
    match position:
        case [int(at_ms), str(name)] if 0 <= at_ms < _LAST_MS and len(name) <= _LONGEST_ID and name.isprintable():
            return at_ms, name
    raise ValueError("no place in the order of time")


def _encoded(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
