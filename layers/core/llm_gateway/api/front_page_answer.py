"""`GET /`: a page for people, JSON for programs. No key is needed, and nothing is told that needs one.

The page loads nothing from anywhere, and its Content-Security-Policy names the one style and the one script in it by
their hashes: https://developer.mozilla.org/en-US/docs/Web/HTTP/Reference/Headers/Content-Security-Policy
"""

import base64
import functools
import hashlib
import html
import re
import string
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Scope

from llm_gateway.api.headers import CallerHeaders

_HOST: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?")
_BASE: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)*")
_DOCS: Final = '<li><a href="$docs_url">The API</a>: every route, as OpenAPI</li>'
_NO_DOCS: Final = "<li>The API is OpenAI&rsquo;s; what is added stands in the project: <code>docs/api.md</code></li>"


def answer_to(scope: Scope, docs: str | None) -> Response:
    """`docs` is the path of the OpenAPI page, where there is one."""
    root = root_of(scope)
    # What it says depends on the Host header: no cache may keep it for others.
    headers = {"cache-control": "no-store", "vary": "Accept", "x-content-type-options": "nosniff"}
    if not prefers_html(CallerHeaders(scope["headers"]).get(b"accept") or ""):
        return Response(orjson.dumps(_described(root, docs)), headers=headers, media_type="application/json")
    headers |= {"content-security-policy": _page()[1], "referrer-policy": "no-referrer"}
    return Response(_rendered(root, docs), headers=headers, media_type="text/html")


def root_of(scope: Scope) -> str:
    """The gateway's own address as its caller sees it, without a slash at its end: `https://llm.corp.example/prod`.

    A host or a base path that could be none is left out: what a caller sends must not become part of a page.
    """
    host = CallerHeaders(scope["headers"]).get(b"host") or ""
    base = _base_of(scope)
    if not _HOST.fullmatch(host):
        return base
    return f"{scope['scheme']}://{host}{base}"


def prefers_html(accept: str) -> bool:
    """Whether an Accept header wants `text/html` more than JSON: only who names it does (RFC 9110, 12.5.1)."""
    weights: dict[str, float] = {}
    for each in accept.lower().split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        given = next((part[2:] for part in parameters if part.startswith("q=")), "1")
        weights[kind] = float(given) if re.fullmatch(r"[01](\.[0-9]{0,3})?", given) else 0.0
    html_weight = weights.get("text/html", weights.get("application/xhtml+xml", 0.0))
    return html_weight > 0 and html_weight >= weights.get("application/json", 0.0)


def _base_of(scope: Scope) -> str:
    """A stage or a domain's mapping, which API Gateway's event has in the whole path of a request for `/`.

    https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html
    """
    context: Mapping[str, Any] = (scope.get("aws.event") or {}).get("requestContext") or {}
    path = context.get("path") or (context.get("http") or {}).get("path") or scope.get("root_path") or ""
    base = str(path).rstrip("/")
    return base if _BASE.fullmatch(base) else ""


def _described(root: str, docs: str | None) -> dict[str, Any]:
    return {
        "name": "llm-gateway",
        "description": "An OpenAI-compatible gateway to any language model.",
        "base_url": f"{root}/v1",
        "links": {
            "models": f"{root}/v1/models",
            "chat_completions": f"{root}/v1/chat/completions",
            "chat": f"{root}/api/chat",
            "status": f"{root}/health/ready",
            "providers_status": f"{root}/providers/status",
            "docs": None if docs is None else root + docs,
        },
    }


@functools.cache
def _page() -> tuple[string.Template, str]:
    """The page, read when it is first asked for, and its policy. Nothing is filled into its style or its script."""
    text = Path(__file__).with_name("front_page.html").read_text("utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(text, 'style')}; script-src {_hash(text, 'script')}; img-src data:;"
        " base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return string.Template(text), policy


def _hash(page: str, element: str) -> str:
    content = page.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _rendered(root: str, docs: str | None) -> str:
    shown = html.escape(root)
    told = _NO_DOCS if docs is None else string.Template(_DOCS).substitute(docs_url=shown + docs)
    return _page()[0].substitute(root=shown, base_url=f"{shown}/v1", docs=told)
