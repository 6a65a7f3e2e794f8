"""AWS Signature Version 4 in the `Authorization` header, without botocore.

Source: https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

Right for every service but S3, which encodes its paths once instead of twice. Verified against botocore in
`tests/unit/test_sigv4.py`; what it saves is measured in `docs/adr/0002-one-store-adapter.md`.
"""

import hmac
import time
from collections.abc import Mapping
from functools import lru_cache
from hashlib import sha256
from typing import Final
from urllib.parse import quote, urlsplit

from llm_gateway.upstream.credentials import AwsCredentials

# Hops between here and AWS may change these, so SDKs leave them unsigned too.
_UNSIGNED: Final = frozenset(
    {"baggage", "connection", "expect", "keep-alive", "proxy-authenticate", "proxy-authorization", "te", "traceparent"}
    | {"tracestate", "trailer", "transfer-encoding", "upgrade", "user-agent", "x-amzn-trace-id"}
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def sign(
    method: str,
    url: str,
    headers: Mapping[str, str],
    body: bytes,
    credentials: AwsCredentials,
    region: str,
    service: str,
    now: float,
) -> dict[str, str]:
    """The headers to send: `headers` with `x-amz-date`, `authorization` and, for a session, `x-amz-security-token`.

    `headers` have lower-case names; every one is signed but those that hops may change. `url` is absolute and as it
    will be sent, percent-encoded; `host` is taken from it where `headers` has none, and left to the HTTP client to
    send. `now` is in Unix seconds. A path segment is encoded again for the signature, as AWS does: `%3A` is `%253A`.
    """
    host, path, query = _canonical_url(url)
    timestamp = _timestamp(int(now))
    signed = {**headers, "x-amz-date": timestamp}
    signed.pop("authorization", None)
    if credentials.session_token:
        signed["x-amz-security-token"] = credentials.session_token

    canonical = {name: " ".join(value.split()) for name, value in signed.items() if name not in _UNSIGNED}
    canonical.setdefault("host", host)
    names = sorted(canonical)
    signed_names = ";".join(names)
    lines = "".join([f"{name}:{canonical[name]}\n" for name in names])
    digest = signed.get("x-amz-content-sha256") or sha256(body).hexdigest()
    request = f"{method}\n{path}\n{query}\n{lines}\n{signed_names}\n{digest}"

    scope = f"{timestamp[:8]}/{region}/{service}/aws4_request"
    to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{sha256(request.encode()).hexdigest()}"
    key = _signing_key(credentials.secret_key, timestamp[:8], region, service)
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    signed["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={signed_names}, Signature={signature}"
    )
    return signed


@lru_cache(maxsize=64)
def _signing_key(secret_key: str, day: str, region: str, service: str) -> bytes:
    """Derived once per day, Region and service: four HMACs that every other request saves."""
    key = f"AWS4{secret_key}".encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


@lru_cache(maxsize=4)
def _timestamp(second: int) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))


@lru_cache(maxsize=256)
def _canonical_url(url: str) -> tuple[str, str, str]:
    """Host header, canonical path and canonical query of `url`; the gateway calls few URLs, and those often."""
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS.get(parts.scheme):
        host = f"{host}:{parts.port}"
    pairs = sorted(pair.partition("=")[::2] for pair in parts.query.split("&")) if parts.query else []
    query = "&".join(f"{name}={value}" for name, value in pairs)
    return host, quote(_without_dots(parts.path), safe="/~"), query


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4, and empty segments dropped, as AWS normalises a path before it signs."""
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment not in ("", "."):
            kept.append(segment)
    end = "/" if kept and path.endswith("/") else ""
    return f"/{'/'.join(kept)}{end}"
