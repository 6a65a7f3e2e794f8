"""Secrets that are searched for in everything a run brings forth: answers, logs, metrics, traces, audit, ledger, exports.

Three of them: a provider's key, a caller's key, and what a caller asked. The provider is one that repeats what it was sent.
"""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import httpx
import pytest

from tests.fakes.admin_app import AdminApp
from tests.fakes.gateway_app import GatewayApp
from tests.fakes.reflecting_provider import ReflectingProvider

PROVIDER_KEY = "sk-canary-of-the-provider-7f3a9"
CALLER_KEY = "sk-canary-of-the-caller-51bd2"
CONTENT = "canary of the content 0c66e"
CONFIG = """
[teams.search]
[keys.canary]
key = "{caller}"
team = "search"
[providers.corp]
dialect = "openai_chat"
base_url = "{base_url}"
"""
MODELS = (
    "ok",
    "stream",
    "cut",
    "stream-error",
    "400",
    "401",
    "403",
    "404",
    "422",
    "429",
    "500",
    "503",
    "html-401",
    "html-502",
)


def spellings(secret: str) -> set[str]:
    """As it may stand in something that was encoded on its way."""
    raw = secret.encode()
    # Base64 of a text has three forms, by where in it the secret begins.
    encoded = [base64.b64encode(b"\0" * shift + raw)[4 * shift // 3 + 1 : -4] for shift in range(3)]
    return {secret, quote(secret), raw.hex(), repr(raw)[2:-1], *(each.decode() for each in encoded)}


def leaks(secret: str, produced: dict[str, str]) -> list[str]:
    return [name for name, text in produced.items() if any(each in text for each in spellings(secret))]


def test_a_leak_would_be_found() -> None:
    for shift in range(3):
        encoded = base64.b64encode(b"x" * shift + PROVIDER_KEY.encode() + b"tail").decode()
        assert leaks(PROVIDER_KEY, {"encoded": f"Basic {encoded}"})
    assert leaks(PROVIDER_KEY, {"a": f"…{PROVIDER_KEY}…", "b": "nothing"}) == ["a"]


@pytest.fixture(scope="module")
def provider() -> Iterator[ReflectingProvider]:
    with ReflectingProvider().serving() as provider:
        yield provider


class TraceDaemon:
    """Takes X-Ray's datagrams."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(0.2)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"
        self.said: list[str] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        while not self._ended.is_set():
            try:
                self.said.append(self._socket.recv(65_536).decode())
            except TimeoutError:
                continue

    def close(self) -> None:
        self._ended.set()
        self._thread.join(5)
        self._socket.close()


def test_the_data_plane_tells_no_secret(provider: ReflectingProvider, capfd: pytest.CaptureFixture[str]) -> None:
    daemon = TraceDaemon()
    config = CONFIG.format(caller=CALLER_KEY, base_url=provider.base_url)
    settings: dict[str, Any] = {
        "log_level": "DEBUG",
        "log_format": "json",
        "tracing": True,
        "xray_daemon": daemon.address,
        "function_name": "gateway",
        "docs": True,
    }
    app = GatewayApp(config, secrets={"corp": PROVIDER_KEY}, **settings)
    told = {f"answer to {name}": text for name, text in asked(app)}
    told |= {f"record {one.request_id}": repr(one) for one in app.ledger.records.values()}
    daemon.close()
    out, err = capfd.readouterr()
    told |= {"logs and metrics": out, "errors": err, "traces": "\n".join(daemon.said)}
    assert len([one for one in provider.seen if PROVIDER_KEY in one]) >= len(MODELS), "there was something to tell"
    assert '"request"' in out or '"request"' in err, "something was logged"
    assert daemon.said
    assert leaks(PROVIDER_KEY, told) == []
    assert leaks(CALLER_KEY, told) == []
    assert leaks(CONTENT, told) == []


def test_an_error_within_a_stream_tells_no_key(provider: ReflectingProvider) -> None:
    config = CONFIG.format(caller=CALLER_KEY, base_url=provider.base_url)
    body = {"model": "corp:stream-error", "messages": [{"role": "user", "content": "hi"}], "stream": True}
    with GatewayApp(config, secrets={"corp": PROVIDER_KEY}) as app:
        answer = whole(app, "POST", "/v1/chat/completions", app.auth, json=body)
    assert leaks(PROVIDER_KEY, {"answer": answer}) == []


def asked(app: GatewayApp) -> Iterator[tuple[str, str]]:
    """Asks in every way that may go wrong, then reads everything there is to read."""
    trace = {"x-amzn-trace-id": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"}
    caller = {"authorization": f"Bearer {CALLER_KEY}", **trace}
    with app:
        for model in MODELS:
            body = {
                "model": f"corp:{model}",
                "messages": [{"role": "user", "content": CONTENT}],
                "stream": model in ("stream", "cut", "stream-error"),
            }
            yield model, whole(app, "POST", "/v1/chat/completions", caller, json=body)
        for name, broken in (
            ("no JSON", f'{{"{CONTENT}'),
            ("no object", json.dumps([CONTENT])),
            ("no messages", json.dumps({"model": CONTENT, "messages": CONTENT})),
            ("an unknown model", json.dumps({"model": "corp:", "messages": [{"role": CONTENT}]})),
        ):
            if name != "no messages":  # a model's name is no content: it is said back
                yield name, whole(app, "POST", "/v1/chat/completions", caller, content=broken)
        yield "a wrong key", whole(app, "GET", "/v1/models", {"authorization": f"Bearer {CALLER_KEY}x"})
        for path in (
            "/v1/models",
            "/models/available",
            "/usage?group_by=key",
            "/usage/requests",
            "/health/ready",
            "/openapi.json",
        ):
            yield path, whole(app, "GET", path, caller)
        yield "usage as CSV", whole(app, "GET", "/usage?format=csv&group_by=key", app.auth)
        for request_id in list(app.ledger.records):
            app.record(request_id)
            yield f"usage of {request_id}", whole(app, "GET", f"/usage/requests/{request_id}", app.auth)


def whole(app: GatewayApp, method: str, path: str, headers: dict[str, str], **sent: Any) -> str:
    """Status, headers and body, as far as it came."""
    with httpx.stream(method, f"{app.root}{path}", headers=headers, **sent) as answer:
        parts: list[bytes] = []
        try:
            parts.extend(answer.iter_bytes())
        except httpx.RemoteProtocolError:
            parts.append(b"[cut]")
    return f"{answer.status_code} {dict(answer.headers)} {b''.join(parts).decode()}"


async def test_the_control_plane_tells_no_secret(
    provider: ReflectingProvider, capfd: pytest.CaptureFixture[str]
) -> None:
    app = AdminApp(CONFIG.format(caller=CALLER_KEY, base_url=provider.base_url), docs=True, log_level="DEBUG")
    told: dict[str, str] = {}

    async def call(method: str, path: str, body: Any = None, **more: Any) -> httpx.Response:
        answer = await app.call(method, path, body, **more)
        told[f"{len(told)} {method} {path}"] = f"{dict(answer.headers)} {answer.text}"
        return answer

    secret = {"value": PROVIDER_KEY}
    new = {"provider_id": "new", "connection_params": {"base_url": provider.base_url}, "api_key": secret}
    assert (await call("POST", "/admin/providers", new, headers={"idempotency-key": "once"})).status_code == 201
    assert (await call("POST", "/admin/providers", new, headers={"idempotency-key": "once"})).status_code == 201
    assert (await call("POST", "/admin/providers/new/test", {})).status_code == 200
    assert (await call("PUT", "/admin/providers/corp/key", secret)).status_code == 422, (
        "the provider refuses, and repeats it"
    )
    provider.lists = True
    assert (await call("PUT", "/admin/providers/corp/key", secret)).status_code == 200
    assert (await call("PUT", "/admin/teams/search/providers/corp/key", secret)).status_code == 200
    for wrong in (
        PROVIDER_KEY,
        [PROVIDER_KEY],
        {"value": [PROVIDER_KEY]},
        {"value": {"deep": PROVIDER_KEY}},
        {"value": PROVIDER_KEY + "\n\x00"},
        {"value": PROVIDER_KEY * 3000},
        {"value": json.dumps({"keys": [PROVIDER_KEY, 7]})},
        {"value": PROVIDER_KEY, "unknown": PROVIDER_KEY},
    ):
        refused = await call("PUT", "/admin/providers/corp/key", wrong)
        assert 400 <= refused.status_code < 500, wrong
    await call("PUT", "/admin/providers/corp/key", content=f'{{"value": "{PROVIDER_KEY}'.encode())
    assert (await call("PATCH", "/admin/providers/new", {"api_key": PROVIDER_KEY})).status_code == 400
    assert (await call("PATCH", "/admin/providers/new", {"description": 7, "api_key": secret})).status_code == 400
    assert (await call("PATCH", "/admin/providers/new", {"api_key": secret})).status_code < 300

    created = await app.call(
        "POST", "/admin/keys", {"name": "made", "team": "search"}, headers={"idempotency-key": "k"}
    )
    token = created.json()["key"]
    rotated = (await app.call("POST", "/admin/keys/made/rotate", {})).json()["key"]
    await call("POST", "/admin/keys", {"name": "made", "team": "search"}, headers={"idempotency-key": "k"})
    for path in (
        "/admin/providers", "/admin/providers/new", "/admin/providers/corp", "/admin/providers/corp/rotation", "/admin/keys",
        "/admin/keys/made", "/admin/keys/canary", "/admin/export", "/admin/teams/search/providers", "/admin/audit?limit=100", "/admin/revisions",
        "/admin/openapi.json",
    ):  # fmt: skip
        assert (await call("GET", path)).status_code == 200
    snapshot = await app.registry.read()
    for number in range(snapshot.revision + 1):
        await call("GET", f"/admin/revisions/{number}")
    told |= {"audit": repr(app.events), "registry": repr(dict(snapshot.entries))}
    told["logs"] = "".join(capfd.readouterr())
    await app.close()
    assert any(PROVIDER_KEY in one for one in provider.seen), "there was something to tell"
    for each in (PROVIDER_KEY, CALLER_KEY, token, rotated):
        assert leaks(each, told) == []
