"""A leg of a request, for tests of what is done with one."""

from typing import Any

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Deployment, Provider, Timeouts
from llm_gateway.pipeline.leg import Leg
from llm_gateway.routing.candidates import Candidate
from llm_gateway.routing.route import Group
from llm_gateway.schemas.openai_chat import ModelRequest

PROVIDER = Provider("corp", "openai_chat", "https://corp.example/v1")


def leg_at(
    provider: Provider = PROVIDER,
    model: str = "m",
    *,
    request: ModelRequest | None = None,
    timeouts: Timeouts | None = None,
    **known: Any,
) -> Leg:
    """As `Exchange` makes it, and as far as `known` says."""
    deployment = Deployment(provider.name, model)
    group = Group(deployment.name, (deployment,), timeouts or Timeouts())
    dialect = Dialects()[provider.dialect]
    return Leg(Candidate(deployment, group), provider, dialect, request or ModelRequest(b"{}", {}, model), [], **known)
