"""Specifies the streaming runtime as a process: what a caller, API Gateway and the Runtime API see of it.

The process is real, and so is every byte between it and the stand-in for the platform, which checks the protocol.
"""

import asyncio
import concurrent.futures
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from tests.fakes.lambda_platform import TRACE, LambdaPlatform

APPS = "tests.fakes.lambda_platform.apps:"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def platform() -> Iterator[LambdaPlatform]:
    """One process for the tests that leave it as they found it."""
    with LambdaPlatform(APPS + "build") as running:
        yield running


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=20) as session:
        yield session


def test_the_first_chunk_arrives_while_the_app_still_produces(platform: LambdaPlatform, client: httpx.Client) -> None:
    begun = time.monotonic()
    arrivals = []
    with client.stream("GET", platform.url + "/stream?n=5&gap=0.1") as response:
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        pieces = []
        for piece in response.iter_bytes():
            arrivals.append(time.monotonic() - begun)
            pieces.append(piece)
    assert b"".join(pieces) == b"".join(b"data: %d\n\n" % number for number in range(5))
    assert arrivals[0] < 0.2
    assert arrivals[-1] > 0.35
    assert [chunk for _, chunk in platform.invocations[-1].chunks] == [b"data: %d\n\n" % n for n in range(5)]


def test_work_after_the_last_byte_costs_the_caller_nothing_and_ends_before_the_next_event(
    platform: LambdaPlatform, client: httpx.Client
) -> None:
    begun = time.monotonic()
    assert client.get(platform.url + "/books").json() == {"ok": True}
    assert time.monotonic() - begun < 0.25
    invocation = platform.invocations[-1]
    assert invocation.polled_again.wait(5)
    assert invocation.ended_at is not None
    assert invocation.next_at is not None
    assert invocation.next_at - invocation.ended_at >= 0.29
    assert "books closed" in platform.stdout


def test_the_scope(platform: LambdaPlatform, client: httpx.Client) -> None:
    reply = client.post(platform.url + "/echo?a=1&a=2&b=%C3%A9", content=b'{"x": 1}', headers={"X-Thing": "one"})
    seen = reply.json()
    assert (seen["path"], seen["method"]) == ("/echo", "POST")
    assert seen["query"] == "a=1&a=2&b=%C3%A9"
    assert seen["more_body"] is False
    assert seen["extensions"]["llm_gateway.no_disconnect"] == {}
    assert seen["extensions"]["llm_gateway.deadline"] == {"unix_ms": platform.invocations[-1].deadline_ms}
    assert 0 < seen["left_ms"] <= 60_000
    assert seen["function"] == "gateway"
    assert ["x-amzn-trace-id", TRACE] in seen["headers"]
    assert seen["trace_variable"] == TRACE


def test_a_binary_body_goes_both_ways(platform: LambdaPlatform, client: httpx.Client) -> None:
    sent = bytes(range(256)) * 40
    assert client.post(platform.url + "/binary", content=sent).content == sent[::-1]
    assert platform.invocations[-1].event["isBase64Encoded"] is True


def test_a_body_larger_than_every_buffer_is_taken_at_the_callers_pace(
    platform: LambdaPlatform, client: httpx.Client
) -> None:
    total = 0
    with client.stream("GET", platform.url + "/flood") as response:
        for piece in response.iter_raw():
            total += len(piece)
    assert total == 64 * 256 * 1024


def test_repeated_headers_and_cookies_arrive_one_by_one_and_connection_headers_do_not(
    platform: LambdaPlatform, client: httpx.Client
) -> None:
    reply = client.get(platform.url + "/headers")
    assert reply.status_code == 201
    assert reply.headers.get_list("x-part") == ["one", "two"]
    assert reply.headers.get_list("set-cookie") == ["a=1; Path=/", "b=2"]
    assert "connection" not in reply.headers
    assert platform.invocations[-1].prelude == {
        "statusCode": 201,
        "headers": {"content-type": "text/plain"},
        "multiValueHeaders": {"x-part": ["one", "two"]},
        "cookies": ["a=1; Path=/", "b=2"],
    }


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("HEAD", "/status?code=200&text=unseen", 200),
        ("GET", "/status?code=204&text=unseen", 204),
        ("GET", "/status?code=304", 304),
        ("GET", "/status?code=200", 200),
        ("GET", "/nothing-here", 404),
        ("GET", "", 404),
    ],
)
def test_answers_with_and_without_a_body(
    platform: LambdaPlatform, client: httpx.Client, method: str, path: str, status: int
) -> None:
    reply = client.request(method, platform.url + path)
    assert reply.status_code == status
    if status != 404:
        assert reply.headers["x-kept"] == "yes"
        assert reply.content == b""
        assert platform.invocations[-1].body == b""


@pytest.mark.parametrize("path", ["/fail-before", "/fail-started", "/incomplete", "/silent", "/huge-headers"])
def test_a_failure_before_the_first_byte_is_a_real_500_in_the_envelope(
    platform: LambdaPlatform, client: httpx.Client, path: str
) -> None:
    reply = client.get(platform.url + path)
    assert reply.status_code == 500
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-request-id"] == platform.invocations[-1].request_id
    error = reply.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "internal_error")
    assert "secret" not in reply.text
    assert platform.invocations[-1].trailers == {}
    assert client.get(platform.url + "/status?code=200").status_code == 200


def test_a_failure_mid_stream_is_told_in_the_stream_and_in_the_trailers(
    platform: LambdaPlatform, client: httpx.Client
) -> None:
    reply = client.get(platform.url + "/fail-mid")
    assert reply.status_code == 200
    events = reply.text.split("\n\n")
    assert events[0] == 'data: {"half":'
    name, _, data = events[1].partition("\n")
    assert name == "event: error"
    assert json.loads(data.removeprefix("data: "))["error"]["code"] == "internal_error"
    assert_trailers(platform, "Runtime.RuntimeError")


def test_a_failure_in_the_middle_of_another_body_leaves_it_as_it_is(
    platform: LambdaPlatform, client: httpx.Client
) -> None:
    assert client.get(platform.url + "/fail-mid-json").text == '{"half":'
    assert_trailers(platform, "Runtime.RuntimeError")


def assert_trailers(platform: LambdaPlatform, error_type: str) -> None:
    import base64

    trailers = platform.invocations[-1].trailers
    assert trailers["lambda-runtime-function-error-type"] == error_type
    report = json.loads(base64.b64decode(trailers["lambda-runtime-function-error-body"]))
    assert report["errorType"] == error_type
    assert "secret" not in json.dumps(report)


def test_the_openai_sdk_streams_through_it(platform: LambdaPlatform) -> None:
    with openai.OpenAI(base_url=platform.url + "/v1", api_key="sk-local", max_retries=0) as sdk:
        begun = time.monotonic()
        words, times = [], []
        for chunk in sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}], stream=True):
            words.append(chunk.choices[0].delta.content)
            times.append(time.monotonic() - begun)
        assert words == ["Hello", " from", " Lambda"]
        assert times[0] < times[-1] - 0.25
        whole = sdk.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
        assert whole.choices[0].message.content == "Hello from Lambda"


def test_the_openai_sdk_raises_on_a_stream_that_breaks(platform: LambdaPlatform) -> None:
    with openai.OpenAI(base_url=platform.url + "/v1", api_key="sk-local", max_retries=0) as sdk:
        stream = sdk.chat.completions.create(model="breaks", messages=[{"role": "user", "content": "hi"}], stream=True)
        assert next(iter(stream)).choices[0].delta.content == "Hello"
        with pytest.raises(openai.APIError, match="failed before the answer was complete"):
            list(stream)


@pytest.mark.parametrize(
    "event", [{}, {"Records": []}, [], "ping", b"{not json", {"requestContext": {}, "resource": "/"}]
)
def test_an_event_of_no_http_front_end_is_reported_and_does_no_harm(platform: LambdaPlatform, event: Any) -> None:
    invocation = platform.invoke(event)
    assert invocation.error_type == "Runtime.UnsupportedEvent"
    assert invocation.error is not None
    assert invocation.error["errorType"] == "Runtime.UnsupportedEvent"
    assert invocation.prelude is None


def test_a_callers_leaving_is_not_told_and_the_stream_goes_to_its_end(platform: LambdaPlatform) -> None:
    with httpx.Client() as client, client.stream("GET", platform.url + "/stream?n=4&gap=0.1") as response:
        next(response.iter_bytes())
    invocation = platform.invocations[-1]
    assert invocation.over.wait(5)
    assert len(invocation.chunks) == 4
    assert invocation.trailers == {}


@pytest.mark.parametrize(("path", "said"), [("/drip", "cut: ConnectionLost"), ("/watch", "http.disconnect")])
def test_a_cut_response_reaches_the_app_at_once(
    platform: LambdaPlatform, client: httpx.Client, path: str, said: str
) -> None:
    platform.cut_after_chunks = 1
    with pytest.raises(httpx.TransportError):
        client.get(platform.url + path)
    invocation = platform.invocations[-1]
    assert invocation.polled_again.wait(5)
    assert invocation.next_at is not None
    assert invocation.cut_at is not None
    assert invocation.next_at - invocation.cut_at < 0.5
    assert said in platform.stdout


@pytest.mark.parametrize("status", [400, 403, 410, 413])
def test_a_refused_response_concerns_that_invocation_alone(
    platform: LambdaPlatform, client: httpx.Client, status: int
) -> None:
    platform.response_status = status
    assert client.get(platform.url + "/status?code=200").status_code == 200
    assert platform.invocations[-1].polled_again.wait(5)
    assert f"/response answered {status}" in platform.stderr
    assert client.get(platform.url + "/status?code=200").status_code == 200


@pytest.mark.parametrize("front_end", ["http_api", "function_url", "alb"])
def test_every_front_end(client: httpx.Client, front_end: str) -> None:
    with LambdaPlatform(APPS + "build_later", front_end=front_end) as platform:
        seen = client.post(platform.url + "/echo?a=1", content=b"hello", headers={"cookie": "a=1; b=2"}).json()
        assert (seen["path"], seen["query"]) == ("/echo", "a=1")
        assert ["cookie", "a=1; b=2"] in seen["headers"]
        reply = client.get(platform.url + "/headers")
        prelude = platform.invocations[-1].prelude
        assert prelude is not None
        if front_end == "alb":
            assert reply.headers.get_list("x-part") == ["one", "two"]
        else:
            assert prelude["headers"]["x-part"] == "one, two"
            assert "multiValueHeaders" not in prelude


def test_a_custom_domains_base_path_is_no_part_of_the_path(client: httpx.Client) -> None:
    with LambdaPlatform(APPS + "build_without_hooks", base_path="/llm") as platform:
        assert client.get(platform.url + "/echo").json()["path"] == "/echo"
        assert platform.invocations[-1].event["path"] == "/llm/echo"
        assert client.get(platform.url + "/").status_code == 404


async def test_eight_at_once_in_one_process() -> None:
    with LambdaPlatform(APPS + "build", concurrency=8) as platform:
        async with httpx.AsyncClient(timeout=20) as client:
            begun = time.monotonic()
            replies = await asyncio.gather(*(client.get(f"{platform.url}/stream?n={n}&gap=0.1") for n in range(5, 13)))
            took = time.monotonic() - begun
            seen = (await client.get(platform.url + "/echo")).json()
        for n, reply in zip(range(5, 13), replies, strict=True):
            assert reply.text == "".join(f"data: {number}\n\n" for number in range(n))
        assert took < 2.5, "one after another they take 6.8 s"
        assert seen["most_in_flight"] == 8
        assert seen["trace_variable"] is None, "one variable cannot serve several requests"
        assert ["x-amzn-trace-id", TRACE] in seen["headers"]
        assert platform.most_polls == 8


@pytest.mark.parametrize(
    ("path", "ending", "trailer"),
    [
        ("/polite", "event: error\ndata: late\n\n", None),
        ("/rude", '"code":"deadline_exceeded"}}\n\n', "Runtime.DeadlineExceeded"),
        ("/stuck", '"code":"deadline_exceeded"}}\n\n', "Runtime.DeadlineExceeded"),
    ],
)
def test_a_stream_ends_well_formed_before_lambda_cuts_it(
    client: httpx.Client, path: str, ending: str, trailer: str | None
) -> None:
    with LambdaPlatform(APPS + "build", timeout_s=2.0) as platform:
        reply = client.get(platform.url + path)
        assert reply.text.startswith("data: 1\n\n")
        assert reply.text.endswith(ending)
        invocation = platform.invocations[-1]
        assert invocation.polled_again.wait(3), "the next event is not held up"
        assert invocation.trailers.get("lambda-runtime-function-error-type") == trailer
        assert invocation.deadline_ms / 1000 > time.time() - (time.monotonic() - (invocation.ended_at or 0)), "in time"
        assert client.get(platform.url + "/status?code=200").status_code == 200
        if path == "/polite":
            assert "settled after the deadline" in platform.stdout


def test_no_answer_by_the_deadline_is_a_real_504(client: httpx.Client) -> None:
    with LambdaPlatform(APPS + "build", timeout_s=1.5) as platform:
        reply = client.get(platform.url + "/slow-start")
        assert reply.status_code == 504
        assert reply.json()["error"]["code"] == "deadline_exceeded"


def test_sigterm_lets_what_runs_end_and_then_exits_with_zero(client: httpx.Client) -> None:
    with LambdaPlatform(APPS + "build") as platform, concurrent.futures.ThreadPoolExecutor() as pool:
        running = pool.submit(client.get, platform.url + "/stream?n=6&gap=0.1")
        for _ in range(500):
            if platform.invocations and platform.invocations[0].chunks:
                break
            time.sleep(0.01)
        platform.process.send_signal(signal.SIGTERM)
        assert running.result().text.endswith("data: 5\n\n")
        assert platform.wait_exit() == 0
        assert platform.invocations[0].next_at is None, "no further event is fetched"
        assert "hook aclose" in platform.stdout


def test_sigterm_ends_an_idle_process_at_once() -> None:
    with LambdaPlatform(APPS + "build", concurrency=3) as platform:
        begun = time.monotonic()
        platform.process.send_signal(signal.SIGTERM)
        assert platform.wait_exit() == 0
        assert time.monotonic() - begun < 2


@pytest.mark.parametrize("app", ["broken", "no_such_factory", "build:no"])
def test_an_app_that_does_not_load_is_an_init_error(app: str) -> None:
    with LambdaPlatform(APPS + app, wait_for_poll=False) as platform:
        assert platform.wait_exit() == 1
        assert platform.init_error is not None
        assert platform.init_error["errorType"].startswith("Runtime.")
        if app == "broken":
            assert platform.init_error["errorMessage"] == "REGISTRY_TABLE is not set"
            assert "RuntimeError" in platform.stderr


@pytest.mark.parametrize("status", [403, 500])
def test_a_poll_that_is_refused_ends_the_process_for_a_fresh_one(status: int) -> None:
    platform = LambdaPlatform(APPS + "build", wait_for_poll=False)
    platform.next_statuses = [status]
    with platform:
        assert platform.wait_exit() == 1
        assert f"invocation/next answered {status}" in platform.stderr


def test_a_container_error_on_the_response_ends_the_process(client: httpx.Client) -> None:
    with LambdaPlatform(APPS + "build") as platform:
        platform.response_status = 500
        assert client.get(platform.url + "/status?code=200").status_code == 200
        assert platform.wait_exit() == 1


def test_snap_start(client: httpx.Client) -> None:
    with LambdaPlatform(APPS + "build", snap_start=True) as platform:
        assert platform.restore_wanted.wait(10)
        assert "hook before_snapshot" in platform.stdout
        assert "hook after_restore" not in platform.stdout
        platform.restore()
        seen = client.get(platform.url + "/echo").json()
        assert seen["restored"] == 1


@pytest.mark.parametrize(("phase", "status"), [("before_snapshot", 64), ("after_restore", 65)])
def test_a_hook_that_fails_is_reported_to_its_phase(phase: str, status: int) -> None:
    with LambdaPlatform(APPS + "build_bad_hook", snap_start=True, env={"FAIL": phase}, wait_for_poll=False) as platform:
        if phase == "after_restore":
            platform.restore()
        assert platform.wait_exit() == status
        report = platform.init_error if phase == "before_snapshot" else platform.restore_error
        assert report is not None
        assert phase in report["errorMessage"]


def test_logs_are_json_where_lambda_wants_json() -> None:
    with LambdaPlatform(APPS + "build", env={"AWS_LAMBDA_LOG_FORMAT": "JSON"}) as platform:
        invocation = platform.invoke({})
        line = json.loads(platform.stderr.splitlines()[0])
        assert line["level"] == "WARNING"
        assert line["requestId"] == invocation.request_id
        assert line["timestamp"].endswith("Z")


@pytest.mark.parametrize(
    ("env", "streams"),
    [({}, True), ({"LLM_GATEWAY_STREAMING": "off"}, False), ({"AWS_SAM_LOCAL": "true"}, False)],
)
def test_the_wrapper_starts_the_runtime_or_steps_aside(
    client: httpx.Client, tmp_path: Path, env: dict[str, str], streams: bool
) -> None:
    stand_in = tmp_path / "bootstrap.py"
    stand_in.write_text("import sys; print('managed', *sys.argv[1:])")
    run = ROOT / "functions" / "gateway" / "run"
    assert os.access(run, os.X_OK)
    with LambdaPlatform(
        APPS + "build",
        env={"LAMBDA_TASK_ROOT": str(tmp_path), **env},
        command=[str(run), sys.executable, str(stand_in), "argument"],
        wait_for_poll=streams,
    ) as platform:
        if streams:
            assert client.get(platform.url + "/status?code=200").status_code == 200
        else:
            assert platform.wait_exit() == 0
            assert platform.stdout == "managed argument\n"
