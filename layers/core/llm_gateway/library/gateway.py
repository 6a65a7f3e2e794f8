"""The gateway as a library: the pipeline of the HTTP API, driven from this process.

    async with Gateway() as gateway:
        answer = await gateway.chat_completion("search", messages, provider="openai", model="gpt-4.1-mini")

Same dialects, routing, prices and ledger as over HTTP. Without further ado the ledger is in memory, nothing needs AWS,
and keys come from the variables that each vendor is known by.
"""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from llm_gateway.adapters.memory import MemoryLedger, MemoryRegistry
from llm_gateway.adapters.memory_scopes import MemoryScopes
from llm_gateway.domain.ports import HttpClient, Ledger, Registry, Scopes, SecretStore
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import CredentialsMissing, GatewayError
from llm_gateway.library.calls import Calls, Wish
from llm_gateway.library.lifetime import Lifetime
from llm_gateway.library.parts import LazyOAuth, Providers, open_accounts, open_keys, read_file
from llm_gateway.library.plugins import PluginClient, ProviderPlugin, plugin_provider
from llm_gateway.library.running import RunningCall
from llm_gateway.library.settled import SettledCalls
from llm_gateway.observability.telemetry import Handler, Telemetry
from llm_gateway.pipeline.call import Answer
from llm_gateway.schemas.json_text import parse_json
from llm_gateway.upstream.authorize import KEY_AUTHORIZERS, Authorizer, SignedByRole
from llm_gateway.upstream.client import open_client
from llm_gateway.upstream.credentials import NoCredentials, RoleCredentials

if TYPE_CHECKING:
    from llm_gateway.catalog.config import GatewayConfig
    from llm_gateway.library.answers import Answered, ChatCompletion, Embeddings, Moderation
    from llm_gateway.library.stream import ChatStream
    from llm_gateway.library.usage import GatewayUsage

_Answer = TypeVar("_Answer", bound="Answered")
Messages = Sequence[Mapping[str, Any]]


class Gateway:
    """Calls models for teams. One serves any number of calls of one event loop; leave it with `async with` or `aclose`.

    In another loop, and once it is closed, its calls raise `RuntimeError`.

    - `config`: the path of a `gateway.toml`, or one that `load_config` has read, for aliases, providers, prices.
      `registry` is another source of the same.
    - `secrets`: provider keys by their name under the stack (`{"provider/openai": "sk-…"}`, `team/search/openai`), or
      a `SecretStore`. A team's own key comes first, then the system's, then the environment's.
    - `environ`: where keys (OPENAI_API_KEY) and addresses (OPENAI_BASE_URL) are looked up; `os.environ` by default.
    - `ledger`: where the records go; in memory by default, and there forgotten with the gateway.
    - `scopes`: where limits and budgets are counted; likewise.
    """

    def __init__(
        self,
        config: "str | PathLike[str] | GatewayConfig | None" = None,
        *,
        secrets: Mapping[str, str] | SecretStore | None = None,
        environ: Mapping[str, str] | None = None,
        registry: Registry | None = None,
        ledger: Ledger | None = None,
        scopes: Scopes | None = None,
        http: HttpClient | None = None,
        stack: str = "llm-gateway",
    ) -> None:
        """Opens no connection. Raises `ConfigError`, a `ValueError`, for a file that cannot be used."""
        if config is not None and registry is not None:
            raise ValueError("config and registry are two sources of the same: give one")
        environ = os.environ if environ is None else environ
        self.ledger: Ledger = MemoryLedger() if ledger is None else ledger
        self._http = PluginClient(http or open_client())
        region = environ.get("AWS_REGION") or "us-east-1"
        file = None
        if config is not None:
            registry, file = read_file(config)
        self._providers = Providers(registry or MemoryRegistry(), environ)
        self._telemetry = Telemetry()
        self._lifetime = Lifetime()
        self._settled = SettledCalls()
        self._open: set[RunningCall] = set()
        self._leaving: set[asyncio.Future[None]] = set()
        role = RoleCredentials(environ, self._http)
        authorizers: dict[str, Authorizer] = {
            **KEY_AUTHORIZERS,
            "sigv4": SignedByRole(role, region),
            "oauth": LazyOAuth(self._http, role, region),
        }
        keys = open_keys(secrets or {}, stack, environ, file)
        accounts, admission = open_accounts(self.ledger, MemoryScopes() if scopes is None else scopes)
        self._calls = Calls(
            self._http,
            self._providers,
            keys,
            authorizers,
            accounts,
            admission,
            self._telemetry,
            self._settled.add,
            environ,
            region,
        )

    async def __aenter__(self) -> Self:
        self._lifetime.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Settles streams that were left open, hears the telemetry out, and closes connections."""
        self._lifetime.end()
        await asyncio.gather(*self._leaving, *(call.abandon() for call in tuple(self._open)))
        self._open.clear()
        await self._telemetry.close()
        await self._http.close()

    def attach(self, handler: Handler) -> Callable[[], None]:
        """`handler` gets every call's events (`observability.telemetry`); what is returned detaches it.

        Raises `TypeError` for what cannot be called.
        """
        return self._telemetry.attach(handler)

    def register_provider(self, plugin: ProviderPlugin) -> None:
        """Makes `plugin` a provider like any other, in this process.

        Raises `TypeError` for what is no plugin, `ValueError` for a name that cannot be, or is taken.
        """
        provider = plugin_provider(plugin)
        self._http.add(plugin)
        self._providers.register(provider)

    @property
    def usage(self) -> "GatewayUsage":
        """What the calls of this gateway came to: `all()`, `by_date()`, `by_provider()`."""
        from llm_gateway.library.usage import GatewayUsage  # noqa: PLC0415 - importing the library stays quick

        return GatewayUsage(self._settled)

    async def record(self, request_id: str) -> RequestRecord | None:
        """The ledger's entry of an answer's `request_id`."""
        return await self.ledger.get(request_id)

    @overload
    async def chat_completion(
        self,
        team_id: str,
        messages: Messages,
        *,
        model: str | None = ...,
        provider: str | None = ...,
        stream: Literal[False] = ...,
        credentials: Mapping[str, Any] | None = ...,
        config: Mapping[str, Any] | None = ...,
        tags: Mapping[str, str] | None = ...,
        timeout_s: float | None = ...,
        **parameters: Any,
    ) -> "ChatCompletion": ...

    @overload
    async def chat_completion(
        self,
        team_id: str,
        messages: Messages,
        *,
        model: str | None = ...,
        provider: str | None = ...,
        stream: Literal[True],
        credentials: Mapping[str, Any] | None = ...,
        config: Mapping[str, Any] | None = ...,
        tags: Mapping[str, str] | None = ...,
        timeout_s: float | None = ...,
        **parameters: Any,
    ) -> "ChatStream": ...

    async def chat_completion(
        self,
        team_id: str,
        messages: Messages,
        *,
        model: str | None = None,
        provider: str | None = None,
        stream: bool = False,
        credentials: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        timeout_s: float | None = None,
        **parameters: Any,
    ) -> "ChatCompletion | ChatStream":
        """An answer, or with `stream` an async iterator of chunks once the first content has come.

        `model` is what a caller over HTTP would say, or with `provider` that provider's own name of it. `credentials`
        and `config` (base_url, api_version, region, headers, quirks, timeouts) need a `provider` and count for this
        call alone. Within `timeout_s` seconds the answer is whole, or the call ends as one over HTTP with an
        `x-gateway-timeout`. `parameters` are OpenAI's; those that are None are left out. Raises `GatewayError` and its
        kin; of one that has an entry in the ledger, `headers["x-request-id"]` is the entry's id.
        """
        fields = {"messages": messages, **parameters, **({"stream": True} if stream else {})}
        from llm_gateway.library.answers import read_completion  # noqa: PLC0415 - importing the library stays quick

        wish = Wish("chat.completions", team_id, fields, model, provider, credentials, config, tags, stream, timeout_s)
        call = await self._made(wish)
        if not stream:
            return await self._whole(call, read_completion)
        from llm_gateway.library.stream import ChatStream  # noqa: PLC0415 - as above

        answer = await self._answered(call)
        assert answer.stream is not None
        self._open.add(call)
        return ChatStream(call, answer.stream, over=self._open.discard, dropped=self._drop)

    async def embeddings(
        self,
        team_id: str,
        input: str | Sequence[Any],  # noqa: A002 - OpenAI's own name
        *,
        model: str | None = None,
        provider: str | None = None,
        credentials: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> "Embeddings":
        """Vectors, one an input. As `chat_completion` otherwise."""
        from llm_gateway.library.answers import read_embeddings  # noqa: PLC0415 - as above

        fields = {"input": input, **parameters}
        call = await self._made(Wish("embeddings", team_id, fields, model, provider, credentials, config, tags))
        return await self._whole(call, read_embeddings)

    async def moderation(
        self,
        team_id: str,
        input: str | Sequence[Any],  # noqa: A002 - OpenAI's own name
        *,
        model: str | None = None,
        provider: str | None = None,
        credentials: Mapping[str, Any] | None = None,
        config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        **parameters: Any,
    ) -> "Moderation":
        """Verdicts, one an input. `model` may be left out. As `chat_completion` otherwise."""
        from llm_gateway.library.answers import read_moderation  # noqa: PLC0415 - as above

        fields = {"input": input, **parameters}
        call = await self._made(Wish("moderations", team_id, fields, model, provider, credentials, config, tags))
        return await self._whole(call, read_moderation)

    async def _made(self, wish: Wish) -> RunningCall:
        self._lifetime.enter()
        return await self._calls.make(wish)

    def _drop(self, call: RunningCall) -> None:
        """A stream was collected in its midst."""
        self._open.discard(call)
        task = asyncio.ensure_future(call.abandon())
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _whole(self, call: RunningCall, read: Callable[[Mapping[str, Any], RequestRecord], _Answer]) -> _Answer:
        answer = await self._answered(call)
        await call.end()
        return read(parse_json(answer.body), call.record)

    async def _answered(self, call: RunningCall) -> Answer:
        try:
            return await call.answer()
        except NoCredentials as error:
            raise CredentialsMissing(error.message, param="credentials") from error
        except GatewayError as error:
            error.headers["x-request-id"] = call.request_id
            raise
