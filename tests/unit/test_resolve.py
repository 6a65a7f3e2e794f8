"""Specifies which deployments a model's name means, and which names a key may use."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.build import build_catalog
from llm_gateway.domain.catalog import Catalog, Deployment, Timeouts
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.errors import InvalidRequest, ModelNotFound
from llm_gateway.routing.permission import allowed, within
from llm_gateway.routing.resolve import named_providers, resolve
from llm_gateway.routing.route import Route

FAST: dict[str, Any] = {
    "deployments": [{"provider": "corp", "model": "small-1"}, {"provider": "openai", "model": "gpt-4.1-mini"}],
    "fallbacks": ["openai:gpt-5"],
    "timeouts": {"first_token_s": 10},
}


def catalog(default_provider: str = "openai", default_model: str | None = None, **over: dict[str, Any]) -> Catalog:
    settings = {"default_provider": default_provider, "default_model": default_model}
    providers: dict[str, dict[str, Any]] = {"corp": {"base_url": "http://corp/v1"}, **over}
    return build_catalog(
        [
            RegistryEntry("settings", "gateway", settings),
            *(RegistryEntry("provider", name, document) for name, document in providers.items()),
            RegistryEntry("model", "fast", FAST),
            RegistryEntry("model", "openai:gpt-4o", {"deployments": [{"provider": "corp", "model": "shadow"}]}),
            RegistryEntry("model", "echoes", {"deployments": [{"provider": "echo", "model": "a"}]}),
            RegistryEntry(
                "model",
                "echo-then-openai",
                {"deployments": [{"provider": "echo", "model": "a"}], "fallbacks": ["openai:gpt-5"]},
            ),
            RegistryEntry("model", "gone", {"deployments": [{"provider": "nobody", "model": "m"}]}),
        ],
        {"AZURE_OPENAI_ENDPOINT": "https://r.openai.azure.com"},
    )


CONFIGURED = frozenset({"corp", "openai", "openrouter", "azure_openai", "ollama", "echo"})


@pytest.mark.parametrize(
    ("model", "default", "expected"),
    [
        ("gpt-4.1", "openai", "openai:gpt-4.1"),
        ("openai:gpt-4.1", "openai", "openai:gpt-4.1"),
        ("openai/gpt-4.1", "openai", "openai:gpt-4.1"),
        ("corp:small-1", "openai", "corp:small-1"),
        ("azure_openai:gpt-4.1", "openai", "azure_openai:gpt-4.1"),
        ("azure-openai/gpt-4.1", "openai", "azure_openai:gpt-4.1"),
        # An alias is an alias, even one that looks like a provider's model.
        ("openai:gpt-4o", "openai", "corp:shadow"),
        ("openai/gpt-4o", "openai", "openai:gpt-4o"),
        # Names that hold separators themselves.
        ("llama3:8b", "ollama", "ollama:llama3:8b"),
        ("ollama:llama3:8b", "openai", "ollama:llama3:8b"),
        ("ollama/llama3:8b", "openai", "ollama:llama3:8b"),
        ("anthropic/claude-3.5-sonnet:beta", "openrouter", "openrouter:anthropic/claude-3.5-sonnet:beta"),
        ("openrouter:anthropic/claude-3.5-sonnet:beta", "openai", "openrouter:anthropic/claude-3.5-sonnet:beta"),
        ("openrouter/anthropic/claude-3.5-sonnet:beta", "openai", "openrouter:anthropic/claude-3.5-sonnet:beta"),
        ("openrouter/openai/gpt-4.1", "openai", "openrouter:openai/gpt-4.1"),
        ("meta-llama/Llama-3.3-70B", "openrouter", "openrouter:meta-llama/Llama-3.3-70B"),
        ("mistral/small", "openrouter", "openrouter:mistral/small"),  # a row, but not configured
        ("OpenAI:gpt-4.1", "openrouter", "openrouter:OpenAI:gpt-4.1"),  # names are case-sensitive
        (":x", "openai", "openai::x"),
        ("/x", "openai", "openai:/x"),
    ],
)
def test_where_a_name_goes(model: str, default: str, expected: str) -> None:
    route = resolve(model, catalog(default), CONFIGURED)
    first = route.deployments[0]
    assert f"{first.provider}:{first.model}" == expected
    assert route.requested == model


def test_a_prefix_counts_as_soon_as_its_provider_is_configured() -> None:
    name = "anthropic/claude-3.5-sonnet:beta"
    both = resolve(name, catalog("openrouter"), CONFIGURED | {"anthropic"})
    assert both.deployments == (Deployment("anthropic", "claude-3.5-sonnet:beta"),)


def test_a_prefix_does_not_count_where_its_provider_is_switched_off() -> None:
    off = catalog("openrouter", openai={"enabled": False})
    assert resolve("openai/gpt-4.1", off, CONFIGURED).deployments == (Deployment("openrouter", "openai/gpt-4.1"),)


def test_an_alias_brings_its_deployments_and_timeouts() -> None:
    route = resolve("fast", catalog(), CONFIGURED)
    assert route.alias is not None
    assert route.alias.name == "fast"
    assert route.deployments == (Deployment("corp", "small-1"), Deployment("openai", "gpt-4.1-mini"))
    assert route.timeouts == Timeouts(first_token_s=10.0)


def test_an_alias_passes_over_providers_that_are_switched_off() -> None:
    off = catalog(corp={"base_url": "http://corp/v1", "enabled": False})
    assert resolve("fast", off, CONFIGURED).deployments == (Deployment("openai", "gpt-4.1-mini"),)


@pytest.mark.parametrize("empty", [None, ""])
def test_no_name_means_the_default_model(empty: str | None) -> None:
    route = resolve(empty, catalog(default_model="fast"), CONFIGURED)
    assert (route.requested, route.deployments[0].provider) == ("fast", "corp")
    with pytest.raises(InvalidRequest) as caught:
        resolve(empty, catalog(), CONFIGURED)
    assert (caught.value.http_status, caught.value.param) == (400, "model")


@pytest.mark.parametrize(
    ("model", "default", "configured", "hint"),
    [
        ("gpt-4.1", "openai", frozenset({"echo"}), ""),
        ("openai:gpt-4.1", "openai", frozenset({"echo"}), " The provider `openai` has no key here."),
        (
            "openai_compatible:x",
            "openai",
            frozenset({"echo"}),
            " The provider `openai_compatible` has no address here.",
        ),
        ("openai:", "openai", CONFIGURED, " Name a model of the provider: `openai:…`."),
        ("gone", "openai", CONFIGURED, ""),
        ("x", "openai_compatible", CONFIGURED | {"openai_compatible"}, ""),  # it has no address
    ],
)
def test_a_name_nobody_serves_is_refused_in_openais_words(
    model: str, default: str, configured: frozenset[str], hint: str
) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(model, catalog(default), configured)
    assert caught.value.http_status == 404
    assert caught.value.envelope() == {
        "error": {
            "message": f"The model `{model}` does not exist or you do not have access to it.{hint}",
            "type": "invalid_request_error",
            "param": "model",
            "code": "model_not_found",
        }
    }


@pytest.mark.parametrize(
    ("model", "default", "expected"),
    [
        ("fast", "openai", []),
        ("gpt-4.1", "openai", ["openai"]),
        ("openai:gpt-4.1", "openai", ["openai"]),
        ("azure-openai:gpt-4.1", "openai", ["azure_openai", "openai"]),
        ("nobody/x", "openrouter", ["openrouter"]),
        (None, "openai", []),
    ],
)
def test_who_decides_where_a_name_goes(model: str | None, default: str, expected: list[str]) -> None:
    assert [provider.name for provider in named_providers(model, catalog(default))] == expected


NAMES = [
    "fast",
    "gpt-4.1",
    "openai:gpt-4.1",
    "openai/gpt-4.1",
    "corp:x",
    "llama3:8b",
    "anthropic/claude",
    "nobody/x",
    "a:b:c/d",
]


@given(
    st.sampled_from(NAMES) | st.text(st.sampled_from("abo:/-_pencrit1."), min_size=1, max_size=20),
    st.sampled_from(["openai", "openrouter", "ollama"]),
    st.frozensets(st.sampled_from(sorted(CONFIGURED))),
)
def test_only_the_named_providers_matter_and_the_name_is_never_changed(
    model: str, default: str, configured: frozenset[str]
) -> None:
    here = catalog(default)
    relevant = {provider.name for provider in named_providers(model, here)}
    outcomes: list[Route | str] = []
    for known in (configured, configured & relevant):
        try:
            outcomes.append(resolve(model, here, known))
        except ModelNotFound as error:
            outcomes.append(error.message)
    assert outcomes[0] == outcomes[1]
    route = outcomes[0]
    if isinstance(route, Route) and route.alias is None:
        (deployment,) = route.deployments
        assert model.endswith(deployment.model)
        assert deployment.provider in configured


@pytest.mark.parametrize(
    ("patterns", "model", "default", "expected"),
    [
        (None, "gpt-4.1", "openai", True),
        ((), "gpt-4.1", "openai", False),
        (("*",), "anything", "openai", True),
        (("fast",), "fast", "openai", True),
        (("fast",), "gpt-4.1", "openai", False),
        (("fa*",), "fast", "openai", True),
        (("Fast",), "fast", "openai", False),
        (("echo:*",), "echo:x", "openai", True),
        (("echo:*",), "echo/x", "openai", True),
        (("echo/*",), "echo:x", "openai", True),
        (("echo:*",), "gpt-4.1", "openai", False),
        (("echo:*",), "echoes", "openai", True),
        (("echo:*",), "echo-then-openai", "openai", False),  # its fallback is elsewhere
        (("echo:*", "openai:gpt-5"), "echo-then-openai", "openai", True),
        (("openai:*",), "fast", "openai", False),  # one deployment of two
        (("openai:*", "corp:*"), "fast", "openai", True),
        (("openai:*",), "openai:gpt-4o", "openai", True),  # the operator gave an alias this name
        (("azure-openai/*",), "azure_openai:gpt-4.1", "openai", True),
        (("gpt-4*",), "gpt-4.1", "openai", True),
        (("gpt-4*",), "azure_openai:gpt-4.1", "openai", False),
        (("llama3:*",), "llama3:8b", "ollama", True),
        (("openai:gpt-4.1",), "gpt-4.1", "openai", True),
        (("meta-llama/*",), "meta-llama/Llama-3.3-70B", "openrouter", True),
        (("openrouter:anthropic/*",), "anthropic/claude", "openrouter", True),
        # What looks like a provider's model must reach that provider.
        (("mistral:*",), "mistral:small", "openrouter", False),
        (("anthropic/*",), "anthropic/claude", "openrouter", False),
    ],
)
def test_what_a_key_may_use(patterns: tuple[str, ...] | None, model: str, default: str, expected: bool) -> None:
    assert allowed(patterns, resolve(model, catalog(default), CONFIGURED)) is expected


def test_switching_a_provider_off_opens_no_other() -> None:
    off = catalog("openai", echo={"enabled": False})
    route = resolve("echo:gpt-4.1", off, CONFIGURED)
    assert route.deployments == (Deployment("openai", "echo:gpt-4.1"),)
    assert not allowed(("echo:*",), route)
    assert allowed(("openai:*",), route)


@given(st.text(st.sampled_from("echo:/-_*?[]gpt4.ain"), max_size=20))
def test_no_spelling_leads_a_restricted_key_elsewhere(model: str) -> None:
    try:
        route = resolve(model, catalog(default_model="fast"), CONFIGURED)
    except ModelNotFound:
        return
    if allowed(("echo:*",), route):
        assert {deployment.provider for deployment in route.deployments} == {"echo"}


@pytest.mark.parametrize(
    ("providers", "model", "left"),
    [
        (None, "fast", ["corp", "openai"]),
        (("corp", "openai", "groq"), "fast", ["corp", "openai"]),
        (("openai",), "fast", ["openai"]),
        (("openai",), "gpt-4.1", ["openai"]),
        (("corp",), "openai:gpt-4.1", []),
        (("openai",), "openai:gpt-4o", []),  # an alias that leads to corp
        ((), "fast", []),
    ],
)
def test_a_key_with_providers_keeps_to_them(providers: tuple[str, ...] | None, model: str, left: list[str]) -> None:
    found = within(providers, resolve(model, catalog(), CONFIGURED))
    assert [each.provider for each in found.deployments] == left if found is not None else left == []
