"""Specifies readiness: what is asked, how often, and what is said of a dependency that is away."""

import asyncio

import pytest

from llm_gateway.adapters.memory import MemoryLedger, MemoryRegistry, MemorySecrets
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.errors import Unavailable
from llm_gateway.pipeline import readiness
from llm_gateway.pipeline.readiness import Readiness, catalog_probe, store_probes
from tests.fakes.manual_clock import ManualClock


class Dependency:
    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.asked = 0

    async def __call__(self) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable("It does not answer.")


async def test_all_that_answer_are_ready() -> None:
    probes = store_probes(MemoryRegistry(), MemoryLedger(), MemorySecrets({}), "llm-gateway")
    finding = await Readiness(probes).find()
    assert finding.checks == dict.fromkeys(("registry", "ledger", "secrets"), "ok")
    assert finding.error is None


async def test_those_that_do_not_are_named() -> None:
    finding = await Readiness({"a": Dependency(away=True), "b": Dependency(), "c": Dependency(away=True)}).find()
    assert finding.checks == {"a": "unreachable", "b": "ok", "c": "unreachable"}
    assert finding.error is not None
    assert (finding.error.http_status, finding.error.error_code) == (503, "not_ready")
    assert finding.error.message == "Not reachable: a, c."


async def test_a_finding_serves_for_five_seconds_whoever_asks() -> None:
    dependency, clock = Dependency(), ManualClock()
    ready = Readiness({"it": dependency}, clock)
    await asyncio.gather(*(ready.find() for _ in range(20)))
    clock.now += 4.9
    await ready.find()
    assert dependency.asked == 1
    dependency.away = True
    clock.now += 0.2
    assert (await ready.find()).error is not None
    assert dependency.asked == 2


async def test_one_that_hangs_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "_PATIENCE_S", 0.01)
    finding = await Readiness({"it": lambda: asyncio.sleep(60)}).find()
    assert finding.checks == {"it": "unreachable"}


async def test_a_configuration_that_makes_no_catalog_is_told_to_the_log_alone() -> None:
    async def broken() -> None:
        raise ConfigError(["environment: OPENAI_BASE_URL: has port 0"])

    logged: list[str] = []
    finding = await Readiness(
        {"configuration": catalog_probe(broken, logged.append), "a": Dependency(away=True)}
    ).find()
    assert finding.checks == {"configuration": "unusable", "a": "unreachable"}
    assert finding.error is not None
    assert finding.error.message == "Not reachable: a. Not usable, the log says why: configuration."
    assert logged == ["the configuration cannot be used: environment: OPENAI_BASE_URL: has port 0"]


async def test_a_defect_is_no_outage() -> None:
    async def broken() -> None:
        raise KeyError("a defect of ours")

    with pytest.raises(KeyError):
        await Readiness({"it": broken}).find()
