"""What stands in for keys under `AUTH=none`: a web page in a browser on this machine must not spend them."""

from starlette.types import ASGIApp, Receive, Scope, Send

from llm_gateway.api.envelope import error_response
from llm_gateway.errors import PermissionDenied

_NAMES = ("127.0.0.1", "localhost", "[::1]")


class OnlyFromThisMachine:
    """Refuses what a browser sends for a page: a foreign Host (DNS rebinding), or any Origin but this machine's."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            origin = headers.get(b"origin", b"").decode("latin-1")
            if not _is_here(host) or (origin and not _is_here(origin.partition("://")[2])):
                refusal = PermissionDenied("With AUTH=none only programs and pages of this machine are served.")
                await error_response(refusal)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def _is_here(authority: str) -> bool:
    name, colon, port = authority.rpartition(":")
    return (name if colon and port.isdecimal() else authority) in _NAMES
