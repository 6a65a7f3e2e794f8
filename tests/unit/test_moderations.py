"""What moderation refuses, and that no verdict is ever made up."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.dialects.dialect import Dialect
from llm_gateway.dialects.loading import Dialects
from llm_gateway.dialects.moderations import decode_moderation, encode_moderation
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.errors import InvalidRequest, UpstreamError, UpstreamMalformed
from llm_gateway.schemas.openai_chat import read_moderation_request

MISTRAL = Provider("mistral", "openai_chat", "https://api.example/v1", quirks=Quirks(moderations="mistral"))


def decoded(answer: Any) -> Any:
    return json.loads(decode_moderation(json.dumps(answer).encode()).body)


@pytest.mark.parametrize("body", [b"{}", b'{"input":[]}', b'{"input":7}', b'{"input":null}', b'{"input":{"a":1}}'])
def test_a_request_without_input_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        read_moderation_request(body)
    assert refused.value.param == "input"


def test_an_empty_text_is_the_providers_business() -> None:
    assert read_moderation_request(b'{"input":""}').fields["input"] == ""


@pytest.mark.parametrize(
    "part", [{"type": "image_url", "image_url": {"url": "https://x"}}, {"type": "text"}, {"type": "text", "text": 1}, 7]
)
def test_mistral_takes_text_only(part: Any) -> None:
    request = read_moderation_request(json.dumps({"input": [{"type": "text", "text": "a"}, part]}).encode())
    with pytest.raises(InvalidRequest) as refused:
        encode_moderation(request, "mistral-moderation-latest", MISTRAL)
    assert refused.value.param == "input[1]"


def test_several_conversations_go_where_one_goes() -> None:
    request = read_moderation_request(b'{"input":[[{"role":"user","content":"a"}],[{"role":"user","content":"b"}]]}')
    encoded = encode_moderation(request, "m", MISTRAL)
    assert encoded.path == "/chat/moderations"
    assert json.loads(encoded.body) == {"model": "m", **json.loads(request.body)}


@pytest.mark.parametrize("name", list(Dialects()))
def test_a_provider_without_moderations_says_so_and_who_has_them(name: str) -> None:
    dialect: Dialect = Dialects()[name]
    provider = Provider("acme", name, "https://api.example/v1")  # type: ignore[arg-type] # a name from the table itself
    with pytest.raises(InvalidRequest, match=r"`acme` has no moderations.*openai:omni-moderation-latest") as refused:
        dialect.encode("moderations", read_moderation_request(b'{"input":"x"}'), "m", provider)
    assert (refused.value.http_status, refused.value.param) == (400, "model")


@pytest.mark.parametrize(
    "answer",
    [
        {"results": []},
        {"results": None},
        {"id": "m"},
        {"results": ["no"]},
        {"results": [{}]},
        {"results": [{"categories": {}}]},
        {"results": [{"categories": {"hate": None}}]},
        {"results": [{"categories": {"hate": 0.3}}]},
        {"results": [{"flagged": None, "categories": None}]},
        {"results": [{"flagged": False, "categories": {}}, {"category_scores": {"hate": 0.1}}]},
        [],
        "no",
    ],
)
def test_a_missing_verdict_is_never_taken_for_an_innocent_one(answer: Any) -> None:
    with pytest.raises(UpstreamMalformed):
        decoded(answer)


def test_an_error_sent_with_200_is_the_providers_error() -> None:
    with pytest.raises(UpstreamError, match="overloaded"):
        decoded({"error": {"message": "overloaded", "type": "server_error"}})


@given(st.dictionaries(st.text(min_size=1, max_size=8), st.booleans(), min_size=1), st.booleans())
def test_flagged_is_what_the_categories_say(categories: dict[str, bool], scored: bool) -> None:
    result: dict[str, Any] = {"categories": categories}
    if scored:
        result["category_scores"] = dict.fromkeys(categories, 0.25)
    (made,) = decoded({"results": [result]})["results"]
    assert made["flagged"] is any(categories.values())
    assert categories.items() <= made["categories"].items()
    assert set(made["categories"].values()) == set(categories.values())
    assert ("category_scores" in made) is scored
    assert None not in made["categories"].values()
