"""What the pipeline asks of the world outside. Adapters implement these; tests use `adapters.memory`."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord

Kind = Literal["settings", "provider", "model", "price", "team"]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One thing an operator configured. `document` is JSON-shaped; money and prices in it are strings."""

    kind: Kind
    name: str
    document: Mapping[str, Any]


class Registry(Protocol):
    """What operators configure. Every method raises `errors.Unavailable` when the store cannot be reached."""

    async def load_catalog(self) -> Sequence[RegistryEntry]: ...

    async def put_entry(self, entry: RegistryEntry) -> None: ...

    async def delete_entry(self, kind: Kind, name: str) -> None: ...

    async def find_key(self, key_id: str) -> VirtualKey | None: ...

    async def put_key(self, key: VirtualKey) -> None: ...

    async def delete_key(self, key_id: str) -> None: ...

    async def list_keys(self) -> Sequence[VirtualKey]: ...


class Ledger(Protocol):
    """One record per request. Every method raises `errors.Unavailable` when the store cannot be reached."""

    async def open(self, record: RequestRecord) -> None:
        """Writes an `open` record. Harmless when repeated with the same `request_id`."""
        ...

    async def settle(self, record: RequestRecord) -> bool:
        """Moves `open` or `abandoned` to the record's status with everything it says; writes it where none is.

        True if this call did it, False if the record had been settled or failed before: the first truth stays.
        """
        ...

    async def get(self, request_id: str) -> RequestRecord | None: ...


class SecretStore(Protocol):
    """Provider keys. Raises `errors.Unavailable` when the store cannot be reached."""

    async def get_secret(self, name: str) -> str | None:
        """The secret's text, or None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to a host of ours. `headers` in lower case; times in seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    connect_s: float = 5.0
    first_byte_s: float = 120.0
    """From the send to the response's head."""
    idle_s: float = 60.0
    """Between two reads of the body."""


class HttpResponse(Protocol):
    """A response whose head has come. It must be closed; closing one that is not read to its end cancels it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of a repeated one the last."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UpstreamMalformed` past `limit` bytes, and what `chunks` raises."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes: what the socket had, in one piece, never empty.

        Raises `UpstreamCut` where it ends before the framing says so, `UpstreamTimeout` after `idle_s` of silence.
        """
        ...

    async def close(self) -> None: ...


class HttpClient(Protocol):
    async def send(self, request: HttpRequest) -> HttpResponse:
        """Raises `UpstreamUnreachable` (name, connection, TLS), `UpstreamTimeout` (connect, first byte), `UpstreamCut`,
        and `UpstreamMalformed` for a peer that does not speak HTTP.

        Never follows a redirect, keeps connections alive, verifies certificates. Being cancelled closes the connection.
        A request that a stale kept-alive connection swallowed (closed by the peer before any byte of an answer) is sent
        again once on a fresh one.
        """
        ...

    async def close(self) -> None: ...
