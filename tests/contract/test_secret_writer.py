"""The contract of `ports.SecretWriter`, on the fake and on moto's Secrets Manager: a replacement is tried before it counts."""

from collections.abc import Callable
from uuid import uuid4

import pytest

from llm_gateway.adapters.aws_json import AwsJsonClient
from llm_gateway.adapters.memory import MemorySecrets
from llm_gateway.adapters.secrets_manager import SecretsManagerStore
from llm_gateway.adapters.secrets_writer import SecretsManagerWriter
from llm_gateway.domain.ports import SecretStore, SecretWriter
from llm_gateway.errors import NotFound
from tests.contract.conftest import AwsClients
from tests.contract.engines import MotoServer

CANARY = "sk-canary-5f3e2b10"


@pytest.fixture
def manager(aws: AwsClients, moto: MotoServer) -> AwsJsonClient:
    return aws(moto.url, "secretsmanager")


@pytest.fixture(params=["memory", "moto"])
def both(request: pytest.FixtureRequest) -> tuple[SecretWriter, SecretStore]:
    if request.param == "memory":
        memory = MemorySecrets()
        return memory, memory
    manager: AwsJsonClient = request.getfixturevalue("manager")
    return SecretsManagerWriter(manager, tags={"llm-gateway:stack": "stack"}), SecretsManagerStore(manager)


@pytest.fixture
def name() -> str:
    return f"stack/provider/{uuid4().hex[:8]}"


async def test_put_counts_at_once(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, store = both
    assert await writer.describe(name) is None
    versions = [await writer.put_secret(name, text) for text in ("sk-one", "sk-two")]
    assert await store.get_secret(name) == "sk-two"
    note = await writer.describe(name)
    assert note is not None
    assert (note.name, note.current, note.staged) == (name, versions[1], None)
    assert note.created_at is not None
    assert note.changed_at is not None


async def test_a_staged_one_counts_once_promoted(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, store = both
    first = await writer.put_secret(name, "sk-one")
    version = await writer.stage(name, "sk-two")
    assert await store.get_secret(name) == "sk-one"
    assert await writer.read_staged(name, version) == "sk-two"
    note = await writer.describe(name)
    assert note is not None
    assert (note.current, note.staged) == (first, version)
    for _ in range(2):
        await writer.promote(name, version)
        assert await store.get_secret(name) == "sk-two"
    note = await writer.describe(name)
    assert note is not None
    assert (note.current, note.staged) == (version, None)
    assert await writer.read_staged(name, version) is None
    third = await writer.stage(name, "sk-three")
    await writer.promote(name, third)
    assert await store.get_secret(name) == "sk-three"


async def test_a_discarded_one_never_counts(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, store = both
    current = await writer.put_secret(name, "sk-one")
    version = await writer.stage(name, "sk-two")
    for _ in range(2):
        await writer.discard(name, version)
    await writer.discard(name, current)
    assert await writer.read_staged(name, version) is None
    with pytest.raises(NotFound):
        await writer.promote(name, version)
    assert await store.get_secret(name) == "sk-one"


@pytest.mark.parametrize("by", ["stage", "put_secret"])
async def test_a_later_one_takes_the_staged_ones_place(
    both: tuple[SecretWriter, SecretStore], name: str, by: str
) -> None:
    writer, store = both
    await writer.put_secret(name, "sk-one")
    stale = await writer.stage(name, "sk-two")
    replace: Callable[..., object] = getattr(writer, by)
    later = await replace(name, "sk-three")  # type: ignore[misc] # one of two coroutines
    with pytest.raises(NotFound):
        await writer.promote(name, stale)
    assert await store.get_secret(name) == ("sk-one" if by == "stage" else "sk-three")
    note = await writer.describe(name)
    assert note is not None
    assert note.staged == (later if by == "stage" else None)


async def test_deleted_and_put_again(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, store = both
    assert await writer.delete_secret(name) is False
    await writer.put_secret(name, "sk-one")
    assert await writer.delete_secret(name) is True
    assert await writer.delete_secret(name) is False
    assert await store.get_secret(name) is None
    assert await writer.describe(name) is None
    with pytest.raises(NotFound):
        await writer.stage(name, "sk-two")
    await writer.put_secret(name, "sk-three")
    assert await store.get_secret(name) == "sk-three"


async def test_a_rotation_is_noted(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, _ = both
    with pytest.raises(NotFound):
        await writer.schedule_rotation(name, 1_900_000_000)
    await writer.put_secret(name, "sk-one")
    found = []
    for at in (1_900_000_000, 1_900_000_001, None):
        await writer.schedule_rotation(name, at)
        note = await writer.describe(name)
        found.append(None if note is None else note.rotate_after)
    assert found == [1_900_000_000, 1_900_000_001, None]


async def test_no_text_is_in_an_error_or_a_repr(both: tuple[SecretWriter, SecretStore], name: str) -> None:
    writer, _ = both
    with pytest.raises(NotFound) as missing:
        await writer.stage(name, CANARY)
    await writer.put_secret(name, CANARY)
    version = await writer.stage(name, CANARY)
    with pytest.raises(NotFound) as wrong:
        await writer.promote(name, version.replace(version[0], "0" if version[0] != "0" else "1"))
    shown = (missing.value, missing.value.__cause__, wrong.value, writer, vars(writer), await writer.describe(name))
    assert CANARY not in repr(shown)


async def test_what_is_made_here_has_the_stacks_tag(manager: AwsJsonClient, name: str) -> None:
    await SecretsManagerWriter(manager, tags={"llm-gateway:stack": "shop"}).put_secret(name, "sk-one")
    described = await manager.call("DescribeSecret", {"SecretId": name})
    assert described["Tags"] == [{"Key": "llm-gateway:stack", "Value": "shop"}]
