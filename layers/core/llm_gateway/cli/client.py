"""The gateway's two planes over HTTP, and the one place where their errors become a command's."""

import json as jsonlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from llm_gateway.cli.failures import BadInput, Failure, Misasked, NotAllowed, Refused, Unreachable
from llm_gateway.cli.target import KEY, Target

CONNECT_S: Final = 5.0
ANSWER_S: Final = 120.0
_LOOPBACK: Final = ("127.0.0.1", "localhost", "::1")


class Gateway:
    """A context manager. `transport` is for tests.

    Every method raises `Unreachable` (nobody there, or no gateway), `NotAllowed` (401, 403) or `Refused` (the rest).
    """

    def __init__(self, target: Target, transport: httpx.BaseTransport | None = None) -> None:
        self._target = target
        base = urlsplit(target.root).path
        self._asking = (f"{base}/admin", f"{base}/usage")  # what is refused there is the command's own input
        headers = {"user-agent": "llm-gateway-cli"}
        if target.key is not None:
            headers["authorization"] = f"Bearer {target.key}"
        self._http = httpx.Client(
            base_url=target.root,
            headers=headers,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            transport=transport,
            trust_env=urlsplit(target.root).hostname not in _LOOPBACK,  # a proxy has no way to this machine's loopback
        )

    @property
    def target(self) -> Target:
        return self._target

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **params: str | int | None) -> Any:
        return self.call("GET", path, params=params)[0]

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, json=body)[0]

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[Any, httpx.Headers]:
        """The answer's JSON (None for a 204) and headers. Parameters that are None are left out."""
        with self.stream(method, path, params=params, json=json, headers=headers) as response:
            raw = self._read(response)
            if response.status_code == 204:
                return None, response.headers
            return self._json(raw, response), response.headers

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int | None] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[httpx.Response]:
        """The answer as it comes; one that is no success is raised. `response.iter_lines()` gives an SSE stream's."""
        given = {name: value for name, value in (params or {}).items() if value is not None}
        try:
            with self._http.stream(method, path, params=given, json=json, headers=headers) as response:
                if not response.is_success:
                    raise self._failure(response, self._read(response))
                yield response
        except httpx.ConnectError as error:
            raise Unreachable(f"cannot reach {self._target.told} at {self._target.root}: {_why(error)}") from None
        except httpx.TimeoutException:
            raise Unreachable(f"{self._target.told} did not answer in time ({self._target.root})") from None
        except httpx.TransportError as error:
            raise Unreachable(f"the connection to {self._target.root} broke: {_why(error)}") from None

    def pages(self, path: str, **params: str | int | None) -> Iterator[dict[str, Any]]:
        """Every item of a list, over all its pages."""
        following: str | None = None
        while True:
            page = self.get(path, **params, next=following)
            yield from page["data"]
            following = page.get("next")
            if following is None:
                return

    @staticmethod
    def _read(response: httpx.Response) -> bytes:
        return response.read()

    def _json(self, raw: bytes, response: httpx.Response) -> Any:
        try:
            found = jsonlib.loads(raw)
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self._no_gateway(response)
        return found

    def _failure(self, response: httpx.Response, raw: bytes) -> Failure:
        """The envelope's message. Whoever answers otherwise is no gateway (API Gateway says `{"message": …}`)."""
        try:
            error = jsonlib.loads(raw)["error"]
            message, code, param = str(error["message"]), error.get("code"), error.get("param")
        except (ValueError, KeyError, TypeError, AttributeError):
            return self._no_gateway(response)
        status = response.status_code
        if status == 401 and self._target.key is None:
            message = f"{self._target.told} wants a key: give it with --key, or in {KEY}"
        if status in (401, 403):
            return NotAllowed(message, status, code, param)
        if status in (400, 422) and urlsplit(str(response.url)).path.startswith(self._asking):
            return Misasked(message, status, code, param)
        return Refused(message, status, code, param)

    def _no_gateway(self, response: httpx.Response) -> Failure:
        status = response.status_code
        if status >= 500:
            return Refused(f"{self._target.told} failed: it answered {status} without a word of why", status)
        return Unreachable(
            f"{self._target.root} is not the address of a gateway: it answered {status}"
            f" ({response.headers.get('content-type', 'no content type').split(';')[0]}) for {response.url.path}"
        )


def segment(name: str) -> str:
    """A name as part of a path: `openai:gpt-4.1/a b` loses nothing. Raises `BadInput`."""
    if not name.strip():
        raise BadInput("a name is empty")
    return quote(name, safe=":")


def _why(error: httpx.HTTPError) -> str:
    return str(error) or type(error).__name__
