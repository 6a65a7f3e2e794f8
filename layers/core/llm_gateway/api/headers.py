"""Reading what the gateway needs from an ASGI scope, without building a request object for it."""

from collections.abc import Iterable, Mapping
from typing import Final

from llm_gateway.domain.tags import checked_tags

RawHeaders = Iterable[tuple[bytes, bytes]]

_TAG: Final = b"x-gateway-tag-"


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
        if not found:
            return {}
        # Bytes that are no UTF-8 become what no tag may hold.
        given = {
            name[len(_TAG) :].decode("latin-1"): self._values[name].decode("utf-8", "surrogateescape") for name in found
        }
        return checked_tags(given, _TAG.decode())

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
