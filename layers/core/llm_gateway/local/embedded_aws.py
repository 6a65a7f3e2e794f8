"""The embedded AWS: moto's DynamoDB and Secrets Manager as a process of its own, one request at a time.

Moto checks a condition and writes in two steps that threads can come between, so its threaded server breaks conditional
writes; here one worker thread answers everybody, while waitress keeps any number of client connections open beside it.

    python -m llm_gateway.local.embedded_aws --data .local

It is there for processes of this machine. Requests that a web page makes (they carry `Origin`), or that reach it under
a foreign host name (DNS rebinding), are refused, since the secrets it serves are real. Signatures are not checked.
"""

import argparse
import io
import json
import logging
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_gateway.local.embedded_address import (
    ACCESS_KEY,
    LOCK_FILE,
    REGION,
    SECRET_KEY,
    STATE_FILE,
    EmbeddedAddress,
    lock,
)

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

    from llm_gateway.local.embedded_state import EmbeddedState

SIGNED_REGION = re.compile(r"(Credential=[^/,]+/\d{8}/)[^/,]+/")
LOOPBACK_NAMES = {"127.0.0.1", "localhost", "[::1]"}
PARENT_POLL_S = 0.5


class KeptApp:
    """Moto's WSGI app with a memory. Callers must take turns: it is the server's single worker that calls it.

    `host_names` are the names it may be called by, without port; None accepts any.
    """

    def __init__(self, app: "WSGIApplication", state: "EmbeddedState", host_names: set[str] | None) -> None:
        self._app = app
        self._state = state
        self._host_names = host_names

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        if refusal := self._refusal(environ):
            start_response("403 Forbidden", [("content-type", "text/plain")])
            return [refusal.encode()]
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        status, headers, answer = self._ask(environ, body)
        target = environ.get("HTTP_X_AMZ_TARGET", "")
        if status.startswith("200"):
            self._state.keep(target, body, self.call)
        start_response(status, headers)
        return [answer]

    def call(self, target: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """One request from inside: the answer's body, or None where it is an error."""
        from werkzeug.test import EnvironBuilder

        service = "secretsmanager" if target.startswith("secretsmanager.") else "dynamodb"
        scope = f"{ACCESS_KEY}/20260101/{REGION}/{service}/aws4_request"
        request = json.dumps(body).encode()
        builder = EnvironBuilder(
            method="POST",
            data=request,
            content_type="application/x-amz-json-1.0",
            headers=[
                ("X-Amz-Target", target),
                ("Authorization", f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"),
            ],
        )
        status, _, answer = self._ask(builder.get_environ(), request)
        return dict(json.loads(answer)) if status.startswith("200") else None

    def _ask(self, environ: "WSGIEnvironment", body: bytes) -> tuple[str, list[tuple[str, str]], bytes]:
        from werkzeug.test import run_wsgi_app

        environ["wsgi.input"] = io.BytesIO(body)
        # One region, whatever the client signs for: changing AWS_REGION between two runs must not hide the data.
        environ["HTTP_AUTHORIZATION"] = SIGNED_REGION.sub(rf"\g<1>{REGION}/", environ.get("HTTP_AUTHORIZATION", ""))
        answer, status, headers = run_wsgi_app(self._app, environ, buffered=True)
        return status, list(headers.items()), b"".join(answer)

    def _refusal(self, environ: "WSGIEnvironment") -> str | None:
        if "HTTP_ORIGIN" in environ:
            return "The embedded AWS answers no web page."
        name = re.sub(r":\d+$", "", environ.get("HTTP_HOST", ""))
        if self._host_names is not None and name not in self._host_names:
            return f"The embedded AWS is not called {name!r}."
        if environ.get("PATH_INFO", "").startswith("/moto-api"):
            return "Moto's own interface is closed: it would empty what is kept."
        return None


def serve(*, data: Path, host: str, port: int, parent: int | None, outlive: bool) -> int:
    """Runs until SIGTERM, SIGINT or, unless told to outlive it, the parent's end; the exit code.

    `data` is the directory of what is kept; `parent` the process that started it, None where a person did.
    """
    data.mkdir(mode=0o700, parents=True, exist_ok=True)
    held = lock(data / LOCK_FILE)
    if held is None:
        print(f"embedded AWS: another one already serves {data}", file=sys.stderr)
        return 1
    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    if parent is not None and not outlive:
        threading.Thread(target=follow, args=(parent,), daemon=True).start()
    with held:
        return answer_requests(data=data, host=host, port=port, parent=parent, outlive=outlive)


def answer_requests(*, data: Path, host: str, port: int, parent: int | None, outlive: bool) -> int:
    from waitress.server import create_server

    try:
        listener = socket.create_server((host, port), backlog=1024)
    except OSError as error:
        print(f"embedded AWS: cannot listen on {host}:{port}: {error.strerror}", file=sys.stderr)
        return 1
    from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

    from llm_gateway.local.embedded_state import EmbeddedState, StateUnreadable

    try:
        state = EmbeddedState(data / "aws.sqlite", REGION)
        loopback = host in LOOPBACK_NAMES
        app = KeptApp(DomainDispatcherApplication(create_backend_app), state, LOOPBACK_NAMES if loopback else None)
        began = time.monotonic()
        restored = state.restore(app.call)
    except StateUnreadable as error:
        print(f"embedded AWS: {error}", file=sys.stderr)
        return 1
    # Its warnings that requests wait for their turn: that is what they are meant to do.
    logging.getLogger("waitress.queue").setLevel(logging.ERROR)
    server = create_server(app, sockets=[listener], threads=1, connection_limit=1000, channel_timeout=3600, ident=None)
    address = EmbeddedAddress(
        endpoint_url=f"http://{host}:{listener.getsockname()[1]}",
        access_key=ACCESS_KEY,
        secret_key=SECRET_KEY,
        pid=os.getpid(),
        parent=parent,
        outlive=outlive,
    )
    address.write(data / STATE_FILE)
    took = time.monotonic() - began
    print(f"embedded AWS ready: {address.endpoint_url} ({restored} items restored in {took:.1f} s)", flush=True)
    server.run()
    (data / STATE_FILE).unlink(missing_ok=True)
    state.close()
    return 0


def follow(parent: int) -> None:
    """Ends this process soon after its parent's: an orphan has another parent."""
    while os.getppid() == parent:
        time.sleep(PARENT_POLL_S)
    os.kill(os.getpid(), signal.SIGTERM)


def stop(*_: object) -> None:
    raise SystemExit(0)  # waitress ends its loop on it, after the request at hand


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="llm-gateway local-aws")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--outlive", action="store_true")
    return serve(**vars(parser.parse_args(arguments)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
