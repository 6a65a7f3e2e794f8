"""The control plane, `/admin/*`: short answers, buffered. See docs/admin.md."""

from mangum import Mangum

from llm_gateway.bootstrap_admin import build_lambda_admin
from llm_gateway.runtime.events import HANDLERS

# The handlers take the stage and a domain's base path off the path, as the gateway's do.
handler = Mangum(build_lambda_admin(), lifespan="off", custom_handlers=HANDLERS)  # type: ignore[arg-type] # Mangum names its own ASGI types
