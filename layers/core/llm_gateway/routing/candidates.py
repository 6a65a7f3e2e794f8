"""Who may be tried for a request."""

from dataclasses import dataclass

from llm_gateway.domain.catalog import Deployment
from llm_gateway.routing.route import Group


@dataclass(frozen=True, slots=True)
class Candidate:
    deployment: Deployment
    group: Group
    """Whose timeouts, retries and recovery it has."""
