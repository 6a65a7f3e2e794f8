"""Specifies the life of a key: rotated with an overlap, disabled, enabled, listed; what an `apply` makes of it."""

import pytest
import typer

from llm_gateway.adapters.cached_registry import CachedRegistry
from llm_gateway.adapters.memory import MemoryRegistry
from llm_gateway.catalog.config import PendingKey, parse_config, pending_keys
from llm_gateway.cli.values import span
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id
from llm_gateway.errors import AuthenticationFailed
from llm_gateway.local.key_life import create_key, list_keys, rotate_key, switch_key
from llm_gateway.local.place import StackError
from llm_gateway.local.seed import issue
from llm_gateway.pipeline.auth import Authenticator
from tests.fakes.manual_clock import ManualClock

OLD = "sk-the-old-one"
BEFORE = VirtualKey(
    lookup_id(OLD),
    "prod",
    hash_key(OLD),
    role="team-admin",
    team="search",
    user="ann",
    models=("fast",),
    tags={"cost_center": "4711"},
    providers=("openai",),
    owner="ops",
    metadata={"ticket": "1"},
)


class Deployment:
    """A registry, and a gateway that remembers what it read for 30 seconds; both by one clock."""

    def __init__(self, *keys: VirtualKey) -> None:
        self.clock = ManualClock()
        self.registry = MemoryRegistry(keys=keys or (BEFORE,))
        self._auth = Authenticator(CachedRegistry(self.registry, clock=self.clock), "keys", self.clock)

    async def lets_in(self, token: str) -> bool:
        try:
            await self._auth.identify(token)
        except AuthenticationFailed:
            return False
        return True

    async def rotate(self, overlap_s: int) -> str:
        return (await rotate_key(self.registry, "prod", overlap_s, self.clock.now)).token

    async def states(self) -> list[tuple[str, str]]:
        return [(key.name, state) for key, state in await list_keys(self.registry, self.clock.now)]


@pytest.fixture
def deployed() -> Deployment:
    return Deployment()


class TestRotation:
    async def test_both_are_good_for_the_overlap_and_then_the_new_one_alone(self, deployed: Deployment) -> None:
        new = await deployed.rotate(3600)
        assert await deployed.lets_in(OLD)
        assert await deployed.lets_in(new)
        assert await deployed.states() == [("prod", "active"), ("prod", "rotated")]
        deployed.clock.now += 3599
        assert await deployed.lets_in(OLD)
        deployed.clock.now += 1
        assert not await deployed.lets_in(OLD)
        assert await deployed.lets_in(new)
        assert await deployed.states() == [("prod", "active")]

    async def test_the_new_one_may_what_the_old_one_may(self, deployed: Deployment) -> None:
        new = await deployed.rotate(60)
        found = await deployed.registry.find_key(lookup_id(new))
        assert found is not None
        assert found.matches(new)
        for field in ("name", "role", "team", "user", "models", "tags", "providers", "owner", "metadata", "expires_at"):
            assert getattr(found, field) == getattr(BEFORE, field)

    async def test_without_an_overlap_the_old_one_stops_within_30_seconds(self, deployed: Deployment) -> None:
        assert await deployed.lets_in(OLD)
        await deployed.rotate(0)
        deployed.clock.now += 30
        assert not await deployed.lets_in(OLD)

    async def test_a_second_rotation_ends_everything_before_it(self, deployed: Deployment) -> None:
        second = await deployed.rotate(7200)
        third = await deployed.rotate(60)
        deployed.clock.now += 59
        assert all([await deployed.lets_in(token) for token in (OLD, second, third)])
        deployed.clock.now += 1
        assert [await deployed.lets_in(token) for token in (OLD, second, third)] == [False, False, True]

    async def test_a_second_rotation_lengthens_nothing(self, deployed: Deployment) -> None:
        await deployed.rotate(60)
        await deployed.rotate(7200)
        deployed.clock.now += 60
        assert not await deployed.lets_in(OLD)

    async def test_what_has_ended_is_cleared_away_by_the_next_one(self, deployed: Deployment) -> None:
        await deployed.rotate(60)
        deployed.clock.now += 61
        await deployed.rotate(60)
        assert await deployed.registry.find_key(lookup_id(OLD)) is None
        assert len(await deployed.registry.list_keys()) == 2

    async def test_an_expiry_of_the_keys_own_stays(self) -> None:
        expiring = Deployment(VirtualKey(BEFORE.key_id, "prod", BEFORE.key_hash, expires_at=1100))
        new = await expiring.rotate(3600)
        expiring.clock.now = 1100
        assert not await expiring.lets_in(OLD)
        assert not await expiring.lets_in(new)

    async def test_of_an_expired_key_is_refused(self) -> None:
        expired = Deployment(VirtualKey(BEFORE.key_id, "prod", BEFORE.key_hash, expires_at=999))
        with pytest.raises(StackError, match="the key prod has expired"):
            await expired.rotate(3600)
        assert len(await expired.registry.list_keys()) == 1

    async def test_of_a_disabled_key_opens_nothing_old(self, deployed: Deployment) -> None:
        await switch_key(deployed.registry, "prod", enabled=False)
        new = await deployed.rotate(3600)
        assert [await deployed.lets_in(token) for token in (OLD, new)] == [False, True]
        await switch_key(deployed.registry, "prod", enabled=True)
        deployed.clock.now += 31
        assert not await deployed.lets_in(OLD)

    async def test_of_a_name_that_is_not_there_says_what_is(self, deployed: Deployment) -> None:
        with pytest.raises(StackError, match=r'there is no key named prd \(did you mean "prod"\?\)'):
            await rotate_key(deployed.registry, "prd", 0, 0)


class TestSwitch:
    async def test_a_disabled_key_stops_within_30_seconds_with_all_its_tokens(self, deployed: Deployment) -> None:
        new = await deployed.rotate(3600)
        assert all([await deployed.lets_in(token) for token in (OLD, new)])
        await switch_key(deployed.registry, "prod", enabled=False)
        deployed.clock.now += 30
        assert [await deployed.lets_in(token) for token in (OLD, new)] == [False, False]
        assert await deployed.states() == [("prod", "disabled")]

    async def test_on_again(self, deployed: Deployment) -> None:
        await switch_key(deployed.registry, "prod", enabled=False)
        await switch_key(deployed.registry, "prod", enabled=True)
        assert await deployed.lets_in(OLD)

    async def test_of_a_name_that_is_not_there(self, deployed: Deployment) -> None:
        with pytest.raises(StackError, match="there is no key named zzz"):
            await switch_key(deployed.registry, "zzz", enabled=False)


class TestApply:
    """What the file's keys become, where there are keys of that name."""

    async def renew(self, deployed: Deployment, text: str) -> int:
        issued, made = issue(pending_keys(parse_config(text, "gateway.toml")), await deployed.registry.list_keys())
        for key in issued:
            await deployed.registry.put_key(key)
        return len(made)

    async def test_a_rotated_key_keeps_both_tokens_and_the_overlap(self, deployed: Deployment) -> None:
        new = await deployed.rotate(3600)
        text = '[keys.prod]\nmodels = ["smart"]\nexpires_at = 2099-01-01T00:00:00Z'
        assert await self.renew(deployed, text) == 0
        found = await deployed.registry.find_key(lookup_id(OLD))
        assert found is not None
        assert (found.models, found.rotated, found.expires_at) == (("smart",), True, 4600)
        assert all([await deployed.lets_in(token) for token in (OLD, new)])
        deployed.clock.now += 3600
        assert [await deployed.lets_in(token) for token in (OLD, new)] == [False, True]

    async def test_a_disabled_key_stays_so_until_the_file_says_otherwise(self, deployed: Deployment) -> None:
        await switch_key(deployed.registry, "prod", enabled=False)
        await self.renew(deployed, "[keys.prod]")
        assert not await deployed.lets_in(OLD)
        await self.renew(deployed, "[keys.prod]\nenabled = true")
        deployed.clock.now += 31
        assert await deployed.lets_in(OLD)

    async def test_what_was_rotated_while_disabled_stays_shut(self, deployed: Deployment) -> None:
        await switch_key(deployed.registry, "prod", enabled=False)
        new = await deployed.rotate(3600)
        await self.renew(deployed, "[keys.prod]\nenabled = true")
        assert [await deployed.lets_in(token) for token in (OLD, new)] == [False, True]

    async def test_the_file_may_disable_all_of_them(self, deployed: Deployment) -> None:
        new = await deployed.rotate(3600)
        await self.renew(deployed, "[keys.prod]\nenabled = false")
        assert [await deployed.lets_in(token) for token in (OLD, new)] == [False, False]


@pytest.mark.parametrize(
    ("key", "told"),
    [
        (PendingKey("prod"), "there is a key named prod already"),
        (PendingKey(" "), "a key needs a name"),
        (PendingKey("a\nb"), "a key needs a name"),
        (PendingKey("new", team="nobody"), "there is no team nobody here"),
        (PendingKey("new", models=("",)), "--model must name a model"),
        (PendingKey("new", providers=("opnai",)), r'opnai is not a provider \(did you mean "openai"\?\)'),
    ],
)
async def test_a_key_that_cannot_be_made(deployed: Deployment, key: PendingKey, told: str) -> None:
    with pytest.raises(StackError, match=told):
        await create_key(deployed.registry, key)
    assert list(await deployed.registry.list_keys()) == [BEFORE]


@pytest.mark.parametrize(("text", "expected"), [("45s", 45), ("30m", 1800), ("1h", 3600), ("7d", 604800), ("0", 0)])
def test_a_span_of_time(text: str, expected: int) -> None:
    assert span(text) == expected


@pytest.mark.parametrize(
    "text", ["", "1", "h", "-1h", "1.5h", "1w", "1h30m", "3661d", "99999999d", "999999999999d", "\u0661h"]
)
def test_what_is_no_span_of_time(text: str) -> None:
    with pytest.raises(typer.BadParameter, match=r"is no span of time|longer than ten years"):
        span(text)
