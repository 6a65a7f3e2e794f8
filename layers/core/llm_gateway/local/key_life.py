"""The life of a caller's key: made and shown once, replaced with an overlap, switched off and on.

Limits, budgets and usage go by a key's name, so a rotated key keeps them. Whatever is done here counts everywhere
within 30 seconds: that long a gateway may remember a key. Every function raises `errors.Unavailable`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from llm_gateway.adapters.registry_edits import command_event
from llm_gateway.catalog.config import PendingKey
from llm_gateway.catalog.faults import did_you_mean
from llm_gateway.catalog.providers import canonical, provider_rows
from llm_gateway.domain.identity import KeyState, VirtualKey, hash_key, lookup_id, new_token
from llm_gateway.domain.ports import Registry, RegistryEditor
from llm_gateway.domain.revisions import Delete
from llm_gateway.errors import RevisionConflict
from llm_gateway.local.place import StackError

_TRIES: Final = 5


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new token, to be shown once, and when those before it end (Unix seconds)."""

    token: str
    others_end_at: int


async def create_key(registry: Registry, key: PendingKey) -> str:
    """A new key, to be shown once. Raises `StackError`, also where there is one of that name."""
    if not key.name.strip() or not key.name.isprintable():
        raise StackError("a key needs a name of printable characters")
    if key.models is not None and not all(pattern.strip() for pattern in key.models):
        raise StackError("--model must name a model or a pattern")
    catalog = await registry.load_catalog()
    if key.team is not None and key.team not in {entry.name for entry in catalog if entry.kind == "team"}:
        raise StackError(f"there is no team {key.team} here; apply a gateway.toml that has it")
    providers = {*provider_rows(), *(entry.name for entry in catalog if entry.kind == "provider")}
    for name in key.providers or ():
        if canonical(name) not in providers:
            raise StackError(f"{name} is not a provider{did_you_mean(canonical(name), providers)}")
    if any(one.name == key.name for one in await registry.list_keys()):
        raise StackError(f"there is a key named {key.name} already: choose another name with --name")
    token = new_token()
    await registry.put_key(key.issue(token))
    return token


async def rotate_key(registry: Registry, name: str, overlap_s: int, now: float) -> Rotation:
    """Another token of the same name; the ones before it are good for `overlap_s` more, unless they were disabled.

    The new one is there before the old ones end: whatever breaks off between, somebody can still call. Raises
    `StackError` for a name that is not there, or whose key has expired.
    """
    known = await _named(registry, name)
    current = next((one for one in known if not one.rotated), None)
    if current is None:
        raise StackError(f"the key {name} has only rotated tokens: apply a gateway.toml that has it, which makes one")
    if current.expires_at is not None and current.expires_at <= now:
        raise StackError(f"the key {name} has expired: apply a gateway.toml with a later expires_at, then rotate")
    token, ends_at = new_token(), int(now) + overlap_s
    await registry.put_key(replace(current, key_id=lookup_id(token), key_hash=hash_key(token), enabled=True))
    for one in known:
        if one.rotated and one.state(now) == "expired":
            await registry.delete_key(one.key_id)
            continue
        end = ends_at if one.enabled else int(now)
        end = end if one.expires_at is None else min(end, one.expires_at)
        await registry.put_key(replace(one, rotated=True, expires_at=end))
    return Rotation(token, ends_at if current.enabled else int(now))


async def switch_key(registry: Registry, name: str, *, enabled: bool) -> None:
    """Off with all of its tokens, or on again with those that have not been rotated. Raises `StackError`."""
    for one in await _named(registry, name):
        if not (enabled and one.rotated):
            await registry.put_key(replace(one, enabled=enabled))


async def revoke_key(registry: RegistryEditor, name: str) -> None:
    """Ends it for good: every token of the name, and its limits, in one revision. Raises `StackError`."""
    for tries_left in reversed(range(_TRIES)):
        now = await registry.read()
        known = list(now.keys())
        tokens = [one.key_id for one in known if one.name == name]
        if not tokens and ("key", name) not in now.entries:
            raise StackError(f"there is no key named {name}{did_you_mean(name, {one.name for one in known})}")
        changes = [Delete("key", name), *(Delete("token", key_id) for key_id in tokens)]
        try:
            await registry.commit(changes, now.revision, command_event("key.delete", "key", name))
        except RevisionConflict:
            if not tries_left:
                raise
        else:
            return


async def list_keys(registry: Registry, now: float) -> Sequence[tuple[VirtualKey, KeyState]]:
    """All keys by name, but those whose overlap is over."""
    found = [(one, one.state(now)) for one in await registry.list_keys()]
    shown = [(one, state) for one, state in found if not (one.rotated and state != "rotated")]
    return sorted(shown, key=lambda each: (each[0].name, each[0].rotated, each[0].expires_at or 0))


async def _named(registry: Registry, name: str) -> list[VirtualKey]:
    keys = await registry.list_keys()
    found = [one for one in keys if one.name == name]
    if not found:
        raise StackError(f"there is no key named {name}{did_you_mean(name, {one.name for one in keys})}")
    return found
