"""Reading what the gateway needs from an ASGI scope, without building a request object for it."""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from llm_gateway.errors import InvalidRequest

RawHeaders = Iterable[tuple[bytes, bytes]]

_TAG: Final = b"x-gateway-tag-"
_TAG_NAME: Final = re.compile(rb"[a-z0-9_-]{1,64}\Z")
_MOST_TAGS: Final = 16
_LONGEST_TAG: Final = 256


class CallerHeaders:
    """A request's headers. Servers give names in lower case (ASGI 3); of a repeated one the last counts."""

    __slots__ = ("_values",)

    def __init__(self, headers: RawHeaders) -> None:
        self._values: Mapping[bytes, bytes] = dict(headers)

    def get(self, name: bytes) -> str | None:
        value = self._values.get(name)
        return None if value is None else value.decode("latin-1")

    def token(self, *, azure: bool) -> str | None:
        """The caller's key. Azure's clients send it as `api-key`, on their own paths only."""
        return self._bearer() or (self.get(b"api-key") if azure else None)

    def tags(self) -> dict[str, str]:
        """What the `x-gateway-tag-<name>` headers say, by name. Raises `InvalidRequest`, with the header as `param`."""
        found = [name for name in self._values if name.startswith(_TAG)]
        if len(found) > _MOST_TAGS:
            raise InvalidRequest(f"A request may have {_MOST_TAGS} tags (`x-gateway-tag-*` headers), not {len(found)}.")
        return {name[len(_TAG) :].decode(): self._tag(name) for name in found}

    def _tag(self, header: bytes) -> str:
        name = header.decode("latin-1")
        if not _TAG_NAME.match(header, len(_TAG)):
            raise InvalidRequest("A tag's name must be 1 to 64 of the characters a-z, 0-9, - and _.", param=name)
        try:
            value = self._values[header].decode()
        except UnicodeDecodeError:
            value = ""
        if not 0 < len(value) <= _LONGEST_TAG or not value.isprintable():
            raise InvalidRequest(f"A tag's value must be 1 to {_LONGEST_TAG} printable characters (UTF-8).", param=name)
        return value

    def _bearer(self) -> str | None:
        """The key in `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1)."""
        value = self.get(b"authorization")
        if value is None:
            return None
        scheme, _, token = value.strip().partition(" ")
        return token.strip() or None if scheme.lower() == "bearer" else None


def caller_headers(scope_headers: RawHeaders, path: str) -> tuple[CallerHeaders, str | None]:
    """The headers, and the caller's key in them."""
    headers = CallerHeaders(scope_headers)
    return headers, headers.token(azure=path.startswith("/openai/"))
