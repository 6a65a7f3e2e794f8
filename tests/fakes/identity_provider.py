"""An OpenID Connect provider: it publishes keys, and signs whatever claims a test wants.

provider = IdentityProvider()
provider.token(groups=["search"])                   # good, of the first RSA key
provider.token(signer=provider.new_key("EC"), exp=0)
It is a `ports.HttpClient` of its own for tests without sockets; `serving()` has it on loopback.
"""

import base64
import json
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from llm_gateway.domain.ports import HttpRequest
from llm_gateway.errors import UpstreamError, UpstreamUnreachable

AUDIENCE = "llm-gateway"


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8))


@dataclass(frozen=True)
class Signer:
    """A private key, as `cryptography` has it: the other witness of what `pipeline.signatures` verifies."""

    kid: str
    private: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey

    @property
    def algorithm(self) -> str:
        return "RS256" if isinstance(self.private, rsa.RSAPrivateKey) else "ES256"

    def sign(self, message: bytes) -> bytes:
        if isinstance(self.private, rsa.RSAPrivateKey):
            return self.private.sign(message, padding.PKCS1v15(), SHA256())
        r, s = decode_dss_signature(self.private.sign(message, ec.ECDSA(SHA256())))
        return r.to_bytes(32) + s.to_bytes(32)

    def jwk(self) -> dict[str, Any]:
        said = {"kid": self.kid, "use": "sig", "alg": self.algorithm}
        if isinstance(self.private, rsa.RSAPrivateKey):
            public = self.private.public_key().public_numbers()
            return {**said, "kty": "RSA", "n": number(public.n), "e": number(public.e)}
        point = self.private.public_key().public_numbers()
        return {
            **said,
            "kty": "EC",
            "crv": "P-256",
            "x": base64url(point.x.to_bytes(32)),
            "y": base64url(point.y.to_bytes(32)),
        }


_RSA = rsa.generate_private_key(65537, 2048)
"""Made once: it takes a while."""


class IdentityProvider:
    """`requests` has every path that was asked for; while `away`, nobody answers."""

    def __init__(self, issuer: str = "https://id.corp.example/tenant") -> None:
        self.issuer = issuer
        self.first = Signer("first", _RSA)
        self.published = [self.first]
        self.requests: list[str] = []
        self.away = False
        self.said: dict[str, Any] = {}
        """What the discovery document says besides, or instead."""

    def new_key(self, kind: Literal["RSA", "EC"], kid: str = "second", *, publish: bool = True) -> Signer:
        private = rsa.generate_private_key(65537, 2048) if kind == "RSA" else ec.generate_private_key(ec.SECP256R1())
        signer = Signer(kid, private)
        if publish:
            self.published.append(signer)
        return signer

    def token(self, signer: Signer | None = None, header: Mapping[str, Any] | None = None, **claims: Any) -> str:
        """A claim or header that is None is left out."""
        signer = signer or self.first
        now = int(time.time())
        said = {"iss": self.issuer, "aud": AUDIENCE, "sub": "ann", "iat": now, "exp": now + 3600, **claims}
        head = {"alg": signer.algorithm, "kid": signer.kid, "typ": "JWT", **(header or {})}
        parts = [{name: value for name, value in part.items() if value is not None} for part in (head, said)]
        signed = ".".join(base64url(json.dumps(part, separators=(",", ":")).encode()) for part in parts)
        return f"{signed}.{base64url(signer.sign(signed.encode()))}"

    def answer(self, path: str) -> dict[str, Any] | None:
        self.requests.append(path)
        if path.endswith("/.well-known/openid-configuration"):
            return {"issuer": self.issuer, "jwks_uri": f"{self.issuer}/keys", **self.said}
        if path.endswith("/keys"):
            return {"keys": [signer.jwk() for signer in self.published]}
        return None

    async def send(self, request: HttpRequest) -> "_Answer":
        assert request.method == "GET"
        if self.away:
            raise UpstreamUnreachable("Nobody answers.")
        found = self.answer(request.url)
        return _Answer(404, b"") if found is None else _Answer(200, json.dumps(found).encode())

    async def close(self) -> None:
        """There is nothing to close."""

    @contextmanager
    def serving(self) -> Iterator[str]:
        """On loopback; its issuer is its address then."""
        provider = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = provider.answer(self.path)
                body = json.dumps(found).encode()
                self.send_response(404 if found is None else 200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Quiet."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        self.issuer = f"http://127.0.0.1:{server.server_address[1]}"
        try:
            yield self.issuer
        finally:
            server.shutdown()
            server.server_close()
            thread.join(5)


@dataclass
class _Answer:
    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    async def read(self, limit: int) -> bytes:
        assert len(self.body) <= limit
        return self.body

    async def chunks(self) -> AsyncIterator[bytes]:
        yield self.body

    def end(self, error: UpstreamError) -> None:
        """All has come."""

    async def close(self) -> None:
        """There is nothing to close."""
