"""Specifies whose keys a call may use, in which order, and where one could be put."""

import json
from dataclasses import replace

import pytest

from llm_gateway.adapters.cached_secrets import CachedSecrets
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import ProviderKeyUnreadable
from llm_gateway.pipeline.provider_keys import EnvironmentKeys, FirstKeys, GivenKeys, KeyResolver, stack_keys
from tests.fakes.manual_clock import ManualClock

OPENAI = Provider("openai", "openai_chat", "https://openai.example/v1", secret="openai")
GEMINI = Provider("gemini_openai", "openai_chat", "https://gemini.example/v1", secret="gemini")


async def texts(keys: KeyResolver, provider: Provider = OPENAI, team: str | None = None) -> list[tuple[str, str]]:
    return [(key.source, key.text) for key in await keys.resolve(provider, team)]


async def test_a_teams_own_then_the_stacks() -> None:
    stored = {"gw/provider/openai": "sk-stack", "gw/provider/gemini": "sk-g", "gw/team/search/openai": "sk-own"}
    keys = stack_keys(CachedSecrets(MemorySecrets(stored)), "gw")
    assert await texts(keys, OPENAI, "search") == [("team", "sk-own")]
    assert await texts(keys, OPENAI, "ads") == [("system", "sk-stack")]
    assert await texts(keys, OPENAI, None) == [("system", "sk-stack")]
    assert await texts(keys, GEMINI, "search") == [("system", "sk-g")], "rows of one vendor share its secret"
    assert keys.places(OPENAI, "search") == ("the secret `gw/team/search/openai`", "the secret `gw/provider/openai`")


async def test_a_name_that_no_secret_can_have_is_no_key() -> None:
    keys = stack_keys(CachedSecrets(MemorySecrets({"gw/provider/openai": "sk-stack"})), "gw")
    assert await texts(keys, OPENAI, "t" * 600) == [("system", "sk-stack")]


async def test_one_that_cannot_be_read_is_read_again_soon_and_never_replaced_by_the_stacks() -> None:
    clock = ManualClock()
    store = MemorySecrets({"gw/provider/openai": "sk-stack", "gw/team/search/openai": '{"keys": []}'})
    keys = stack_keys(CachedSecrets(store, clock=clock), "gw")
    for _ in range(3):
        with pytest.raises(ProviderKeyUnreadable, match="`openai` cannot be read"):
            await keys.resolve(OPENAI, "search")
    store.put("gw/team/search/openai", "sk-own")
    clock.now += 6
    with pytest.raises(ProviderKeyUnreadable):
        await keys.resolve(OPENAI, "search")
    assert await texts(keys, OPENAI, "search") == [("team", "sk-own")]


VERTEX = Provider("google_vertex", "gemini_generate_content", "https://v.example", "oauth", secret="google_vertex")
FEDERATION = '{"type":"external_account","token_url":"https://sts.googleapis.com/v1/token"}'
SEVERAL = json.dumps({"keys": [{"key": FEDERATION}]})


@pytest.mark.parametrize("text", [FEDERATION, SEVERAL])
async def test_a_team_does_not_call_as_the_gateways_own_role(text: str) -> None:
    """However it got in: a file of that kind makes the gateway's AWS role sign."""
    store = MemorySecrets({"gw/team/search/google_vertex": text, "gw/provider/google_vertex": FEDERATION})
    keys = stack_keys(CachedSecrets(store), "gw")
    with pytest.raises(ProviderKeyUnreadable, match="proves the gateway's own AWS role"):
        await keys.resolve(VERTEX, "search")
    assert await texts(keys, VERTEX, "ads") == [("system", FEDERATION)]


async def test_what_one_provider_reads_is_not_taken_for_anothers_of_the_same_secret() -> None:
    """`bearer` reads a text that for `oauth` is refused."""
    keys = stack_keys(CachedSecrets(MemorySecrets({"gw/team/search/google_vertex": SEVERAL})), "gw")
    bearer = replace(VERTEX, name="other", credential="bearer")
    assert await texts(keys, bearer, "search") == [("team", FEDERATION)]
    with pytest.raises(ProviderKeyUnreadable):
        await keys.resolve(VERTEX, "search")


async def test_the_environments() -> None:
    keys = EnvironmentKeys({"OPENAI_API_KEY": " sk-env\n", "GEMINI_API_KEY": ""})
    assert await texts(keys) == [("environment", "sk-env")]
    assert await texts(keys, Provider("gemini", "openai_chat", None)) == []
    assert keys.places(OPENAI, None) == ("the environment variable OPENAI_API_KEY",)
    assert keys.places(Provider("corp", "openai_chat", None), None) == ()


async def test_a_variable_may_hold_several() -> None:
    keys = EnvironmentKeys({"OPENAI_API_KEY": '{"keys": ["sk-1", "sk-2"]}'})
    assert await texts(keys) == [("environment", "sk-1"), ("environment", "sk-2")]


async def test_what_is_given_with_a_call_comes_first_and_is_one_providers() -> None:
    keys = FirstKeys(GivenKeys({"openai": "sk-given"}), EnvironmentKeys({"GEMINI_API_KEY": "sk-env"}))
    assert await texts(keys) == [("given", "sk-given")]
    gemini = Provider("gemini", "gemini_generate_content", None)
    assert await texts(keys, gemini) == [("environment", "sk-env")]


async def test_no_key_is_in_a_repr() -> None:
    keys = FirstKeys(GivenKeys({"openai": "sk-given"}), EnvironmentKeys({"OPENAI_API_KEY": "sk-env"}))
    for thing in (keys, *await keys.resolve(OPENAI, None)):
        assert "sk-" not in repr(thing)
