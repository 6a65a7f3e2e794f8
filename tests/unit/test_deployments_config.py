"""Specifies what gateway.toml says of deployments, fallbacks and circuits, and the regions that deployments reach."""

import json

import pytest

from llm_gateway.catalog.build import build_catalog
from llm_gateway.catalog.config import entries, parse_config
from llm_gateway.catalog.faults import ConfigError
from llm_gateway.domain.catalog import Alias, Catalog, CircuitPolicy, Deployment, Timeouts
from llm_gateway.domain.ports import RegistryEntry

FILE = """
[circuit]
failures = 3
error_rate = 0.25
cool_down_s = 2.5

[providers.google_vertex]
base_url = "https://{region}-aiplatform.example/v1/projects/p/locations/{region}/publishers/google"
region = "us-central1"

[providers.my-bedrock]
like = "bedrock"
headers = { X-Team = "search" }

[models.fast]
deployments = [
  { provider = "bedrock", model = "m", weight = 3, region = "eu-central-1" },
  { provider = "bedrock", model = "m", key = "second" },
  { provider = "my-bedrock", model = "m", region = "eu-west-1" },
  { provider = "google-vertex", model = "g", region = "europe-west1" },
]
fallbacks = ["smart", "azure-openai:gpt-5"]
context_window_fallbacks = ["smart"]
content_policy_fallbacks = ["azure-openai:gpt-5"]
retries = 0
stream_recovery = "restart"

[models.smart]
deployments = [{ provider = "openai", model = "gpt-5" }]
"""


def loaded(text: str, **environment: str) -> Catalog:
    """As it comes out of the registry, where documents are JSON."""
    found = entries(parse_config(text, "gateway.toml"))
    stored = [RegistryEntry(each.kind, each.name, json.loads(json.dumps(each.document))) for each in found]
    return build_catalog(stored, environment)


def test_all_that_a_model_can_say() -> None:
    here = loaded(FILE)
    fast = here.aliases["fast"]
    assert fast.deployments == (
        Deployment("bedrock", "m", 3, region="eu-central-1"),
        Deployment("bedrock", "m", key="second"),
        Deployment("my_bedrock", "m", region="eu-west-1"),
        Deployment("google_vertex", "g", region="europe-west1"),
    )
    assert fast.fallbacks == ("smart", "azure_openai:gpt-5")
    assert (fast.context_window_fallbacks, fast.content_policy_fallbacks) == (("smart",), ("azure_openai:gpt-5",))
    assert (fast.retries, fast.stream_recovery) == (0, "restart")
    assert here.aliases["smart"] == Alias("smart", (Deployment("openai", "gpt-5"),), timeouts=Timeouts())
    assert here.circuit == CircuitPolicy(3, 0.25, 2.5)


def test_a_name_says_all_that_a_circuit_is_kept_for() -> None:
    assert Deployment("bedrock", "m").name == "bedrock:m"
    assert Deployment("bedrock", "m", 3, "eu-central-1", "second").name == "bedrock:m@eu-central-1#second"
    assert Deployment("openai", "m", key="a").name == "openai:m#a"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", CircuitPolicy()),
        ("[circuit]", CircuitPolicy()),
        ("[circuit]\ncool_down_s = 60", CircuitPolicy(cool_down_s=60.0)),
        ("[circuit]\nerror_rate = 1", CircuitPolicy(error_rate=1.0)),
    ],
)
def test_circuits_are_as_usual_where_nothing_is_said(text: str, expected: CircuitPolicy) -> None:
    assert loaded(text).circuit == expected
    assert CircuitPolicy() == CircuitPolicy(failures=5, error_rate=0.5, cool_down_s=5.0)


def test_a_deployment_in_a_region_reaches_the_provider_there() -> None:
    here = loaded(FILE, AWS_REGION="us-west-2")
    own = here.provider_of(here.aliases["fast"].deployments[1])
    assert own is here.providers["bedrock"]
    assert own.base_url == "https://bedrock-runtime.us-west-2.amazonaws.com"
    eu = here.provider_of(here.aliases["fast"].deployments[0])
    assert (eu.region, eu.base_url) == ("eu-central-1", "https://bedrock-runtime.eu-central-1.amazonaws.com")
    assert (eu.name, eu.secret, eu.price_as, eu.quirks) == (own.name, own.secret, own.price_as, own.quirks)
    mine = here.provider_of(here.aliases["fast"].deployments[2])
    assert (mine.region, mine.base_url) == ("eu-west-1", "https://bedrock-runtime.eu-west-1.amazonaws.com")
    assert (mine.name, mine.secret, mine.headers) == ("my_bedrock", "my_bedrock", {"X-Team": "search"})


def test_an_address_of_the_operators_may_name_a_region_too() -> None:
    here = loaded(FILE)
    place = "aiplatform.example/v1/projects/p/locations"
    assert here.providers["google_vertex"].base_url == f"https://us-central1-{place}/us-central1/publishers/google"
    vertex = here.provider_of(here.aliases["fast"].deployments[3])
    assert vertex.base_url == f"https://europe-west1-{place}/europe-west1/publishers/google"


def test_an_address_of_the_environment_is_taken_as_it_is() -> None:
    """As where a VPC endpoint stands before Bedrock: the region still signs."""
    here = loaded(FILE, BEDROCK_BASE_URL="https://vpce.example")
    eu = here.provider_of(here.aliases["fast"].deployments[0])
    assert (eu.region, eu.base_url) == ("eu-central-1", "https://vpce.example")


def test_a_deployment_whose_provider_is_gone_breaks_nothing_else() -> None:
    document = {"deployments": [{"provider": "nobody", "model": "m", "region": "eu"}]}
    here = build_catalog([RegistryEntry("model", "gone", document)], {})
    assert here.regional == {}
    with pytest.raises(KeyError):
        here.provider_of(here.aliases["gone"].deployments[0])


@pytest.mark.parametrize(
    ("kind", "name", "document", "fault"),
    [
        ("model", "a", {"retries": "2"}, "model a: retries: must be int"),
        (
            "model",
            "a",
            {"stream_recovery": "no"},
            'model a: stream_recovery: "no" is not one of continue, off, restart',
        ),
        ("model", "a", {"content_policy_fallbacks": [1]}, "model a: content_policy_fallbacks: must be strings"),
        ("settings", "gateway", {"circuit": {"cool_down_s": -1}}, "settings gateway: circuit: cool_down_s: must be a"),
        (
            "provider",
            "corp",
            {"quirks": {"prefill": "x"}},
            'provider corp: quirks: prefill: "x" is not one of continue_f',
        ),
    ],
)
def test_a_document_that_was_broken_in_the_registry_is_named(
    kind: str, name: str, document: dict[str, object], fault: str
) -> None:
    deployed = {"deployments": [{"provider": "openai", "model": "m"}]} if kind == "model" else {}
    with pytest.raises(ConfigError) as caught:
        build_catalog([RegistryEntry(kind, name, {**deployed, **document})], {})  # type: ignore[arg-type]
    assert fault in str(caught.value)


def test_how_a_vendor_takes_a_prefill_can_be_said() -> None:
    text = '[providers.corp]\nbase_url = "https://c/v1"\nquirks = { prefill = "continue_final_message" }'
    assert loaded(text).providers["corp"].quirks.prefill == "continue_final_message"
