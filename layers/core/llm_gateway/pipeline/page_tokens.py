"""Where the next page of an answer begins, as an opaque word that only the gateway can make.

A token is bound to the question and to the key that asked it. It says where to go on and nothing of what may be seen:
that is decided anew with each page. Its secret is the asking key's stored hash, so that there is no other one to keep.
"""

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any, Final

from llm_gateway.errors import InvalidRequest

_MAC_BYTES: Final = 16
_LONGEST: Final = 8192


class PageTokens:
    def __init__(self, key_hash: str) -> None:
        self._secret = hashlib.sha256(b"llm-gateway pages:" + key_hash.encode()).digest()

    def seal(self, question: object, position: object) -> str:
        """Both are JSON-shaped."""
        payload = _bytes(position)
        return _encoded(self._mac(question, payload) + payload)

    def open(self, question: object, token: str) -> Any:
        """The position. Raises `InvalidRequest` for what `seal` has not made for this question and key."""
        try:
            sealed = base64.b64decode(token[:_LONGEST] + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
            mac, payload = sealed[:_MAC_BYTES], sealed[_MAC_BYTES:]
            # Base64 has several spellings of one value: only ours counts.
            if hmac.compare_digest(mac, self._mac(question, payload)) and _encoded(sealed) == token:
                return json.loads(payload)
        except (ValueError, binascii.Error):
            pass
        raise InvalidRequest(
            "This page token is not of this question: pass `next` as it was given, with the same parameters.",
            param="next",
        )

    def _mac(self, question: object, payload: bytes) -> bytes:
        return hmac.digest(self._secret, _bytes(question) + b"\0" + payload, "sha256")[:_MAC_BYTES]


def _encoded(sealed: bytes) -> str:
    return base64.urlsafe_b64encode(sealed).decode().rstrip("=")


def _bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), sort_keys=True).encode()
