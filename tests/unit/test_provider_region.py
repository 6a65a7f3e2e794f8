"""Specifies where a provider is said to answer from."""

import pytest

from llm_gateway.domain.catalog import Provider
from llm_gateway.pipeline.models import _region


@pytest.mark.parametrize(
    ("base_url", "credential", "region", "said"),
    [
        ("https://bedrock-runtime.eu-central-1.amazonaws.com", "sigv4", "us-east-1", "eu-central-1"),
        ("https://bedrock-runtime.us-west-2.amazonaws.com/openai/v1", "bearer", None, "us-west-2"),
        ("https://vpce-1.bedrock.example", "sigv4", "eu-west-1", "eu-west-1"),
        ("https://europe-west4-aiplatform.googleapis.com/v1/projects/p/locations/europe-west4/publishers/google", "oauth", "us-east-1", "europe-west4"),
        ("https://aiplatform.googleapis.com/v1/projects/p/locations/global", "oauth", None, "global"),
        ("https://api.openai.com/v1", "bearer", "us-east-1", None),
        (None, "bearer", "us-east-1", None),
    ],
)  # fmt: skip
def test_its_address_says_so(base_url: str | None, credential: str, region: str | None, said: str | None) -> None:
    """The function's own Region, which every provider is built with, says nothing about OpenAI's."""
    provider = Provider("p", "openai_chat", base_url, credential, region=region)  # type: ignore[arg-type] # a word of the type's
    assert _region(provider) == said
