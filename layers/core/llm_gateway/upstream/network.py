"""The network client: pooled keep-alive connections, one request each at a time.

Why own code over asyncio and httptools: docs/adr/0001-http-client.md. HTTP/1.1 only, no redirects, no proxies from the
environment, certificates verified against the system's roots (`SSL_CERT_FILE` and `SSL_CERT_DIR` are OpenSSL's own).
No threads but asyncio's own for name look-ups, nothing global: after `close` nothing is left open, and the next `send`
starts afresh, which is what a restore from a snapshot needs.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache, partial
from urllib.parse import urlsplit

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamConnectTimeout, UpstreamCut, UpstreamUnreachable
from llm_gateway.upstream.connection import Connection, NeverAnswered
from llm_gateway.upstream.response import Limits, Response

MAX_CONNECTIONS = 512
"""At once and per origin. A Lambda has 1,024 file descriptors."""
IDLE_S = 55.0
"""How long an unused connection is kept: below the 60 s and more of load balancers; a `keep-alive` hint shortens it."""
READ_SIZE = 64 * 1024
"""Bytes that are taken from a socket at once."""
STALE_S = 2.0
"""How soon after a request a kept connection must die to have been dead before it. Later the peer has had the request,
and has likely worked on it."""
_KEEPALIVE_AFTER_S = 45
"""TCP probes: a NAT gateway forgets a silent connection after 350 s, and a model may think longer than that."""
_FRAMING = frozenset(("content-length", "transfer-encoding", "connection", "keep-alive", "upgrade", "te", "expect"))
"""Header names that are the connection's business; a caller's are left out."""
_NO_LENGTH = frozenset(("GET", "HEAD", "DELETE", "OPTIONS"))


@dataclass(frozen=True, slots=True)
class Target:
    """A parsed URL. `authority` is the `host` header, `path` has the query with it."""

    secure: bool
    host: str
    port: int
    authority: str
    path: str


@lru_cache(maxsize=512)
def parse_target(url: str) -> Target:
    """Raises `UpstreamUnreachable` for what is no absolute http or https URL. A user and password in it are dropped."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise UpstreamUnreachable("the provider's base URL is not a URL") from error
    if parts.scheme not in ("http", "https") or not host:
        raise UpstreamUnreachable("the provider's base URL must start with http:// or https:// and name a host")
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if not (path.isascii() and path.isprintable()) or " " in path:
        raise UpstreamUnreachable(f"the URL at {host} holds a character that must be percent-encoded")
    secure = parts.scheme == "https"
    try:
        name = f"[{host}]" if ":" in host else host if host.isascii() else host.encode("idna").decode("ascii")
    except UnicodeError as error:
        raise UpstreamUnreachable(f"{host!r} is no host name") from error
    if not name.isprintable() or " " in name:
        raise UpstreamUnreachable("the provider's base URL names no valid host")
    default = 443 if secure else 80
    authority = name if port in (None, default) else f"{name}:{port}"
    return Target(secure, name.strip("[]"), default if port is None else port, authority, path)


def encode_head(method: str, target: Target, headers: Mapping[str, str], length: int) -> bytes:
    """The request line and headers. Raises `UpstreamUnreachable` for what cannot be sent; it names no value."""
    lines = [f"{method} {target.path} HTTP/1.1", f"host: {headers.get('host') or target.authority}"]
    for name, value in headers.items():
        if name not in _FRAMING and name != "host":
            lines.append(f"{name}: {value}")
    if "accept-encoding" not in headers:
        lines.append("accept-encoding: identity")
    if "user-agent" not in headers:
        lines.append("user-agent: llm-gateway")
    if length or method not in _NO_LENGTH:
        lines.append(f"content-length: {length}")
    text = "\r\n".join(lines)
    ends = len(lines) - 1
    if text.isascii() and text.count("\n") == ends and text.count("\r") == ends and "\0" not in text:
        return (text + "\r\n\r\n").encode("ascii")
    for name, value in headers.items():
        if not (name + value).isascii() or not (name + value).isprintable():
            raise UpstreamUnreachable(f"header {name!r} for {target.host} holds a character that HTTP does not allow")
    raise UpstreamUnreachable(f"the request to {target.host} cannot be written as HTTP")


class Origin:
    """The connections to one scheme, host and port, busy and idle."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self.slots = asyncio.Semaphore(limit)
        self.busy: set[Connection] = set()
        self.idle: list[Connection] = []
        """The one used last comes last, and is used first."""
        self._loop = loop
        self._closed = False

    def take(self) -> Connection | None:
        """The connection used last that is still good."""
        now = self._loop.time()
        while self.idle:
            connection = self.idle.pop()
            if connection.usable and now < connection.idle_until:
                return connection
            connection.abort()
        return None

    def free(self, connection: Connection, reusable: bool) -> None:
        """A connection's callback at the end of an exchange."""
        self.slots.release()
        self.busy.discard(connection)
        if not reusable:
            return
        if self._closed:
            connection.abort()
        else:
            connection.idle_until = self._loop.time() + min(IDLE_S, connection.idle_hint_s)
            self.idle.append(connection)

    def drop_expired(self) -> None:
        now = self._loop.time()
        keep = [each for each in self.idle if each.usable and now < each.idle_until]
        for connection in set(self.idle).difference(keep):
            connection.abort()
        self.idle = keep

    def close(self) -> None:
        self._closed = True
        for connection in self.idle:
            connection.abort()
        self.idle = []
        for connection in list(self.busy):
            connection.end(UpstreamCut(f"the gateway closed its connections, that to {connection.host} too"))


class NetworkClient:
    """Implements `domain.ports.HttpClient` for http and https.

    Belongs to the event loop it is used in; used in another one, it forgets the connections of the first.
    Reusable after `close`.
    """

    def __init__(self, *, tls: ssl.SSLContext | None = None, max_connections: int = MAX_CONNECTIONS) -> None:
        self._tls = tls
        self._max_connections = max_connections
        self._loop: asyncio.AbstractEventLoop | None = None
        self._origins: dict[tuple[bool, str, int], Origin] = {}
        self._buffer = memoryview(bytearray(READ_SIZE))
        self._reaper: asyncio.TimerHandle | None = None

    def prepare(self) -> None:
        """Loads the trusted roots (about 20 ms), so that start-up pays for it and not the first request."""
        if self._tls is None:
            self._tls = open_tls()

    async def send(self, request: HttpRequest) -> Response:
        """See `domain.ports.HttpClient.send`; also `UpstreamMalformed` where the peer does not speak HTTP."""
        target = parse_target(request.url)
        head = encode_head(request.method, target, request.headers, len(request.body))
        origin = self._origin(target)
        due = asyncio.get_running_loop().time() + request.first_byte_s
        response = await self._attempt(request, target, origin, head, due, may_retry=True)
        if response is None:
            if request.renew is not None:
                request = request.renew()
                head = encode_head(request.method, target, request.headers, len(request.body))
            response = await self._attempt(request, target, origin, head, due, may_retry=False)
        if response is None:
            raise RuntimeError("an attempt that may not be repeated asked to be")
        return response

    async def _attempt(
        self, request: HttpRequest, target: Target, origin: Origin, head: bytes, due: float, *, may_retry: bool
    ) -> Response | None:
        """None where a connection from the pool turned out stale. `due` is the loop's time: of the response's head."""
        loop = asyncio.get_running_loop()
        await self._take_slot(origin, target, min(request.connect_s, due - loop.time()))
        try:
            connection = origin.take() if may_retry else None
            if connection is None:
                connection = await self._connect(target, min(request.connect_s, due - loop.time()))
        except BaseException:  # Cancelled or failed: the slot was for the connection that is not there.
            origin.slots.release()
            raise
        sent = loop.time()
        limits = Limits(request.first_byte_s, request.idle_s, due)
        head_only = request.method == "HEAD"
        origin.busy.add(connection)
        on_free = partial(origin.free, connection)
        response = connection.exchange(head, request.body, head_only=head_only, limits=limits, on_free=on_free)
        if request.on_sent is not None:
            request.on_sent()
        try:
            await response.wait_head()
        except NeverAnswered:
            if may_retry and connection.exchanges > 1 and loop.time() - sent < STALE_S:
                return None
            raise
        except BaseException:  # Whatever ends the wait, cancellation first of all, ends the exchange.
            response.cancel()
            raise
        self._arm_reaper()
        return response

    async def _take_slot(self, origin: Origin, target: Target, connect_s: float) -> None:
        if not origin.slots.locked():
            await origin.slots.acquire()  # Does not wait.
            return
        try:
            async with asyncio.timeout(connect_s):
                await origin.slots.acquire()
        except TimeoutError as error:
            message = f"all {self._max_connections} connections to {target.host} stayed busy for {connect_s:.3g} s"
            raise UpstreamConnectTimeout(message) from error

    async def _connect(self, target: Target, connect_s: float) -> Connection:
        loop = asyncio.get_running_loop()
        if target.secure:
            self.prepare()
        try:
            async with asyncio.timeout(connect_s):
                transport, connection = await loop.create_connection(
                    lambda: Connection(target.host, loop, self._buffer),
                    target.host,
                    target.port,
                    ssl=self._tls if target.secure else None,
                    server_hostname=target.host if target.secure else None,
                    happy_eyeballs_delay=0.25,
                )
        except TimeoutError as error:
            raise UpstreamConnectTimeout(f"no connection to {target.host} within {connect_s:.3g} s") from error
        except (OSError, UnicodeError) as error:
            raise UpstreamUnreachable(f"no connection to {target.host}: {describe(error)}") from error
        keep_probing(transport)
        return connection

    async def close(self) -> None:
        """Closes every connection; a response under way fails with `UpstreamCut`."""
        if self._reaper is not None:
            self._reaper.cancel()
            self._reaper = None
        for origin in self._origins.values():
            origin.close()
        self._origins.clear()
        # asyncio closes a socket in the loop's next turn, a TLS one in the turn after it.
        for _ in range(3):
            await asyncio.sleep(0)

    def _origin(self, target: Target) -> Origin:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._origins, self._reaper = loop, {}, None
        key = (target.secure, target.host, target.port)
        origin = self._origins.get(key)
        if origin is None:
            origin = self._origins[key] = Origin(loop, self._max_connections)
        return origin

    def _arm_reaper(self) -> None:
        if self._reaper is None and self._loop is not None:
            self._reaper = self._loop.call_later(IDLE_S / 4, self._reap)

    def _reap(self) -> None:
        self._reaper = None
        if self._loop is None:
            return
        for origin in self._origins.values():
            origin.drop_expired()
        if any(origin.idle for origin in self._origins.values()):
            self._arm_reaper()


def open_tls() -> ssl.SSLContext:
    """The system's roots; where Python finds none (python.org's macOS builds), certifi's, if it is installed."""
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if paths.cafile is None and paths.capath is None and not context.cert_store_stats()["x509_ca"]:
        with contextlib.suppress(ImportError):
            import certifi  # noqa: PLC0415 - not a dependency, and not needed where the system has roots

            context.load_verify_locations(certifi.where())
    context.set_alpn_protocols(["http/1.1"])
    return context


def keep_probing(transport: asyncio.BaseTransport) -> None:
    raw = transport.get_extra_info("socket")
    if raw is None:
        return
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL"):
        option = getattr(socket, name, None)  # macOS before 3.10 of its own kind has neither.
        if option is not None:
            raw.setsockopt(socket.IPPROTO_TCP, option, _KEEPALIVE_AFTER_S)


def describe(error: Exception) -> str:
    """One line without addresses: why there is no connection."""
    match error:
        case ssl.SSLCertVerificationError():
            reason = f"its certificate is not trusted ({error.verify_message})"
        case ssl.SSLError():
            reason = f"TLS failed ({error.reason or 'handshake'})"
        case socket.gaierror():
            reason = f"the name does not resolve ({error.strerror})"
        case ConnectionRefusedError():
            reason = "connection refused"
        case ConnectionError():
            reason = "the peer closed it at once"
        case OSError():
            reason = error.strerror or type(error).__name__
        case _:
            reason = "the name is not valid"
    return reason
