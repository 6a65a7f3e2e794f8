"""What the command line makes of a gateway's answers: data, or one kind of failure."""

from collections.abc import Callable

import httpx
import pytest

from llm_gateway.cli.client import Gateway, segment
from llm_gateway.cli.failures import ExitCode, Failure, Misasked, NotAllowed, Refused, Unreachable
from llm_gateway.cli.target import Target

Answer = Callable[[httpx.Request], httpx.Response]


def gateway(answer: Answer, key: str | None = "sk-x") -> Gateway:
    return Gateway(Target("https://gateway.example/prod", key, "the gateway"), httpx.MockTransport(answer))


def envelope(status: int, message: str = "No.", **more: object) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": message, "type": "x", "code": None, **more}})


def test_a_call_goes_below_the_root_with_the_key() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200, json={"data": 1})

    with gateway(answer) as opened:
        assert opened.get("/admin/teams", limit=5, next=None) == {"data": 1}
        assert opened.post("/admin/teams", {"name": "a"}) == {"data": 1}
    first, second = seen
    assert str(first.url) == "https://gateway.example/prod/admin/teams?limit=5"
    assert first.headers["authorization"] == "Bearer sk-x"
    assert (second.method, second.content) == ("POST", b'{"name":"a"}')


def test_without_a_key_there_is_no_header() -> None:
    with gateway(lambda request: httpx.Response(200, json=dict(request.headers)), key=None) as opened:
        assert "authorization" not in opened.get("/")


def test_pages_are_joined_and_asked_with_the_same_parameters() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        assert request.url.params["team"] == "search"
        at = int(request.url.params.get("next", "0"))
        return httpx.Response(200, json={"data": [{"n": at}], "next": str(at + 1) if at < 2 else None})

    with gateway(answer) as opened:
        assert [each["n"] for each in opened.pages("/admin/keys", team="search")] == [0, 1, 2]


def test_no_content_is_none() -> None:
    with gateway(lambda _: httpx.Response(204)) as opened:
        assert opened.call("DELETE", "/admin/teams/a")[0] is None


@pytest.mark.parametrize(
    ("response", "kind", "code", "said"),
    [
        (envelope(400, "Wrong.", param="name", code="bad"), Misasked, ExitCode.BAD_INPUT, "Wrong."),
        (envelope(404, "There is no team `a`."), Refused, ExitCode.FAILED, "There is no team `a`."),
        (envelope(401, "Incorrect API key."), NotAllowed, ExitCode.NOT_ALLOWED, "Incorrect API key."),
        (envelope(403, "A caller's key."), NotAllowed, ExitCode.NOT_ALLOWED, "A caller's key."),
        (envelope(503, "Later."), Refused, ExitCode.FAILED, "Later."),
        (httpx.Response(502, text="<html>"), Refused, ExitCode.FAILED, "answered 502"),
        # API Gateway's own words where a stage or a path is wrong.
        (httpx.Response(403, json={"message": "Missing Authentication Token"}), Unreachable, 4, "not the address"),
        (httpx.Response(404, text="<html>"), Unreachable, ExitCode.UNREACHABLE, "answered 404"),
        (httpx.Response(200, text="<html>Welcome"), Unreachable, ExitCode.UNREACHABLE, "answered 200"),
        (httpx.Response(200, json=[1]), Unreachable, ExitCode.UNREACHABLE, "not the address of a gateway"),
        (httpx.Response(400, json={"error": "flat"}), Unreachable, ExitCode.UNREACHABLE, "answered 400"),
        (httpx.Response(301, headers={"location": "https://elsewhere"}), Unreachable, 4, "answered 301"),
    ],
)
def test_what_is_no_success(response: httpx.Response, kind: type[Failure], code: int, said: str) -> None:
    with gateway(lambda _: response) as opened, pytest.raises(Failure) as failed:
        opened.get("/admin/teams")
    assert type(failed.value) is kind
    assert failed.value.exit_code == code
    assert said in str(failed.value)


def test_a_refusal_keeps_what_it_is_about() -> None:
    with gateway(lambda _: envelope(409, param="name", code="taken")) as opened, pytest.raises(Refused) as refused:
        opened.get("/")
    assert (refused.value.status, refused.value.code, refused.value.param) == (409, "taken", "name")


def test_a_missing_key_is_asked_for() -> None:
    with gateway(lambda _: envelope(401), key=None) as opened, pytest.raises(NotAllowed, match="give it with --key"):
        opened.get("/models")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (httpx.ConnectError("refused"), "cannot reach the gateway at https://gateway.example/prod: refused"),
        (httpx.ConnectTimeout(""), "did not answer in time"),
        (httpx.ReadTimeout(""), "did not answer in time"),
        (httpx.RemoteProtocolError("cut"), "broke: cut"),
        (httpx.ReadError(""), "broke: ReadError"),
    ],
)
def test_a_connection_that_fails(error: httpx.TransportError, said: str) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise error

    with gateway(answer) as opened, pytest.raises(Unreachable, match=said):
        opened.get("/models")


def test_a_stream_that_breaks_in_the_middle() -> None:
    class Broken(httpx.SyncByteStream):
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield b"data: 1\n"
            raise httpx.ReadError("cut")

    def read(opened: Gateway) -> list[str]:
        with opened.stream("POST", "/v1/chat/completions", json={}) as response:
            return list(response.iter_lines())

    with gateway(lambda _: httpx.Response(200, stream=Broken())) as opened, pytest.raises(Unreachable, match="broke"):
        read(opened)


def test_a_name_is_one_part_of_a_path() -> None:
    assert segment("openai:gpt-4.1/a b?#") == "openai:gpt-4.1%2Fa%20b%3F%23"
