"""`ports.HealthStore` in a dictionary, for tests."""

from collections.abc import Mapping

from llm_gateway.domain.health import Finding


class MemoryHealth:
    """Shared by as many gateways as it is given to. `calls` counts what each was asked for, by method."""

    def __init__(self) -> None:
        self.findings: dict[str, Finding] = {}
        self.calls = {"tell": 0, "read": 0}

    async def tell(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> Finding | None:
        self.calls["tell"] += 1
        held = self.findings.get(name)
        if held is not None and held.began > finding.began:
            return held
        for other, seen in over.items():
            if other != name and self.findings.get(other) == seen:
                del self.findings[other]
        self.findings[name] = finding
        return None

    async def read(self) -> Mapping[str, Finding]:
        self.calls["read"] += 1
        return dict(self.findings)
