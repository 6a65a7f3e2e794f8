"""Reading what the gateway needs from an ASGI scope, without building a request object for it."""

from collections.abc import Iterable

RawHeaders = Iterable[tuple[bytes, bytes]]


def header(headers: RawHeaders, name: bytes) -> str | None:
    """The first header of that lower-case name. Servers give names in lower case (ASGI 3)."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


def bearer_token(headers: RawHeaders) -> str | None:
    """The key in `Authorization: Bearer …`; the scheme's case does not matter (RFC 9110, 11.1)."""
    value = header(headers, b"authorization")
    if value is None:
        return None
    scheme, _, token = value.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def caller_token(headers: RawHeaders, *, azure: bool) -> str | None:
    """The caller's key. Azure's clients send it as `api-key`, on their own paths only."""
    headers = list(headers)
    return bearer_token(headers) or (header(headers, b"api-key") if azure else None)
