"""Keys by either way: the control plane of a gateway, or the tables themselves with AWS credentials.

The tables' way needs no key, so it is how the first one is made. Both give a key as
`{name, state, role, team, user, owner, expires_at, models, providers, …}`.
"""

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from llm_gateway.cli.client import Gateway, segment
from llm_gateway.cli.failures import Refused
from llm_gateway.local.key_life import create_key, list_keys, revoke_key, rotate_key, switch_key
from llm_gateway.local.place import Place, with_registry

if TYPE_CHECKING:
    from llm_gateway.domain.identity import VirtualKey


@dataclass(frozen=True, slots=True, kw_only=True)
class NewKey:
    """What a key is to be; `spending` are `limits` and `budget`, as in gateway.toml."""

    name: str
    role: str = "caller"
    team: str | None = None
    owner: str | None = None
    models: tuple[str, ...] | None = None
    providers: tuple[str, ...] | None = None
    expires_at: int | None = None
    """Unix seconds."""
    spending: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """A token, shown once, and the base URL for SDKs where it is known."""

    name: str
    token: str
    base_url: str | None
    others_end_at: int | None = None
    """Of a rotation: when the ones before it end (Unix seconds)."""


class Keys(Protocol):
    def create(self, key: NewKey) -> Made: ...
    def rotate(self, name: str, overlap_s: int) -> Made: ...
    def switch(self, name: str, *, enabled: bool) -> None: ...
    def revoke(self, name: str) -> None: ...
    def all(self) -> Iterable[dict[str, Any]]: ...
    def is_own(self, name: str) -> bool:
        """Whether it is the name of the key that this command, or those beside it, call with."""
        ...


class KeysByGateway:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def create(self, key: NewKey) -> Made:
        body: dict[str, Any] = {"name": key.name, "role": key.role, **key.spending}
        for name in ("team", "owner", "models", "providers"):
            if (value := getattr(key, name)) is not None:
                body[name] = value
        if key.expires_at is not None:
            body["expires_at"] = told_time(key.expires_at)
        return self._made(self._gateway.post("/admin/keys", body))

    def rotate(self, name: str, overlap_s: int) -> Made:
        now = int(time.time())
        made = self._made(self._gateway.post(f"/admin/keys/{segment(name)}/rotate", {"overlap_s": overlap_s}))
        return Made(made.name, made.token, made.base_url, now + overlap_s)

    def switch(self, name: str, *, enabled: bool) -> None:
        self._gateway.post(f"/admin/keys/{segment(name)}/{'enable' if enabled else 'disable'}")

    def revoke(self, name: str) -> None:
        self._gateway.call("DELETE", f"/admin/keys/{segment(name)}", headers={"if-match": "*"})

    def all(self) -> Iterable[dict[str, Any]]:
        return self._gateway.pages("/admin/keys")

    def is_own(self, name: str) -> bool:
        return own_key(self._gateway, [name]) is not None

    def _made(self, answer: dict[str, Any]) -> Made:
        return Made(answer["name"], answer["key"], self._gateway.target.base_url)


def own_key(gateway: Gateway, names: Iterable[str]) -> str | None:
    """Which of these keys the command calls with: by the public id of its token. None for none of them."""
    from llm_gateway.domain.identity import lookup_id

    if gateway.target.key is None:
        return None
    token = lookup_id(gateway.target.key)
    for name in names:
        try:
            tokens = gateway.get(f"/admin/keys/{segment(name)}").get("tokens")
        except Refused as error:
            if error.status == 404:
                continue
            raise
        if any(each.get("key_id") == token for each in tokens or ()):
            return name
    return None


class KeysByTables:
    def __init__(self, place: Place, own: str | None) -> None:
        """`own` is the token that the other commands call this gateway with; None where they have none."""
        self._place = place
        self._own = own

    def create(self, key: NewKey) -> Made:
        from llm_gateway.catalog.config import PendingKey
        from llm_gateway.domain.identity import Role

        role: Role = "admin" if key.role == "admin" else "team-admin" if key.role == "team-admin" else "caller"
        pending = PendingKey(
            key.name,
            role=role,
            team=key.team,
            owner=key.owner,
            models=key.models,
            providers=key.providers,
            expires_at=key.expires_at,
        )
        token = asyncio.run(with_registry(self._place, lambda registry: create_key(registry, pending)))
        return Made(key.name, token, self._place.base_url)

    def rotate(self, name: str, overlap_s: int) -> Made:
        now = time.time()
        made = asyncio.run(with_registry(self._place, lambda registry: rotate_key(registry, name, overlap_s, now)))
        return Made(name, made.token, self._place.base_url, made.others_end_at)

    def switch(self, name: str, *, enabled: bool) -> None:
        asyncio.run(with_registry(self._place, lambda registry: switch_key(registry, name, enabled=enabled)))

    def revoke(self, name: str) -> None:
        asyncio.run(with_registry(self._place, lambda registry: revoke_key(registry, name)))

    def all(self) -> Iterable[dict[str, Any]]:
        found = asyncio.run(with_registry(self._place, lambda registry: list_keys(registry, time.time())))
        return [_shown(key, state) for key, state in found]

    def is_own(self, name: str) -> bool:
        from llm_gateway.domain.identity import lookup_id

        if self._own is None:
            return False
        key_id = lookup_id(self._own)
        known = asyncio.run(with_registry(self._place, lambda registry: registry.find_key(key_id)))
        return known is not None and known.name == name


def _shown(key: "VirtualKey", state: str) -> dict[str, Any]:
    return {
        "name": key.name,
        "state": state,
        "role": key.role,
        "team": key.team,
        "user": key.user,
        "owner": key.owner,
        "expires_at": None if key.expires_at is None else told_time(key.expires_at),
        "models": None if key.models is None else list(key.models),
        "providers": None if key.providers is None else list(key.providers),
    }


def told_time(at: int) -> str:
    """RFC 3339, of Unix seconds."""
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%dT%H:%M:%SZ}"
