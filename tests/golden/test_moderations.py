"""Golden transcripts of moderation: what a caller sent, what went up, what came down, what the caller got.

Each folder holds `request.json`, `upstream_request.json`, `upstream_response.json`, `response.json`, and `expect.json` with
the wire, the path, what was read of the answer, and the source.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.dialects.moderations import DEFAULT_MODELS
from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.schemas.openai_chat import read_moderation_request

ROOT = Path(__file__).parent / "moderations"
SCENARIOS = sorted(path.name for path in ROOT.iterdir())
DIALECT = OpenAIChat()


def read(scenario: str, name: str) -> bytes:
    return (ROOT / scenario / name).read_bytes()


def expected(scenario: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(read(scenario, "expect.json"))
    return loaded


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_request_goes_up(scenario: str) -> None:
    wanted = expected(scenario)
    provider = Provider("corp", "openai_chat", "https://api.example/v1", quirks=Quirks(moderations=wanted["wire"]))
    request = read_moderation_request(read(scenario, "request.json"))
    encoded = DIALECT.encode("moderations", request, DEFAULT_MODELS[wanted["wire"]], provider)
    assert encoded.path == wanted["path"]
    assert encoded.body == read(scenario, "upstream_request.json")


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_answer_comes_down_in_openais_shape(scenario: str) -> None:
    request = read_moderation_request(read(scenario, "request.json"))
    body = read(scenario, "upstream_response.json")
    answer = DIALECT.decode("moderations", request, "m", body)
    wanted = expected(scenario)
    assert json.loads(answer.body) == json.loads(read(scenario, "response.json"))
    if wanted["wire"] == "openai":
        assert answer.body == body
    assert answer.model == wanted["model"]
    assert answer.finish_reason is None
    counted = None if answer.usage is None else {name: value for name, value in asdict(answer.usage).items() if value}
    assert counted == wanted["usage"]
