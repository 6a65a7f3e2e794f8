"""What a local stack starts with: keys that open the door, what the registry holds, secrets of the environment."""

from pathlib import Path

import pytest

from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.catalog.config import GatewayConfig, parse_config
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.domain.ports import RegistryEntry
from llm_gateway.local.embedded_address import EmbeddedAddress, clean
from llm_gateway.local.embedded_state import touched
from llm_gateway.local.seed import masked, provider_keys, seed_registry, seeded_keys

TOKEN = "sk-search-prod-for-local-use"


def config(text: str) -> GatewayConfig:
    return parse_config(text, "gateway.toml")


def key(token: str, name: str, role: str = "caller") -> VirtualKey:
    return VirtualKey(lookup_id(token), name, hash_key(token), role=role)  # type: ignore[arg-type] # a role by its text


async def opens(registry: MemoryRegistry, token: str) -> VirtualKey | None:
    found = await registry.find_key(lookup_id(token))
    return found if found is not None and found.matches(token) else None


async def names(registry: MemoryRegistry) -> set[tuple[str, str]]:
    return {(entry.kind, entry.name) for entry in await registry.load_catalog()}


class TestTheLocalKey:
    async def test_it_is_an_administrators(self) -> None:
        registry = MemoryRegistry()
        assert await seed_registry(registry, "sk-local", None) == []
        found = await opens(registry, "sk-local")
        assert found is not None
        assert (found.name, found.role) == ("local", "admin")

    async def test_another_one_replaces_it(self) -> None:
        registry = MemoryRegistry()
        await seed_registry(registry, "sk-local", None)
        await seed_registry(registry, "sk-mine-and-secret", None)
        assert await opens(registry, "sk-local") is None
        assert await opens(registry, "sk-mine-and-secret") is not None

    async def test_it_stays_an_administrators_where_the_file_gives_the_same_key(self) -> None:
        registry = MemoryRegistry()
        await seed_registry(registry, "sk-local", config('[keys.mine]\nkey = "sk-local"'))
        found = await opens(registry, "sk-local")
        assert found is not None
        assert found.role == "admin"

    @pytest.mark.parametrize(
        ("token", "shown"), [("sk-a-long-secret-abcd", "sk-…abcd"), ("sk-short", "sk-…"), ("x", "sk-…")]
    )
    def test_a_users_own_is_shown_masked(self, token: str, shown: str) -> None:
        assert masked(token) == shown


class TestTheFile:
    async def test_the_registry_holds_exactly_what_it_says(self) -> None:
        stale = RegistryEntry("model", "gone", {"deployments": []})
        registry = MemoryRegistry([stale], [key("sk-old-key-from-file", "old")])
        text = f'[models.fast]\ndeployments = [{{ provider = "echo", model = "demo" }}]\n[keys.prod]\nkey = "{TOKEN}"'
        await seed_registry(registry, "sk-local", config(text))
        assert await names(registry) == {("settings", "gateway"), ("model", "fast")}
        assert {one.name for one in await registry.list_keys()} == {"local", "prod"}
        assert await opens(registry, TOKEN) is not None

    async def test_what_was_removed_is_told_in_one_line(self) -> None:
        stale = [RegistryEntry("team", name, {}) for name in ("ads", "search")]
        keys = [key(TOKEN, "prod"), key("sk-another-key-of-prod", "prod"), key("sk-old", "local", "admin")]
        registry = MemoryRegistry(stale, keys)
        told: list[str] = []
        await seed_registry(registry, "sk-local", config("[teams.search]"), told.append)
        assert told == ["llm-gateway removed 2 things that the file does not name: key prod, team ads"]
        for same in (config("[teams.search]"), None):
            await seed_registry(registry, "sk-local", same, told.append)
        assert len(told) == 1

    async def test_none_leaves_what_was_applied_before(self) -> None:
        registry = MemoryRegistry([RegistryEntry("model", "fast", {})], [key(TOKEN, "prod")])
        await seed_registry(registry, "sk-local", None)
        assert await names(registry) == {("model", "fast")}
        assert {one.name for one in await registry.list_keys()} == {"local", "prod"}

    async def test_a_key_without_a_token_is_made_once_and_follows_the_file(self) -> None:
        registry = MemoryRegistry()
        made = await seed_registry(registry, "sk-local", config('[keys.ci]\nmodels = ["echo:*"]'))
        assert [name for name, _ in made] == ["ci"]
        [(_, token)] = made
        assert await seed_registry(registry, "sk-local", config('[keys.ci]\nmodels = ["fast"]')) == []
        found = await opens(registry, token)
        assert found is not None
        assert found.models == ("fast",)
        assert await seed_registry(registry, "sk-local", config("")) == []
        assert await opens(registry, token) is None

    async def test_a_key_that_is_called_local_is_not_the_administrators(self) -> None:
        registry = MemoryRegistry()
        await seed_registry(registry, "sk-local", None)
        [(name, token)] = await seed_registry(registry, "sk-local", config('[keys.local]\nmodels = ["echo:*"]'))
        found = await opens(registry, token)
        assert name == "local"
        assert found is not None
        assert found.role == "caller"
        assert await opens(registry, "sk-local") is not None


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        pytest.param({}, {}, id="none"),
        pytest.param({"OPENAI_API_KEY": "k1"}, {"openai": "k1"}, id="a-row's"),
        pytest.param({"OPENAI_API_KEY": ""}, {}, id="an-empty-one-is-none"),
        pytest.param({"CORP_API_KEY": "k2", "OTHER_API_KEY": "k3"}, {"corp": "k2"}, id="the-file's"),
        pytest.param({"MY_OPENAI": "mine", "OPENAI_API_KEY": "k1"}, {"openai": "mine"}, id="the-file's-comes-first"),
    ],
)
def test_secrets_come_from_the_environment(environ: dict[str, str], expected: dict[str, str]) -> None:
    text = (
        '[providers.corp]\ndialect = "openai_chat"\nbase_url = "https://llm.corp.example/v1"\n'
        'api_key_env = "CORP_API_KEY"\n[providers.openai]\napi_key_env = "MY_OPENAI"'
    )
    assert provider_keys(config(text).api_key_env(), environ) == expected


def test_teams_have_keys_of_their_own() -> None:
    text = """
    [providers.anthropic_vertex]
    base_url = "https://vertex.example/v1"
    api_key_env = "VERTEX"
    [providers.mine]
    like = "gemini_openai"
    base_url = "https://mine.example/v1"
    [teams.search.providers.openai]
    api_key_env = "SEARCH_OPENAI"
    [teams.search.providers.gemini-openai]
    api_key_env = "SEARCH_GEMINI"
    [teams.search.providers.mine]
    api_key_env = "SEARCH_MINE"
    [teams."a b".providers.openai]
    api_key_env = "OTHER"
    [teams.none.providers.openai]
    api_key_env = "NOT_SET"
    """
    environ = {"OPENAI_API_KEY": "k0", "VERTEX": "k5", "OTHER": "k4"} | {
        f"SEARCH_{name}": f"k{place}" for place, name in enumerate(("OPENAI", "GEMINI", "MINE"), 1)
    }
    assert seeded_keys(config(text), "gw", environ) == {
        "gw/provider/openai": "k0",
        "gw/provider/google_vertex": "k5",
        "gw/team/search/openai": "k1",
        "gw/team/search/gemini": "k2",
        "gw/team/search/mine": "k3",
        "gw/team/a=20b/openai": "k4",
    }


async def test_the_names_of_variables_are_stored_of_providers_and_not_of_teams() -> None:
    registry = MemoryRegistry()
    text = '[providers.openai]\napi_key_env = "MINE"\n[teams.search]\ndescription = "d"\n[teams.search.providers.openai]\napi_key_env = "SEARCH_OPENAI"'
    await seed_registry(registry, "sk-local", config(text))
    found = {entry.kind: entry.document for entry in await registry.load_catalog()}
    assert found["provider"] == {"api_key_env": "MINE", "enabled": True}
    assert found["team"] == {"description": "d"}


def test_the_embedded_aws_is_started_without_anybodys_keys() -> None:
    environ = {"PATH": "/bin", "AWS_PROFILE": "prod", "XAI_API_KEY": "k", "MOTO_PORT": "1", "GITHUB_TOKEN": "t"}
    assert clean(environ) == {"PATH": "/bin"}


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}', "[]"])
def test_an_address_that_cannot_be_read_is_none(text: str, tmp_path: Path) -> None:
    (tmp_path / "aws.json").write_text(text)
    assert EmbeddedAddress.read(tmp_path / "aws.json") is None


A, B = {"pk": {"S": "a"}}, {"pk": {"S": "b"}}


@pytest.mark.parametrize(
    ("operation", "request_", "expected"),
    [
        ("PutItem", {"TableName": "t", "Item": A}, [("t", A)]),
        ("UpdateItem", {"TableName": "t", "Key": A}, [("t", A)]),
        ("DeleteItem", {"TableName": "t", "Key": A}, [("t", A)]),
        (
            "BatchWriteItem",
            {"RequestItems": {"t": [{"PutRequest": {"Item": A}}], "u": [{"DeleteRequest": {"Key": B}}]}},
            [("t", A), ("u", B)],
        ),
        (
            "TransactWriteItems",
            {
                "TransactItems": [
                    {"Put": {"TableName": "t", "Item": A}},
                    {"ConditionCheck": {"TableName": "t", "Key": B}},
                    {"Delete": {"TableName": "u", "Key": B}},
                ]
            },
            [("t", A), ("u", B)],
        ),
        ("GetItem", {"TableName": "t", "Key": A}, []),
        ("Query", {"TableName": "t"}, []),
    ],
)
def test_what_a_request_may_have_changed(operation: str, request_: dict[str, object], expected: list[object]) -> None:
    assert list(touched(operation, request_)) == expected
