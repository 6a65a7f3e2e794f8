"""Specifies how events become requests and answers become preludes: example events, paths under stages and base paths,
headers, the limits of the prelude; and that Mangum, buffered, sees the same request."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mangum import Mangum

from llm_gateway.runtime.config import DEFAULT_APP, RuntimeConfig
from llm_gateway.runtime.cycle import Deadline
from llm_gateway.runtime.events import HANDLERS, UnsupportedEvent, base_path, request_of, takes_multi_value_headers
from llm_gateway.runtime.loop import LambdaContext
from llm_gateway.runtime.prelude import DELIMITER, PreludeTooLarge, encode_prelude
from tests.fakes.lambda_platform.front_ends import FRONT_ENDS, CallerRequest

EVENTS = Path(__file__).parents[2] / "events"
CHAT = ("POST", "/v1/chat/completions", b"Bearer sk-local", "echo:demo")
EXAMPLES = {
    "rest_chat": (*CHAT, False),
    "rest_chat_stream": (*CHAT, True),
    "http_api_chat": (*CHAT, False),
    "alb_chat": (*CHAT, False),
    "rest_health": ("GET", "/health", None, None, False),
}
CONTEXT: Any = LambdaContext("id", "arn", 0, "gateway", "1", 512, "", "")


def example(name: str) -> Any:
    return json.loads((EVENTS / f"{name}.json").read_text())


def test_every_example_event_is_described_here() -> None:
    """The rollup's are those of `tests/integration/test_rollup_function.py`."""
    names = {path.stem for path in EVENTS.glob("*.json")}
    assert {name for name in names if not name.startswith(("rollup_", "admin_"))} == set(EXAMPLES)


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_example_events(name: str) -> None:
    method, path, authorization, model, streamed = EXAMPLES[name]
    scope, body = request_of(example(name), CONTEXT, "Root=1-a;Parent=b;Sampled=1")
    headers = dict(scope["headers"])
    assert (scope["type"], scope["method"], scope["path"], scope["root_path"]) == ("http", method, path, "")
    assert headers.get(b"authorization") == authorization
    assert headers[b"x-amzn-trace-id"] == b"Root=1-a;Parent=b;Sampled=1"
    assert [header for header, _ in scope["headers"]].count(b"x-amzn-trace-id") == 1
    assert scope["scheme"] == "https"
    assert scope["asgi"] == {"version": "3.0", "spec_version": "2.4"}
    assert scope["aws.context"] is CONTEXT
    if model is None:
        assert body == b""
    else:
        request = orjson.loads(body)
        assert request["model"] == model
        assert request.get("stream", False) is streamed


@pytest.fixture
def current_loop() -> Iterator[None]:
    """Mangum runs the app on the thread's event loop, and would leave one that it makes unclosed."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    yield
    asyncio.set_event_loop(None)
    loop.close()


@pytest.mark.usefixtures("current_loop")
@pytest.mark.parametrize("name", EXAMPLES)
def test_mangum_with_the_same_handlers_sees_the_same_request(name: str) -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((scope, (await receive())["body"]))
        await send({"type": "http.response.start", "status": 200, "headers": [[b"content-type", b"application/json"]]})
        await send({"type": "http.response.body", "body": b"{}"})

    answer = Mangum(app, lifespan="off", custom_handlers=HANDLERS)(example(name), CONTEXT)
    assert answer["statusCode"] == 200
    assert answer["body"] == "{}"
    ours, body = request_of(example(name), CONTEXT, "")
    theirs = seen[0][0]
    assert seen[0][1] == body
    assert [tuple(header) for header in theirs["headers"]] == ours["headers"]
    for key in ("method", "path", "query_string", "scheme", "client", "server"):
        assert theirs[key] == ours[key]


@pytest.mark.parametrize(
    ("event", "base", "path"),
    [
        ({"resource": "/{proxy+}", "path": "/v1/models", "pathParameters": {"proxy": "v1/models"}}, "", "/v1/models"),
        (
            {"resource": "/{proxy+}", "path": "/llm/v1/models", "pathParameters": {"proxy": "v1/models"}},
            "/llm",
            "/v1/models",
        ),
        (
            {"resource": "/{proxy+}", "path": "/v1/v1/models", "pathParameters": {"proxy": "v1/models"}},
            "/v1",
            "/v1/models",
        ),
        (
            {"resource": "/{proxy+}", "path": "/llm/v1/models/", "pathParameters": {"proxy": "v1/models"}},
            "/llm",
            "/v1/models/",
        ),
        (
            {
                "resource": "/{proxy+}",
                "path": "/llm/v1/models/a%2Fb%20c",
                "pathParameters": {"proxy": "v1/models/a/b c"},
            },
            "/llm",
            "/v1/models/a/b c",
        ),
        ({"resource": "/", "path": "/", "pathParameters": None}, "", "/"),
        ({"resource": "/", "path": "/llm", "pathParameters": None}, "/llm", "/"),
        ({"resource": "/v1/models", "path": "/llm/v1/models", "pathParameters": None}, "/llm", "/v1/models"),
        (
            {"resource": "/v1/models/{id}", "path": "/llm/v1/models/m", "pathParameters": {"id": "m"}},
            "/llm",
            "/v1/models/m",
        ),
        ({"resource": "/{proxy+}", "path": "/v1/models", "pathParameters": None}, "", "/v1/models"),
        ({"resource": "/{proxy+}", "path": "/prod/v1/models", "pathParameters": None}, "/prod", "/v1/models"),
        ({"resource": "/{proxy+}", "path": "/production/v1", "pathParameters": None}, "", "/production/v1"),
    ],
)
def test_the_base_path_of_a_rest_event(event: dict[str, Any], base: str, path: str) -> None:
    whole = {**event, "httpMethod": "GET", "headers": None, "multiValueHeaders": None, "body": None}
    whole["requestContext"] = {"stage": "prod", "path": "/prod" + event["path"]}
    assert base_path(whole) == base
    assert request_of(whole, CONTEXT, "")[0]["path"] == path


@pytest.mark.parametrize(
    ("route_key", "stage", "path", "parameters", "wanted"),
    [
        ("ANY /{proxy+}", "prod", "/prod/v1/models", {"proxy": "v1/models"}, "/v1/models"),
        ("ANY /{proxy+}", "$default", "/v1/models", {"proxy": "v1/models"}, "/v1/models"),
        ("$default", "prod", "/prod/v1/models", None, "/v1/models"),
        ("$default", "$default", "/v1/models", None, "/v1/models"),
        ("$default", "prod", "/prod", None, "/"),
        ("GET /", "prod", "/prod/", None, "/"),
    ],
)
def test_the_path_of_an_http_api_event(route_key: str, stage: str, path: str, parameters: Any, wanted: str) -> None:
    event = example("http_api_chat")
    event["routeKey"] = route_key
    event["requestContext"] |= {"stage": stage, "routeKey": route_key}
    event["requestContext"]["http"]["path"] = path
    event["pathParameters"] = parameters
    assert request_of(event, CONTEXT, "")[0]["path"] == wanted


@given(
    segments=st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1, max_size=8), max_size=4),
    base=st.sampled_from(["", "/llm", "/a", "/v1"]),
    front_end=st.sampled_from(["rest", "http_api", "function_url", "alb"]),
    body=st.binary(max_size=50),
)
def test_whatever_the_path_the_app_sees_the_callers(
    segments: list[str], base: str, front_end: str, body: bytes
) -> None:
    base = base if front_end == "rest" else ""
    path = "/" + "/".join(segments)
    request = CallerRequest("POST", base + path, [("host", "example.com")], body, base_path=base)
    scope, received = request_of(FRONT_ENDS[front_end](request), CONTEXT, "")
    assert scope["path"] == path
    assert received == body


def test_queries_and_repeated_headers() -> None:
    request = CallerRequest(
        "GET", "/x?a=1&a=2&b=%26", [("x-one", "1"), ("x-one", "2"), ("Authorization", "Bearer k")], b""
    )
    scope, _ = request_of(FRONT_ENDS["rest"](request), CONTEXT, "")
    assert scope["query_string"] == b"a=1&a=2&b=%26"
    assert dict(scope["headers"])[b"x-one"] == b"1, 2"
    assert dict(scope["headers"])[b"authorization"] == b"Bearer k"


@pytest.mark.parametrize(
    "event", [None, [], "text", {}, {"Records": [{"cf": {}}]}, {"resource": "/", "requestContext": {}}]
)
def test_what_is_no_request(event: Any) -> None:
    with pytest.raises(UnsupportedEvent):
        request_of(event, CONTEXT, "")


def prelude(headers: list[tuple[bytes, bytes]], **options: Any) -> Any:
    encoded = encode_prelude(200, headers, **{"multi_value": True, **options})
    metadata, delimiter, rest = encoded.partition(DELIMITER)
    assert delimiter
    assert rest == b""
    return json.loads(metadata)


@pytest.mark.parametrize(
    ("headers", "multi_value", "expected"),
    [
        ([(b"Content-Type", b"a/b")], True, {"headers": {"content-type": "a/b"}}),
        ([(b"content-type", b"a/b"), (b"X-A", b"1"), (b"x-a", b"2"), (b"x-a", b"3")], True,
         {"headers": {"content-type": "a/b"}, "multiValueHeaders": {"x-a": ["1", "2", "3"]}}),
        ([(b"content-type", b"a/b"), (b"x-a", b"1"), (b"x-a", b"2")], False,
         {"headers": {"content-type": "a/b", "x-a": "1, 2"}}),
        ([(b"content-type", b"a/b"), (b"Set-Cookie", b"a=1"), (b"set-cookie", b"b=2; Secure")], True,
         {"headers": {"content-type": "a/b"}, "cookies": ["a=1", "b=2; Secure"]}),
        ([(b"content-type", b"a/b"), (b"Transfer-Encoding", b"chunked"), (b"connection", b"close")], True,
         {"headers": {"content-type": "a/b"}}),
        ([], True, {"headers": {"content-type": "application/octet-stream"}}),
        ([(b"content-type", b"a/b"), (b"x-latin", b"\xe9\x00")], True,
         {"headers": {"content-type": "a/b", "x-latin": "\u00e9\u0000"}}),
    ],
)  # fmt: skip
def test_the_prelude(headers: list[tuple[bytes, bytes]], multi_value: bool, expected: Any) -> None:
    assert prelude(headers, multi_value=multi_value) == {"statusCode": 200, **expected}


def test_an_answer_without_a_body_gets_no_content_type() -> None:
    assert prelude([], has_body=False) == {"statusCode": 200, "headers": {}}


def test_a_prelude_is_never_longer_than_api_gateway_looks() -> None:
    with pytest.raises(PreludeTooLarge):
        encode_prelude(200, [(b"x", b"x" * 16_384)], multi_value=True)


@pytest.mark.parametrize(("name", "expected"), [("rest_chat", True), ("http_api_chat", False), ("alb_chat", True)])
def test_who_reads_multi_value_headers(name: str, expected: bool) -> None:
    assert takes_multi_value_headers(example(name)) is expected


@pytest.mark.parametrize(
    ("left_s", "cancel_in_s", "give_up_in_s"),
    [(900.0, 898.0, 899.5), (10.0, 8.0, 9.5), (5.0, 4.0, 4.75), (1.0, 0.8, 0.95), (0.0, 0.0, 0.0), (-3.0, 0.0, 0.0)],
)
def test_the_deadline(left_s: float, cancel_in_s: float, give_up_in_s: float) -> None:
    deadline = Deadline(int((1000 + left_s) * 1000), 2.0, 0.5, now=lambda: 1000.0)
    assert deadline.cancel_in_s == pytest.approx(cancel_in_s)
    assert deadline.give_up_in_s == pytest.approx(give_up_in_s)


def test_the_configuration() -> None:
    config = RuntimeConfig.from_environment({"AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001"})
    assert (config.host, config.port, config.app, config.concurrency) == ("127.0.0.1", 9001, DEFAULT_APP, 1)
    assert not config.snap_start
    full = RuntimeConfig.from_environment(
        {
            "AWS_LAMBDA_RUNTIME_API": "169.254.100.1:9001",
            "AWS_LAMBDA_MAX_CONCURRENCY": "64",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "snap-start",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
            "AWS_LAMBDA_LOG_FORMAT": "JSON",
            "LLM_GATEWAY_APP": "my:app",
        }
    )
    assert (full.concurrency, full.snap_start, full.memory_limit_mb, full.log_json) == (64, True, 512, True)
    assert full.app == "my:app"


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, "AWS_LAMBDA_RUNTIME_API"),
        ({"AWS_LAMBDA_RUNTIME_API": "localhost"}, "AWS_LAMBDA_RUNTIME_API"),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_MAX_CONCURRENCY": "0"}, "AWS_LAMBDA_MAX_CONCURRENCY"),
        ({"AWS_LAMBDA_RUNTIME_API": "h:1", "AWS_LAMBDA_MAX_CONCURRENCY": "many"}, "AWS_LAMBDA_MAX_CONCURRENCY"),
    ],
)
def test_a_configuration_that_makes_no_sense_names_the_variable(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ValueError, match=name):
        RuntimeConfig.from_environment(environ)
