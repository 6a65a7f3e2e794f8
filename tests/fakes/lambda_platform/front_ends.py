"""What each front end makes of a caller's request: events of API Gateway (REST, HTTP), function URLs, load balancers.

Shapes: https://docs.aws.amazon.com/apigateway/latest/developerguide/set-up-lambda-proxy-integrations.html,
https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html,
https://docs.aws.amazon.com/lambda/latest/dg/urls-invocation.html,
https://docs.aws.amazon.com/elasticloadbalancing/latest/application/lambda-functions.html
"""

import base64
import time
import uuid
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit


@dataclass(frozen=True)
class CallerRequest:
    """`target` is the path and query as the front end's own routing sees them: without the stage, with a base path."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    body: bytes
    stage: str = "prod"
    base_path: str = ""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> str:
        return urlsplit(self.target).query

    @property
    def proxy(self) -> str:
        """What `{proxy+}` matches; empty for the root resource."""
        return unquote(self.path.removeprefix(self.base_path)).strip("/")

    def payload(self) -> dict[str, Any]:
        if not self.body:
            return {"body": None, "isBase64Encoded": False}
        try:
            return {"body": self.body.decode("utf-8"), "isBase64Encoded": False}
        except UnicodeDecodeError:
            return {"body": base64.b64encode(self.body).decode("ascii"), "isBase64Encoded": True}


def rest(request: CallerRequest) -> dict[str, Any]:
    """REST API, proxy integration. `path` has no stage; under a custom domain it has the base path."""
    headers: dict[str, list[str]] = {}
    for name, value in request.headers:
        headers.setdefault("-".join(part.capitalize() for part in name.split("-")), []).append(value)
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(request.query, keep_blank_values=True):
        query.setdefault(name, []).append(value)
    proxy = request.proxy
    return {
        "resource": "/{proxy+}" if proxy else "/",
        "path": request.path,
        "httpMethod": request.method,
        "headers": {name: values[-1] for name, values in headers.items()},
        "multiValueHeaders": headers,
        "queryStringParameters": {name: values[-1] for name, values in query.items()} or None,
        "multiValueQueryStringParameters": query or None,
        "pathParameters": {"proxy": proxy} if proxy else None,
        "stageVariables": None,
        "requestContext": {
            "resourceId": "a1b2c3",
            "resourcePath": "/{proxy+}" if proxy else "/",
            "httpMethod": request.method,
            "extendedRequestId": "Eq1T0HfZoAMFxyz=",
            "path": request.path if request.base_path else f"/{request.stage}{request.path}",
            "accountId": "123456789012",
            "protocol": "HTTP/1.1",
            "stage": request.stage,
            "requestTimeEpoch": int(time.time() * 1000),
            "requestId": str(uuid.uuid4()),
            "identity": {"sourceIp": "203.0.113.7", "userAgent": "test"},
            "domainName": "abcdef1234.execute-api.us-east-1.amazonaws.com",
            "apiId": "abcdef1234",
        },
        **request.payload(),
    }


def http_api(request: CallerRequest) -> dict[str, Any]:
    """HTTP API, payload 2.0. The path has the stage; headers of one name are joined; cookies stand apart."""
    path = f"/{request.stage}{request.path}"
    return _payload_2(request, path, route_key="ANY /{proxy+}", stage=request.stage)


def function_url(request: CallerRequest) -> dict[str, Any]:
    return _payload_2(request, request.path, route_key="$default", stage="$default")


def _payload_2(request: CallerRequest, path: str, *, route_key: str, stage: str) -> dict[str, Any]:
    headers: dict[str, str] = {}
    cookies = []
    for name, value in request.headers:
        if name == "cookie":
            cookies += value.split("; ")
        else:
            headers[name] = f"{headers[name]},{value}" if name in headers else value
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": route_key,
        "rawPath": unquote(path),
        "rawQueryString": request.query,
        "headers": headers,
        "requestContext": {
            "accountId": "123456789012",
            "apiId": "abcdef1234",
            "domainName": "abcdef1234.execute-api.us-east-1.amazonaws.com",
            "domainPrefix": "abcdef1234",
            "http": {
                "method": request.method,
                "path": unquote(path),
                "protocol": "HTTP/1.1",
                "sourceIp": "203.0.113.7",
                "userAgent": "test",
            },
            "requestId": "JKJaXmPLvHcESHA=",
            "routeKey": route_key,
            "stage": stage,
            "timeEpoch": int(time.time() * 1000),
        },
        **request.payload(),
    }
    if "{proxy+}" in route_key:
        event["pathParameters"] = {"proxy": request.proxy}
    if cookies:
        event["cookies"] = cookies
    return event


def alb(request: CallerRequest) -> dict[str, Any]:
    return {
        "requestContext": {
            "elb": {
                "targetGroupArn": "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/gateway/49e9d65c45c6"
            }
        },
        "httpMethod": request.method,
        "path": request.path,
        "queryStringParameters": dict(parse_qsl(request.query)),
        "headers": dict(request.headers),
        **request.payload(),
    }


FRONT_ENDS = {"rest": rest, "http_api": http_api, "function_url": function_url, "alb": alb}
