"""Specifies the groups of a route: the fallbacks an operator configured, and the models a request names itself."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_gateway.catalog.build import build_catalog
from llm_gateway.domain.catalog import Catalog, Deployment, Provider, Timeouts
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.errors import ModelNotFound, PermissionDenied
from llm_gateway.pipeline.catalog_source import CatalogSource
from llm_gateway.pipeline.dispatch import Dispatcher
from llm_gateway.pipeline.model_choice import ModelChoice
from llm_gateway.pipeline.models import ModelList
from llm_gateway.routing.permission import allowed, forbidden, within
from llm_gateway.routing.resolve import resolve
from llm_gateway.routing.route import Group, Route

CONFIGURED = frozenset({"corp", "openai", "echo"})


def catalog(off: str | None = None, /, **aliases: dict[str, Any]) -> Catalog:
    """Aliases have one deployment, `corp:<alias>`, unless they say another. The provider `off` is switched off."""
    documents = {name: {"deployments": [{"provider": "corp", "model": name}], **one} for name, one in aliases.items()}
    providers: dict[str, dict[str, Any]] = {"corp": {"base_url": "http://corp/v1"}}
    if off is not None:
        providers[off] = {"enabled": False}
    return build_catalog(
        [
            RegistryEntry("settings", "gateway", {"default_provider": "openai"}),
            *(RegistryEntry("provider", name, document) for name, document in providers.items()),
            *(RegistryEntry("model", name, document) for name, document in documents.items()),
        ],
        {},
    )


def names(groups: Sequence[Group]) -> list[str]:
    return [group.name for group in groups]


def route(model: str, here: Catalog, others: Sequence[str] = ()) -> Route:
    return resolve(model, here, CONFIGURED, others)


def test_fallbacks_are_followed_in_order_and_in_depth_each_once() -> None:
    here = catalog(
        fast={"fallbacks": ["smart", "openai:gpt-5", "last"]},
        smart={"fallbacks": ["big", "last"]},
        big={"fallbacks": ["openai:gpt-5"]},
        last={},
    )
    found = route("fast", here)
    assert names(found.groups) == ["fast", "smart", "big", "openai:gpt-5", "last"]
    assert found.groups[3].deployments == (Deployment("openai", "gpt-5"),)
    assert (found.context_groups, found.content_groups) == ((), ())
    assert found.deployments == found.groups[0].deployments


def test_a_group_has_its_own_ways_and_a_plain_model_those_of_the_alias_that_names_it() -> None:
    here = catalog(
        fast={"fallbacks": ["openai:gpt-5", "smart"], "timeouts": {"first_token_s": 3}, "retries": 0},
        smart={"timeouts": {"first_token_s": 7}, "stream_recovery": "restart"},
    )
    fast, gpt, smart = route("fast", here).groups
    assert (fast.timeouts, fast.retries, fast.recovery) == (Timeouts(first_token_s=3.0), 0, "continue")
    assert (gpt.timeouts, gpt.retries, gpt.recovery) == (fast.timeouts, 0, "continue")
    assert (smart.timeouts, smart.retries, smart.recovery) == (Timeouts(first_token_s=7.0), None, "restart")
    assert route("fast", here).timeouts == fast.timeouts


def test_each_kind_of_fallback_is_a_chain_of_its_own() -> None:
    here = catalog(
        fast={
            "fallbacks": ["smart"],
            "context_window_fallbacks": ["long"],
            "content_policy_fallbacks": ["open", "openai:gpt-5"],
        },
        smart={"context_window_fallbacks": ["longest"], "content_policy_fallbacks": ["echo:never"]},
        long={"context_window_fallbacks": ["longest"], "fallbacks": ["later", "fast"]},
        longest={},
        open={"fallbacks": ["smart"], "content_policy_fallbacks": ["wide"]},
        wide={},
        later={},
    )
    found = route("fast", here)
    assert names(found.groups) == ["fast", "smart"]
    # A larger model that is down has its own fallbacks; the one that was too small does not come back.
    assert names(found.context_groups) == ["long", "longest", "later"]
    # But nothing that is not named for it leads round a refusal.
    assert names(found.content_groups) == ["open", "wide", "openai:gpt-5"]


def test_a_circle_that_got_into_the_registry_ends() -> None:
    here = catalog(a={"fallbacks": ["b"]}, b={"fallbacks": ["a", "b"], "context_window_fallbacks": ["b"]})
    assert names(route("a", here).groups) == ["a", "b"]
    assert names(route("b", here).context_groups) == []


def test_who_does_not_serve_is_passed_over_and_the_first_fallback_leads() -> None:
    here = catalog(
        "openai",
        fast={
            "deployments": [{"provider": "openai", "model": "m"}],
            "fallbacks": ["openai:gpt-5", "nobody:x", "smart"],
        },
        smart={},
    )
    found = route("fast", here)
    assert (names(found.groups), found.deployments) == (["smart"], (Deployment("corp", "smart"),))
    with pytest.raises(ModelNotFound):
        route("fast", catalog("openai", fast={"deployments": [{"provider": "openai", "model": "m"}]}))


def test_a_requests_models_stand_in_the_place_of_all_configured_fallbacks() -> None:
    here = catalog(
        fast={
            "fallbacks": ["smart"],
            "context_window_fallbacks": ["smart"],
            "content_policy_fallbacks": ["smart"],
            "timeouts": {"idle_s": 3},
        },
        smart={"fallbacks": ["last"]},
        last={},
    )
    found = route("fast", here, ["openai/gpt-5", "gpt-4.1", "smart", "fast"])
    assert names(found.groups) == ["fast", "openai/gpt-5", "gpt-4.1", "smart"]
    assert [each.deployments[0].name for each in found.groups[1:]] == ["openai:gpt-5", "openai:gpt-4.1", "corp:smart"]
    assert (found.context_groups, found.content_groups) == ((), ())
    assert (found.requested, found.timeouts) == ("fast", Timeouts(idle_s=3.0))


def test_one_of_a_requests_models_that_nobody_serves_is_said() -> None:
    here = catalog("openai", fast={})
    with pytest.raises(ModelNotFound) as caught:
        route("fast", here, ["nobody/x"])
    assert (caught.value.param, "`nobody/x`" in caught.value.message) == ("models", True)
    with pytest.raises(ModelNotFound) as caught:
        route("nobody/x", here, ["fast"])
    assert caught.value.param == "model"


ALLOWING = catalog(
    fast={"fallbacks": ["smart", "openai:gpt-5"], "content_policy_fallbacks": ["echo:open"]},
    smart={"fallbacks": ["big"]},
    big={"deployments": [{"provider": "openai", "model": "big"}]},
)


@pytest.mark.parametrize(
    ("patterns", "stops_at"),
    [
        (None, None),
        (("fast",), None),  # an alias that is allowed by name brings its fallbacks
        (("corp:*", "openai:*", "echo:*"), None),
        (("corp:*", "openai:*"), "echo:open"),
        (("corp:*", "openai:gpt-5", "echo:*"), "big"),
        (("corp:fast", "smart", "openai:gpt-5", "echo:*"), None),  # smart's own fallback comes with it
        (("corp:fast", "openai:*", "echo:*"), "smart"),
        ((), "fast"),
    ],
)
def test_a_key_may_take_an_alias_whose_fallbacks_it_may_take(
    patterns: tuple[str, ...] | None, stops_at: str | None
) -> None:
    found = forbidden(patterns, route("fast", ALLOWING))
    assert (None if found is None else found.name) == stops_at
    assert allowed(patterns, route("fast", ALLOWING)) is (stops_at is None)


@pytest.mark.parametrize(
    ("patterns", "stops_at"),
    [
        (("fast",), "gpt-4.1"),
        (("fast", "gpt-4*"), "smart"),
        (("fast", "gpt-4*", "smart"), None),
        (("fast", "openai:*", "corp:*"), None),
    ],
)
def test_each_of_a_requests_models_must_be_allowed_by_itself(patterns: tuple[str, ...], stops_at: str | None) -> None:
    found = forbidden(patterns, route("fast", ALLOWING, ["gpt-4.1", "smart"]))
    assert (None if found is None else found.name) == stops_at


def test_a_key_with_providers_keeps_to_them_in_every_chain() -> None:
    here = catalog(
        fast={
            "deployments": [{"provider": "openai", "model": "m"}],
            "fallbacks": ["mixed"],
            "context_window_fallbacks": ["openai:long", "mixed"],
            "content_policy_fallbacks": ["openai:open"],
        },
        mixed={"deployments": [{"provider": "openai", "model": "m"}, {"provider": "corp", "model": "m"}]},
    )
    found = within(("corp",), route("fast", here))
    assert found is not None
    assert [(each.name, each.deployments) for each in found.groups] == [("mixed", (Deployment("corp", "m"),))]
    assert (names(found.context_groups), found.content_groups) == (["mixed"], ())
    assert within(("echo",), route("fast", here)) is None


ALIASES = ["a", "b", "c", "d"]
TARGETS = st.lists(st.sampled_from([*ALIASES, "openai:x", "echo:y", "nobody:z"]), max_size=3)
DOCUMENTS = st.fixed_dictionaries(
    {
        "deployments": st.just([]).flatmap(
            lambda _: st.lists(
                st.builds(lambda provider: {"provider": provider, "model": "m"}, st.sampled_from(["echo", "openai"])),
                min_size=1,
                max_size=2,
            )
        ),
        "fallbacks": TARGETS,
        "context_window_fallbacks": TARGETS,
        "content_policy_fallbacks": TARGETS,
    }
)


@given(
    st.fixed_dictionaries(dict.fromkeys(ALIASES, DOCUMENTS)), TARGETS, st.sets(st.sampled_from([*ALIASES, "echo:*"]))
)
def test_no_chain_leads_a_restricted_key_elsewhere(
    documents: dict[str, dict[str, Any]], others: list[str], patterns: set[str]
) -> None:
    here = catalog(**documents)
    try:
        found = route("a", here, others)
    except ModelNotFound:
        return
    chains = (found.groups, found.context_groups, found.content_groups)
    assert all(len(set(names(chain))) == len(chain) for chain in chains)
    assert all(group.deployments for chain in chains for group in chain)
    if allowed(tuple(patterns), found):
        reached = {each.provider for chain in chains for group in chain for each in group.deployments}
        assert reached == {"echo"} or patterns & set(ALIASES)
    at_echo = within(("echo",), found)
    if at_echo is not None:
        kept = (at_echo.groups, at_echo.context_groups, at_echo.content_groups)
        assert {each.provider for chain in kept for group in chain for each in group.deployments} == {"echo"}


@dataclass
class Providers:
    """Which providers can be called; stands in for the dispatcher."""

    configured: frozenset[str] = CONFIGURED
    asked: list[str] = field(default_factory=list)

    async def is_configured(self, provider: Provider, _team: str | None) -> bool:
        self.asked.append(provider.name)
        return provider.name in self.configured

    def what_is_missing(self, provider: Provider) -> str:
        return f"({provider.name} has no key)"


def key(**over: Any) -> VirtualKey:
    return VirtualKey(**{"key_id": "id", "name": "k", "key_hash": "h", "role": "caller", "team": None, **over})


async def test_the_choice_asks_for_every_name_and_says_which_one_is_not_allowed() -> None:
    providers = Providers()
    choice = ModelChoice(cast("Dispatcher", providers))
    found = await choice.choose("echo:x", ALLOWING, key(), ["gpt-4.1", "fast"])
    assert names(found.groups) == ["echo:x", "gpt-4.1", "fast"]
    assert providers.asked == ["echo", "openai"]
    with pytest.raises(PermissionDenied) as caught:
        await choice.choose("echo:x", ALLOWING, key(models=("echo:*",)), ["gpt-4.1"])
    assert (caught.value.param, caught.value.error_code) == ("models", "model_not_allowed")
    assert "`gpt-4.1`" in caught.value.message
    with pytest.raises(PermissionDenied) as caught:
        await choice.choose("fast", ALLOWING, key(models=("corp:*",)))
    assert (caught.value.param, "`fast`" in caught.value.message) == ("model", True)
    with pytest.raises(ModelNotFound) as missing:
        await ModelChoice(cast("Dispatcher", Providers(frozenset({"echo"})))).choose(
            "echo:x", ALLOWING, key(role="admin"), ["openai:gpt-5"]
        )
    assert (missing.value.param, "(openai has no key)" in missing.value.message) == ("models", True)


@dataclass
class Fixed:
    """A catalog that stays as it is, and a price book of nothing."""

    catalog: Catalog

    async def current(self) -> Catalog:
        return self.catalog

    def models(self, _price_as: str) -> Sequence[str]:
        return ()


@pytest.mark.parametrize(
    ("configured", "shown"),
    [
        ({"corp", "openai"}, {"fast": "corp", "plain": "corp"}),
        ({"openai"}, {"fast": "openai"}),
        (set(), {}),
    ],
)
async def test_an_alias_is_listed_where_anybody_on_its_route_can_be_called(
    configured: set[str], shown: dict[str, str]
) -> None:
    fixed = Fixed(catalog(fast={"fallbacks": ["openai:gpt-5"]}, plain={}))
    dispatcher = cast("Dispatcher", Providers(frozenset(configured)))
    listed = await ModelList(cast("CatalogSource", fixed), ModelChoice(dispatcher), dispatcher, fixed).all(key())
    assert {each["id"]: each["owned_by"] for each in listed} == shown
