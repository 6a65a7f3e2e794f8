"""Specifies `x-gateway-route`: the way a request took, short enough for a header."""

from dataclasses import replace

import pytest

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Deployment, Provider
from llm_gateway.domain.usage import Attempt
from llm_gateway.errors import GatewayError, UpstreamCut, UpstreamFailed, UpstreamTimeout
from llm_gateway.pipeline.answer_details import leg_headers, route_taken
from llm_gateway.pipeline.batches import Part
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.route import Group
from llm_gateway.schemas.openai_chat import ModelRequest

CORP = Provider("corp", "openai_chat", "http://127.0.0.1:9/v1")
REQUEST = ModelRequest(b'{"messages":[]}', {"messages": []}, "fast")


def test_warnings_are_one_header_and_not_too_long_for_it() -> None:
    few, many = leg("a"), leg("a")
    encoded = few.parts[0].encoded
    few.parts[0].encoded = replace(encoded, warnings=("seed was left out", "user was left out"))
    many.parts[0].encoded = replace(
        encoded, warnings=tuple(f"strict was dropped from tools[{at}]" for at in range(250))
    )
    assert leg_headers([few], "weighted", 0)["x-gateway-warning"] == "seed was left out; user was left out"
    told = leg_headers([many], "weighted", 0)["x-gateway-warning"].split("; ")
    assert 900 < len("; ".join(told)) <= 1024
    assert told[:2] == ["strict was dropped from tools[0]", "strict was dropped from tools[1]"]
    assert told[-1] == f"and {250 - len(told) + 1} more"


def leg(
    model: str, error: GatewayError | None = None, refused: int | None = None, status: int | None = None, **where: str
) -> Leg:
    deployment = Deployment("corp", model, **where)  # type: ignore[arg-type]  # region and key
    dialect = Dialects()["openai_chat"]
    parts = [Part(REQUEST, dialect.encode("chat.completions", REQUEST, model, CORP))]
    made = Leg(Candidate(deployment, Group("fast", (deployment,))), CORP, dialect, REQUEST, parts)
    made.error, made.status = error, status
    if refused is not None:
        made.attempts.append(Attempt("corp", model, refused, "x", 1))
    return made


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (leg("a", status=200), "corp:a"),
        (leg("a", UpstreamFailed("no"), refused=503), "corp:a=503"),
        (leg("a", UpstreamTimeout("late")), "corp:a=upstream_timeout"),
        (leg("a", UpstreamCut("cut"), status=200), "corp:a=upstream_cut"),
        (leg("a", UpstreamFailed("no", code="eins, zwei ☂"), status=200), "corp:a=eins%2C zwei %E2%98%82"),
        (leg("a", UpstreamFailed("no", code="x; y=" + "z" * 99), status=200), "corp:a=x%3B y=" + "z" * 59),
        (leg("模型", status=200), "corp:%E6%A8%A1%E5%9E%8B"),
        (leg("a", status=200, region="eu-central-1", key="second"), "corp:a@eu-central-1#second"),
    ],
)
def test_each_call_says_what_came_of_it(made: Leg, told: str) -> None:
    assert route_taken([made], "weighted") == f"weighted; {told}"


def test_one_that_was_overtaken() -> None:
    slow = leg("a")
    slow.given_up = True
    assert route_taken([slow, leg("b", status=200)], "sticky") == "sticky; corp:a=given_up; corp:b"


def test_a_long_way_keeps_its_beginning_and_its_end() -> None:
    legs = [leg(f"{number}-{'m' * 200}", UpstreamFailed("no"), refused=500) for number in range(11)]
    told = route_taken([*legs, leg("last", status=200)], "priority").split("; ")
    assert len("; ".join(told)) <= 1024
    assert (told[0], told[-1], told.count("...")) == ("priority", "corp:last", 1)
    assert told[1].startswith("corp:0-")


def test_the_headers_are_of_the_last() -> None:
    headers = leg_headers([leg("a", UpstreamFailed("no"), refused=503), leg("b", status=200)], "weighted", 0.0123)
    assert headers == {
        "x-gateway-provider": "corp",
        "x-gateway-model": "b",
        "x-gateway-route": "weighted; corp:a=503; corp:b",
        "x-gateway-overhead-ms": "12.30",
        "x-gateway-attempts": "2",
    }
