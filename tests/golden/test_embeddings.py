"""Golden transcripts of embeddings, through whatever wire the provider speaks: base64, dimensions, batches.

Each folder holds `request.json`, `upstream_request.json`, `upstream_response.json`, `response.json`, and `expect.json`
with the row, the path, the usage, the source, and what is refused there.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.dialects.bedrock_converse import BedrockConverse
from llm_gateway.dialects.dialect import Dialect
from llm_gateway.dialects.gemini_generate_content import GeminiGenerateContent
from llm_gateway.dialects.openai_chat import OpenAIChat
from llm_gateway.errors import InvalidRequest
from llm_gateway.schemas.openai_chat import read_embeddings_request

ROOT = Path(__file__).parent / "embeddings"
SCENARIOS = sorted(path.name for path in ROOT.iterdir())
DIALECTS: dict[str, Dialect] = {
    dialect.name: dialect for dialect in (OpenAIChat(), GeminiGenerateContent(), BedrockConverse())
}
PROVIDERS = build_catalog([], {}).providers


def load(scenario: str, name: str) -> Any:
    return json.loads((ROOT / scenario / name).read_bytes())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_texts_go_up_and_vectors_come_down(scenario: str) -> None:
    wanted = load(scenario, "expect.json")
    provider = PROVIDERS[wanted["provider"]]
    request = read_embeddings_request((ROOT / scenario / "request.json").read_bytes())
    model = request.fields["model"]
    encoded = DIALECTS[provider.dialect].encode("embeddings", request, model, provider)
    assert json.loads(encoded.body) == load(scenario, "upstream_request.json")
    assert encoded.path == wanted["path"]
    assert list(encoded.warnings) == wanted.get("warnings", [])
    body = (ROOT / scenario / "upstream_response.json").read_bytes()
    answer = DIALECTS[provider.dialect].decode("embeddings", request, model, body, wanted.get("headers", {}))
    assert json.loads(answer.body) == load(scenario, "response.json")
    assert answer.usage is not None
    assert {name: value for name, value in asdict(answer.usage).items() if value} == wanted["usage"]


REFUSED = [(scenario, name) for scenario in SCENARIOS for name in load(scenario, "expect.json").get("refused", {})]


@pytest.mark.parametrize(("scenario", "name"), REFUSED)
def test_what_the_vendor_does_not_have_is_refused(scenario: str, name: str) -> None:
    wanted = load(scenario, "expect.json")
    provider = PROVIDERS[wanted["provider"]]
    fields = load(scenario, "request.json") | {name: wanted["refused"][name]}
    with pytest.raises(InvalidRequest) as caught:
        DIALECTS[provider.dialect].encode(
            "embeddings", read_embeddings_request(json.dumps(fields).encode()), fields["model"], provider
        )
    assert caught.value.param == name
