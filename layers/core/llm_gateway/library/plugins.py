"""Providers that are code of the process: one method, and the pipeline treats them like any other.

The gateway's own wire is OpenAI's Chat Completions, so that is what a plugin speaks, in Python's types: routing, the
ledger, prices and telemetry need to know nothing of it.
"""

import inspect
import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Mapping
from typing import Any, Protocol, cast

import orjson

from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.domain.ports import HttpClient, HttpRequest, HttpResponse
from llm_gateway.errors import GatewayError, InvalidRequest, UpstreamError, UpstreamFailed, UpstreamMalformed
from llm_gateway.upstream.endable import EndablePieces

_SCHEME = "plugin://"
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")

Chunks = AsyncIterator[Mapping[str, Any]]


class ProviderPlugin(Protocol):
    """A provider. It may also say `needs_key = True`, and `price_as`, the price book's name for its vendor."""

    name: str
    """What callers say before the colon: lower-case letters, digits and underscores."""

    def chat(self, body: dict[str, Any], key: str | None) -> Awaitable[Mapping[str, Any]] | Chunks:
        """Answers a Chat Completions request: `async def`, or, for `stream: true`, an async iterator of chunks.

        `body["model"]` is the name after the colon. Raise a `GatewayError`, such as `errors.UpstreamRejected`, to say
        what is wrong; anything else is a 502 to the caller.
        """
        ...


def plugin_provider(plugin: ProviderPlugin) -> Provider:
    """The plugin as the catalog knows it.

    Raises `TypeError` for what is no plugin, `ValueError` for a name that cannot be, or is taken by a vendor.
    """
    _check_plugin(plugin)
    name = canonical(plugin.name)
    if not _NAME.match(name):
        raise ValueError(f"{plugin.name!r} is not a provider's name: lower-case letters, digits and underscores")
    if name in provider_rows():
        raise ValueError(f"{name!r} is a vendor that the gateway knows: give the plugin a name of its own")
    return Provider(
        name=name,
        dialect="openai_chat",
        base_url=_SCHEME + name,
        credential="bearer" if getattr(plugin, "needs_key", False) else "none",
        quirks=Quirks(stream_usage="always"),
        display_name=name,
        price_as=getattr(plugin, "price_as", None),
    )


def is_plugin(provider: Provider) -> bool:
    return provider.base_url is not None and provider.base_url.startswith(_SCHEME)


def _check_plugin(plugin: object) -> None:
    if isinstance(plugin, type):
        raise TypeError(f"a provider is an object: register_provider({plugin.__name__}()), not the class")
    if not isinstance(getattr(plugin, "name", None), str):
        raise TypeError(f"a provider needs a `name`, a string; {type(plugin).__name__} has none")
    if not callable(getattr(plugin, "chat", None)):
        raise TypeError(f"a provider needs a method `chat(body, key)`; {type(plugin).__name__} has none")


class PluginClient:
    """`ports.HttpClient` that hands a plugin's requests to it, and all others on."""

    def __init__(self, http: HttpClient) -> None:
        self._http = http
        self._plugins: dict[str, ProviderPlugin] = {}

    def add(self, plugin: ProviderPlugin) -> None:
        """Raises `ValueError` for a second one of a name: which of them would a call mean?"""
        name = canonical(plugin.name)
        if name in self._plugins:
            raise ValueError(f"there is a provider {name!r} of this process already")
        self._plugins[name] = plugin

    async def send(self, request: HttpRequest) -> HttpResponse:
        if not request.url.startswith(_SCHEME):
            return await self._http.send(request)
        name, _, path = request.url.removeprefix(_SCHEME).partition("/")
        if path != "chat/completions":
            raise InvalidRequest(f"Provider `{name}` makes chat completions only.", param="model")
        key = request.headers.get("authorization", "").removeprefix("Bearer ") or None
        if request.on_sent is not None:
            request.on_sent()
        return await _ask(self._plugins[name], orjson.loads(request.body), key)

    async def close(self) -> None:
        await self._http.close()


class _PluginResponse:
    """A plugin's answer as `ports.HttpResponse`."""

    status = 200

    def __init__(self, content_type: str, pieces: AsyncGenerator[bytes, None]) -> None:
        self.headers = {"content-type": content_type}
        self._pieces = EndablePieces(pieces)

    def chunks(self) -> AsyncIterator[bytes]:
        return self._pieces

    async def read(self, limit: int) -> bytes:  # noqa: ARG002 - it is in this process's memory already
        return b"".join([piece async for piece in self._pieces])

    def end(self, error: UpstreamError) -> None:
        self._pieces.end(error)

    async def close(self) -> None:
        await self._pieces.close()


async def _ask(plugin: ProviderPlugin, body: dict[str, Any], key: str | None) -> _PluginResponse:
    streamed = bool(body.get("stream"))
    try:
        answer: Any = plugin.chat(body, key)
        if inspect.isawaitable(answer):
            answer = await answer
    except Exception as error:
        raise _failure(plugin, error) from error
    if streamed and hasattr(answer, "__aiter__"):
        return _PluginResponse("text/event-stream", _events(plugin, cast("Chunks", answer)))
    if not streamed and isinstance(answer, Mapping):
        return _PluginResponse("application/json", _whole(_json(plugin, answer)))
    wanted = "an async iterator of chunks" if streamed else "a mapping"
    raise UpstreamMalformed(f"Provider `{plugin.name}` gave {type(answer).__name__} where {wanted} was due.")


async def _whole(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


async def _events(plugin: ProviderPlugin, chunks: Chunks) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield b"data: " + _json(plugin, chunk) + b"\n\n"
    except Exception as error:
        raise _failure(plugin, error) from error
    finally:
        if (close := getattr(chunks, "aclose", None)) is not None:
            await close()
    yield b"data: [DONE]\n\n"


def _json(plugin: ProviderPlugin, answer: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(answer)
    except TypeError as error:
        raise UpstreamMalformed(f"What provider `{plugin.name}` gave is no JSON: {error}.") from None


def _failure(plugin: ProviderPlugin, error: Exception) -> GatewayError:
    if isinstance(error, GatewayError):
        return error
    return UpstreamFailed(f"Provider `{plugin.name}` failed: {type(error).__name__}.")
