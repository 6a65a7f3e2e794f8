"""The gateway as one call: a request with its context goes in, an answer with its cost comes out.

    client = LLMGatewayClient(ConfigLoader("gateway.toml").load(), provider_factory=ProviderFactory())
    request = LLMRequest("Hello", config=LLMConfig(model_identifier="fast"))
    response = await client.generate(request)         # or, where nothing is awaited: client.generate_sync(request)
    print(response.generated_content, response.cost_usd)

`gateway.Gateway` is below it, and has the rest: streams, embeddings, moderation, keys of a single call.
"""

import asyncio
import weakref
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Self

from llm_gateway.domain.ports import HttpClient, SecretStore
from llm_gateway.errors import GatewayError
from llm_gateway.library.client_request import LLMRequest
from llm_gateway.library.gateway import Gateway
from llm_gateway.library.plugins import ProviderPlugin, plugin_provider
from llm_gateway.library.portal import Portal

if TYPE_CHECKING:
    from llm_gateway.catalog.config import GatewayConfig
    from llm_gateway.library.client_response import LLMResponse


class ConfigLoader:
    """Reads a `gateway.toml`."""

    def __init__(self, path: str | PathLike[str]) -> None:
        self._path = Path(path)

    def load(self) -> "GatewayConfig":
        """Raises `ConfigError`, a `ValueError`, with a line for every fault of the file."""
        from llm_gateway.catalog.config import load_config  # noqa: PLC0415 - pydantic, which a file alone needs

        return load_config(self._path)


class ProviderFactory:
    """Where a client's providers come from: the vendors that the gateway knows, those of its file, and `plugins`.

    `secrets`, `environ` and `http` are those of `Gateway`. One serves any number of clients.
    """

    def __init__(
        self,
        *plugins: ProviderPlugin,
        secrets: Mapping[str, str] | SecretStore | None = None,
        environ: Mapping[str, str] | None = None,
        http: HttpClient | None = None,
    ) -> None:
        self._plugins: list[ProviderPlugin] = []
        self._secrets = secrets
        self._environ = environ
        self._http = http
        for plugin in plugins:
            self.register(plugin)

    def register(self, plugin: ProviderPlugin) -> None:
        """Makes `plugin` a provider of the clients that are made from now on.

        Raises `TypeError` for what is no plugin, `ValueError` for a name that cannot be.
        """
        plugin_provider(plugin)
        self._plugins.append(plugin)

    def open_gateway(self, config: "str | PathLike[str] | GatewayConfig | None") -> Gateway:
        """Raises `ConfigError`, and `ValueError` for two plugins of one name."""
        gateway = Gateway(config, secrets=self._secrets, environ=self._environ, http=self._http)
        for plugin in self._plugins:
            gateway.register_provider(plugin)
        return gateway


class LLMGatewayClient:
    """Generates, for any thread and any event loop: its connections, and plugins, live in a thread of their own.

    `config` is what `ConfigLoader` loads, or the file's path, or None for the vendors alone. Calls are for the team of
    their context, or else for `team_id`. With `raise_errors=False` a `GatewayError` is not raised but told as
    `error_details`. Leave it by `with`, `async with`, `close` or `aclose`; one that is forgotten closes when it is
    collected.
    """

    def __init__(
        self,
        config: "str | PathLike[str] | GatewayConfig | None" = None,
        provider_factory: ProviderFactory | None = None,
        *,
        team_id: str = "default",
        raise_errors: bool = True,
    ) -> None:
        """Opens no connection. Raises `ConfigError`, a `ValueError`, for a file that cannot be used."""
        self._gateway = (provider_factory or ProviderFactory()).open_gateway(config)
        self._team_id = team_id
        self._raise_errors = raise_errors
        self._portal = Portal()
        weakref.finalize(self, self._portal.end, self._gateway.aclose)

    async def generate(self, request: LLMRequest, *, raise_errors: bool | None = None) -> "LLMResponse":
        """Raises `GatewayError` and its kin, unless `raise_errors`, here or, where None, the client's own, is False.

        What is no error of a call is always raised: `TypeError` for what is no request, `RuntimeError` after its end.
        """
        return await self._portal.result(self._generate(request, raise_errors))

    def generate_sync(self, request: LLMRequest, *, raise_errors: bool | None = None) -> "LLMResponse":
        """As `generate`, for a thread that has nothing else to do meanwhile."""
        return self._portal.wait(self._generate(request, raise_errors))

    async def aclose(self) -> None:
        """Waits for the calls that run, and closes the connections. Further calls of it do nothing."""
        ending = self._portal.end(self._gateway.aclose)
        if ending is not None:
            await asyncio.wrap_future(ending)

    def close(self) -> None:
        """As `aclose`."""
        self._portal.close(self._gateway.aclose)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    async def _generate(self, request: LLMRequest, raise_errors: bool | None) -> "LLMResponse":
        if not isinstance(request, LLMRequest):
            raise TypeError(f"a request is an LLMRequest, not {type(request).__name__}")
        from llm_gateway.library.client_response import failed_response, read_response  # noqa: PLC0415 - import is quick

        try:
            answer = await self._gateway.chat_completion(
                request.initial_context.team_id or self._team_id,
                request.messages(),
                model=request.config.model_identifier,
                tags=request.initial_context.all_tags(),
                timeout_s=request.config.timeout_seconds,
                user=request.initial_context.user_id,
                tools=request.tools,
                **request.config.fields(),
            )
        except GatewayError as error:
            if self._raise_errors if raise_errors is None else raise_errors:
                raise
            record = await self._gateway.record(error.headers.get("x-request-id", ""))
            return failed_response(request, error, record)
        return read_response(request, answer)
