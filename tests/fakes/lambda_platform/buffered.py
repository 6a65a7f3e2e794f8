"""The same test app behind Mangum: `tests.fakes.lambda_platform.buffered.handler`, for buffered hosts."""

from mangum import Mangum

from llm_gateway.runtime.events import HANDLERS
from tests.fakes.lambda_platform.apps import build

handler = Mangum(build(), lifespan="off", custom_handlers=HANDLERS)
