"""One real call to a provider: whether a key works, and which models there are.

Lists of models: https://platform.openai.com/docs/api-reference/models/list (`data[].id`),
https://platform.claude.com/docs/en/api/models-list (`data[].id`, `has_more`, `last_id`; `limit` up to 1000 and
`after_id`), https://ai.google.dev/api/models#method:-models.list (`models[].name` as `models/…`, `nextPageToken`;
`pageSize` up to 1000 and `pageToken`).
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlencode

import orjson

from llm_gateway.dialects.dialect import Dialect
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import HttpClient, HttpRequest
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import GatewayError, InvalidRequest, UpstreamMalformed
from llm_gateway.pipeline.key_secret import KeyText
from llm_gateway.schemas.openai_chat import read_chat_request
from llm_gateway.upstream.authorize import Authorizer, Unauthorized, authorizer_of

_LONGEST_BODY: Final = 8 << 20
_LONGEST_PAGES: Final = 20
_FIRST_BYTE_S: Final = 20.0
"""API Gateway waits 29 seconds for a buffered answer: https://docs.aws.amazon.com/apigateway/latest/developerguide/limits.html"""
_ANTHROPIC_VERSION: Final = "2023-06-01"
_QUESTION: Final = "Reply with one word: ok"


@dataclass(frozen=True, slots=True)
class Probed:
    """How a call went. `status` is None where no answer came; `error` is our error's envelope, without any key."""

    called: str
    model: str | None
    latency_ms: int
    status: int | None = None
    error: Mapping[str, Any] | None = None
    usage: Usage | None = None
    models: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.error is None


class Probe:
    """Calls providers with a given key, past everything that serves callers: nothing is cached, tried again or billed
    to anybody.
    """

    def __init__(
        self, http: HttpClient, dialects: Mapping[str, Dialect], authorizers: Mapping[str, Authorizer]
    ) -> None:
        self._http = http
        self._dialects = dialects
        self._authorizers = authorizers

    async def call(self, provider: Provider, key: KeyText | None, model: str | None) -> Probed:
        """Of a model where one is named, else of the list of models. Raises `InvalidRequest` where it has no list."""
        if provider.base_url is None:
            raise InvalidRequest(f"The provider `{provider.name}` has no base_url yet.")
        if model is None and not has_list(provider):
            raise InvalidRequest(
                f"The provider `{provider.name}` has no list of models to ask for: name a `model` to call.",
                param="model",
            )
        called = "models" if model is None else "chat.completions"
        began = time.perf_counter()
        status: list[int] = []
        try:
            if model is None:
                models, usage = await self._list(provider, key, status), None
            else:
                models, usage = (), await self._chat(provider, key, model, status)
        except GatewayError as error:
            return Probed(called, model, _since(began), _last(status), _told(error, key))
        return Probed(called, model, _since(began), _last(status), usage=usage, models=models)

    async def _list(self, provider: Provider, key: KeyText | None, status: list[int]) -> tuple[str, ...]:
        found: list[str] = []
        query: dict[str, str] = {}
        for _ in range(_LONGEST_PAGES):
            parameters = {**_first_page(provider), **query, **provider.quirks.query}
            path = "/openai/models" if provider.quirks.model_in_path else "/models"
            url = f"{provider.base_url}{path}" + (f"?{urlencode(parameters)}" if parameters else "")
            headers = {"anthropic-version": _ANTHROPIC_VERSION} if provider.dialect == "anthropic_messages" else {}
            answer = _object(await self._send(provider, key, "GET", url, headers, b"", status))
            found += _names(answer)
            query = _next_page(answer)
            if not query:
                break
        return tuple(dict.fromkeys(found))

    async def _chat(self, provider: Provider, key: KeyText | None, model: str, status: list[int]) -> Usage | None:
        dialect = self._dialects[provider.dialect]
        body = {"model": model, "messages": [{"role": "user", "content": _QUESTION}]}
        request = read_chat_request(orjson.dumps(body))
        encoded = dialect.encode("chat.completions", request, model, provider)
        url = f"{provider.base_url}{encoded.path}"
        if provider.quirks.query:
            url += ("&" if "?" in encoded.path else "?") + urlencode(provider.quirks.query)
        answer = await self._send(provider, key, "POST", url, encoded.headers, encoded.body, status)
        return dialect.decode("chat.completions", request, model, answer).usage

    async def _send(
        self,
        provider: Provider,
        key: KeyText | None,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        status: list[int],
    ) -> bytes:
        """The answer's body. Raises `UpstreamError` and its kin."""
        authorizer = authorizer_of(provider, self._authorizers)
        text = None if key is None else key.text
        given = {"accept-encoding": "identity", "user-agent": "llm-gateway", **provider.headers, **headers}
        if body:
            given["content-type"] = "application/json"
        signed = await authorizer.authorize(provider, text, Unauthorized(method, url, given, body))
        request = HttpRequest(method, url, signed, body, first_byte_s=_FIRST_BYTE_S, idle_s=_FIRST_BYTE_S)
        response = await self._http.send(request)
        status.append(response.status)
        try:
            answer = await response.read(_LONGEST_BODY)
        finally:
            await response.close()
        if 200 <= response.status < 300:
            return answer
        if text:
            answer = answer.replace(text.encode(), b"***")
        raise self._dialects[provider.dialect].decode_error(response.status, response.headers, answer)

    def needs_key(self, provider: Provider) -> bool:
        return authorizer_of(provider, self._authorizers).needs_key


def has_list(provider: Provider) -> bool:
    """Bedrock's and Vertex's lists are other services' than those that serve the models."""
    return provider.dialect != "bedrock_converse" and provider.quirks.envelope == "native"


def _first_page(provider: Provider) -> dict[str, str]:
    if provider.dialect == "anthropic_messages":
        return {"limit": "1000"}
    return {"pageSize": "1000"} if provider.dialect == "gemini_generate_content" else {}


def _next_page(answer: Mapping[str, Any]) -> dict[str, str]:
    if isinstance(token := answer.get("nextPageToken"), str) and token:
        return {"pageToken": token}
    if answer.get("has_more") is True and isinstance(last := answer.get("last_id"), str) and last:
        return {"after_id": last}
    return {}


def _object(body: bytes) -> Mapping[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        answer = None
    if isinstance(answer, list):  # Together's list is bare
        return {"data": answer}
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider's list of models is not JSON.")
    return answer


def _names(answer: Mapping[str, Any]) -> list[str]:
    listed = answer.get("data", answer.get("models"))
    if not isinstance(listed, list):
        raise UpstreamMalformed("The provider's list of models has no `data`.")
    names = (each.get("id", each.get("name")) for each in listed if isinstance(each, dict))
    return [name.removeprefix("models/") for name in names if isinstance(name, str) and name]


def _told(error: GatewayError, key: KeyText | None) -> dict[str, Any]:
    envelope: dict[str, Any] = error.envelope()["error"]
    if key is not None:
        # A provider may quote the key that it refuses, in its message.
        envelope["message"] = str(envelope["message"]).replace(key.text, "***")
    return envelope


def _last(status: list[int]) -> int | None:
    return status[-1] if status else None


def _since(began: float) -> int:
    return max(0, round((time.perf_counter() - began) * 1000))
