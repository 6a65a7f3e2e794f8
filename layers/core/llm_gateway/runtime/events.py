"""An event of API Gateway (REST, HTTP), a function URL or a load balancer -> an ASGI scope and the request's body.

Mangum's handlers do it; added here is what they leave to configuration, though the event says it: the part of the path
that belongs to the stage or to a custom domain's base path mapping. `HANDLERS` does the same for a buffered
`Mangum(app, lifespan="off", custom_handlers=HANDLERS)`.

Sources: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html (REST),
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html (HTTP API),
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html (function URL),
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html (load balancer)
"""

import re
from typing import Any
from urllib.parse import unquote

from mangum.handlers import ALB, APIGateway, HTTPGateway
from mangum.types import LambdaConfig, LambdaContext, LambdaEvent, LambdaHandler, Scope

_PARAMETER = re.compile(r"\{([^}+]+)\+?\}")


class UnsupportedEvent(ValueError):
    """The event is none of an HTTP front end."""


def base_path(event: LambdaEvent) -> str:
    """What stands in the event's path before the route: `/prod` (a stage), `/llm` (a domain's mapping), or nothing.

    `path` holds the mapping but not the stage in a REST event; an HTTP API's path holds the stage, unless that is
    `$default`.
    The route with its parameters filled in is the path's end, so what is left over is the base.
    """
    context = event["requestContext"]
    path = event.get("path") or (context.get("http") or {}).get("path") or "/"
    route = event.get("resource") or event.get("routeKey", "").partition(" ")[2]
    parameters = event.get("pathParameters") or {}
    if route.startswith("/") and all(name in parameters for name in _PARAMETER.findall(route)):
        tail = _PARAMETER.sub(lambda match: str(parameters[match[1]]), route)
        plain, end = unquote(path).rstrip("/"), unquote(tail).rstrip("/")
        # Base paths and stages are plain words, so what is cut is the same in the encoded path.
        if plain.endswith(end):
            return plain.removesuffix(end)
    stage = "/" + context.get("stage", "$default")
    return stage if path == stage or path.startswith(stage + "/") else ""


def _with_base_path(event: LambdaEvent, config: LambdaConfig) -> LambdaConfig:
    return {**config, "api_gateway_base_path": base_path(event)}


class RestApi(APIGateway):
    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        super().__init__(event, context, _with_base_path(event, config))

    @property
    def scope(self) -> Scope:
        return _rooted(super().scope)


class HttpApi(HTTPGateway):
    """An HTTP API's event, of either payload version, and a function URL's."""

    def __init__(self, event: LambdaEvent, context: LambdaContext, config: LambdaConfig) -> None:
        super().__init__(event, context, _with_base_path(event, config))

    @property
    def scope(self) -> Scope:
        return _rooted(super().scope)


def _rooted(scope: Scope) -> Scope:
    """A request for the base path itself leaves an empty path, which is `/` to an app."""
    if not scope["path"]:
        scope["path"] = "/"
    return scope


HANDLERS: list[type[LambdaHandler]] = [ALB, HttpApi, RestApi]

_CONFIG: LambdaConfig = {"api_gateway_base_path": "", "text_mime_types": [], "exclude_headers": []}


def request_of(event: Any, context: Any, trace_id: str) -> tuple[Scope, bytes]:
    """The scope and the body. A trace id replaces `x-amzn-trace-id`: it names this function's segment as the parent.

    Raises `UnsupportedEvent`.
    """
    if not isinstance(event, dict):
        raise UnsupportedEvent("the event is no object")
    for handler_type in HANDLERS:
        if handler_type.infer(event, context, _CONFIG):
            break
    else:
        raise UnsupportedEvent("the event is none of API Gateway, a function URL or a load balancer")
    try:
        handler = handler_type(event, context, _CONFIG)
        scope, body = handler.scope, handler.body
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnsupportedEvent(f"the event lacks what a request needs: {error!r}") from error
    headers: list[tuple[bytes, bytes]] = [(name, value) for name, value in scope["headers"]]
    if trace_id:
        headers = [header for header in headers if header[0] != b"x-amzn-trace-id"]
        headers.append((b"x-amzn-trace-id", trace_id.encode("latin-1")))
    scope["headers"] = headers
    # 2.4: `send` raises OSError when the caller is gone, so frameworks need no listener for the disconnect.
    scope["asgi"] = {"version": "3.0", "spec_version": "2.4"}
    return scope, body


def takes_multi_value_headers(event: LambdaEvent) -> bool:
    """Whether the front end reads `multiValueHeaders`: a REST API does, a function URL (payload 2.0) does not."""
    return bool(event.get("version") != "2.0")
