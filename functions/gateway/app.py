"""The buffered way in: `sam local`, HTTP APIs, load balancers.

Behind the stack's REST API, `run` beside this file starts the streaming loop instead.
"""

from mangum import Mangum

from llm_gateway.bootstrap import build_lambda_app
from llm_gateway.runtime.events import HANDLERS

# The handlers take the stage and a domain's base path off the path, as the streaming loop does.
handler = Mangum(build_lambda_app(), lifespan="off", custom_handlers=HANDLERS)  # type: ignore[arg-type] # Mangum names its own ASGI types
