"""Both planes behind one port, as API Gateway has them: `/admin/*` is the control plane's, all else the gateway's."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from llm_gateway.bootstrap_admin import AdminApp


class BothPlanes:
    """The gateway's lifespan is the process's; the control plane's connections end with it."""

    def __init__(self, gateway: "ASGIApp", admin: "AdminApp") -> None:
        self._gateway = gateway
        self._admin = admin

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "http" and scope["path"].startswith("/admin/"):
            await self._admin(scope, receive, send)
            return
        try:
            await self._gateway(scope, receive, send)
        finally:
            if scope["type"] == "lifespan":
                await self._admin.aclose()


def both_planes(settings: Any, credentials: Any) -> BothPlanes:
    """A laptop's: usage is read from the requests themselves, for nobody folds totals."""
    from llm_gateway.bootstrap import build_app
    from llm_gateway.bootstrap_admin import build_admin

    gateway = build_app(settings, aws_credentials=credentials, scan_usage=True)
    return BothPlanes(gateway, build_admin(settings, aws_credentials=credentials))
