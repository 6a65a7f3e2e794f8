"""Specifies `queue_s` of gateway.toml: how long a request of a key, user, team or organisation waits in line."""

from typing import Any

import orjson
import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.ports import RegistryEntry


def catalog(text: str) -> Catalog:
    """Built of what the registry gives back: JSON."""
    found = entries(parse_config(text, "gateway.toml"))
    return build_catalog([RegistryEntry(e.kind, e.name, orjson.loads(orjson.dumps(e.document))) for e in found], {})


def test_every_spending_scope_may_have_its_own() -> None:
    built = catalog("""
[organisation]
queue_s = 60
[teams.search]
queue_s = 0
limits = { rpm = 5 }
[users."*"]
queue_s = 2.5
[keys.prod]
queue_s = 10
[keys.plain]
limits = { rpm = 5 }
""")
    assert {scope: policy.queue_s for scope, policy in built.policies.items()} == {
        "organisation#default": 60.0,
        "team#search": 0.0,
        "user#*": 2.5,
        "key#prod": 10.0,
        "key#plain": None,
    }


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("61", "keys.prod.queue_s: must be less than or equal to 60"),
        ("-1", "keys.prod.queue_s: must be greater than or equal to 0"),
        ("nan", "keys.prod.queue_s: must be a finite number"),
        ('"soon"', "keys.prod.queue_s: must be a number"),
    ],
)
def test_it_is_a_number_of_seconds_up_to_a_minute(value: str, fault: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(f"[keys.prod]\nqueue_s = {value}", "gateway.toml")
    assert fault in str(refused.value)


@pytest.mark.parametrize("stored", ["5", True, -1, None])
def test_a_broken_document_is_named(stored: Any) -> None:
    with pytest.raises(ConfigError, match="key prod: queue_s: must be a positive number"):
        build_catalog([RegistryEntry("key", "prod", {"queue_s": stored})], {})


def test_a_deployment_has_none() -> None:
    with pytest.raises(ConfigError, match="queue_s"):
        parse_config('[models.x]\ndeployments = [{ provider = "openai", model = "m", queue_s = 1 }]', "gateway.toml")
