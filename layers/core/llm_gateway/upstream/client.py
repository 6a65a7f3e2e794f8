"""The one way out: an `HttpClient` that chooses its transport by the URL's scheme.

`http` and `https` go over the network, `echo` to the built-in provider in this process. Nothing else in the gateway
opens a connection to a provider.
"""

import ssl
from typing import TYPE_CHECKING

from llm_gateway.domain.ports import HttpClient, HttpRequest, HttpResponse
from llm_gateway.upstream.network import MAX_CONNECTIONS, NetworkClient

if TYPE_CHECKING:
    from llm_gateway.upstream.echo import EchoClient


class UpstreamClient:
    """Implements `domain.ports.HttpClient`. May be used again after `close`, with fresh connections."""

    def __init__(self, network: NetworkClient) -> None:
        self._network = network
        self._echo: EchoClient | None = None

    def prepare(self) -> None:
        """Does at start-up what the first request would wait for: the trusted roots are loaded."""
        self._network.prepare()

    async def send(self, request: HttpRequest) -> HttpResponse:
        """See `domain.ports.HttpClient.send`; also `UpstreamMalformed` where the peer does not speak HTTP."""
        if request.url.startswith("echo:"):
            return await self._open_echo().send(request)
        return await self._network.send(request)

    async def close(self) -> None:
        await self._network.close()

    def _open_echo(self) -> "EchoClient":
        if self._echo is None:
            from llm_gateway.upstream.echo import EchoClient  # noqa: PLC0415 - most processes never need it

            self._echo = EchoClient()
        return self._echo


def open_client(*, tls: ssl.SSLContext | None = None, max_connections: int = MAX_CONNECTIONS) -> UpstreamClient:
    """A client without open connections. `tls` replaces the system's trusted roots; it opens nothing, reads nothing."""
    return UpstreamClient(NetworkClient(tls=tls, max_connections=max_connections))


def _is_a_client(client: UpstreamClient) -> HttpClient:
    """For the type checker: the port is implemented exactly."""
    return client
