"""The buffered way in: `sam local`, HTTP APIs, load balancers. Deployed behind the REST API, `run` starts the streaming loop instead."""

from llm_gateway.bootstrap import build_lambda_app
from llm_gateway.runtime.events import HANDLERS
from mangum import Mangum

# The handlers take the stage and a domain's base path off the path, as the streaming loop does.
handler = Mangum(build_lambda_app(), lifespan="off", custom_handlers=HANDLERS)
