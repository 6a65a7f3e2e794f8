"""Keys of callers: what a name may do is its table, what opens the door are its tokens, each shown once."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from llm_gateway.admin import wire
from llm_gateway.admin.access import check_key_edit, sees_key
from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.crud import Crud
from llm_gateway.admin.draft import Draft, read_time
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.rendering import as_json, shown_time, stamps
from llm_gateway.catalog.schema import Table
from llm_gateway.domain.identity import VirtualKey, hash_key, lookup_id, new_token
from llm_gateway.domain.revisions import StoredEntry
from llm_gateway.errors import InvalidRequest

_DEFAULT_OVERLAP_S = 3600


class KeyResource:
    """A key's JSON is its table with its tokens, of which only the public ids are told. `now` is in Unix seconds."""

    noun = "key"
    name_member: str | None = "name"
    body: type[Table] = wire.KeyBody
    answer: type[Table] = wire.Key

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now

    def name(self, path: Mapping[str, str]) -> str:
        return path["name"]

    def names(self, draft: Draft, path: Mapping[str, str]) -> list[str]:  # noqa: ARG002 - the protocol's
        return draft.names("key")

    def read(self, draft: Draft, name: str) -> dict[str, Any] | None:
        table = draft.table("key", name)
        return None if table is None else as_json(table)

    def write(self, draft: Draft, name: str, body: Mapping[str, Any]) -> None:
        draft.put("key", name, {**body, "expires_at": read_time(body.get("expires_at"))})

    def delete(self, draft: Draft, name: str) -> None:
        draft.delete("key", name)

    def entries(self, draft: Draft, name: str) -> Iterable[StoredEntry | None]:
        stored = draft.snapshot.entries
        return [stored.get(("key", name)), *(stored.get(("token", key.key_id)) for key in draft.tokens_of(name))]

    def configured(self, draft: Draft, name: str) -> bool:
        return any(each is not None for each in self.entries(draft, name))

    def place(self, name: str) -> tuple[str, ...]:
        return ("keys", name)

    def member(self, place: str) -> str:
        return place

    def document(self, draft: Draft, name: str, body: Mapping[str, Any]) -> dict[str, Any]:
        now, tokens = self._now(), sorted(draft.tokens_of(name), key=lambda key: (key.rotated, key.key_id))
        shown = [key for key in tokens if not (key.rotated and key.state(now) != "rotated")]
        return {
            "object": "key",
            "name": name,
            **body,
            "state": tokens[0].state(now) if tokens else "disabled",
            "tokens": [
                {"key_id": key.key_id, "state": key.state(now), "expires_at": shown_time(key.expires_at)}
                for key in shown
            ],
            **stamps(self.entries(draft, name)),
        }


class Keys:
    """What can be done with keys. A team's admin does it with those of its team."""

    def __init__(self, editing: Editing, now: Callable[[], float]) -> None:
        self._now = now
        self._crud = Crud(
            editing,
            KeyResource(now),
            visible=lambda ask, _name, body: sees_key(body, ask.confined_to),
            permit=lambda ask, name, before, after: check_key_edit(
                name, before, after, ask.confined_to, ask.actor.name
            ),
        )

    def handlers(self) -> dict[str, Handler]:
        return {
            **self._crud.handlers("key"),
            "create_key": self.create,
            "rotate_key": self.rotate,
            "disable_key": self.disable,
            "enable_key": self.enable,
        }

    async def create(self, ask: Ask) -> Reply:
        token = new_token()
        if ask.confined_to is not None and ask.body.get("team") is None:
            ask = replace(ask, body={**ask.body, "team": ask.confined_to})
        reply = await self._crud.created(ask, lambda draft, name: draft.make_token(name, token))
        return _shown_once(reply, token)

    async def rotate(self, ask: Ask) -> Reply:
        token = new_token()
        overlap_s = int(ask.body.get("overlap_s", _DEFAULT_OVERLAP_S))
        name = ask.path["name"]
        reply = await self._crud.touched(ask, lambda draft: _rotate(draft, name, token, int(self._now()), overlap_s))
        return _shown_once(reply, token)

    async def disable(self, ask: Ask) -> Reply:
        return await self._crud.touched(ask, lambda draft: _switch(draft, ask.path["name"], enabled=False))

    async def enable(self, ask: Ask) -> Reply:
        return await self._crud.touched(ask, lambda draft: _switch(draft, ask.path["name"], enabled=True))


def _shown_once(reply: Reply, token: str) -> Reply:
    document = {**(reply.document or {}), "key": token}
    # A repeated answer has no token: it would have to be stored, and nothing of a token is but its hash.
    return Reply(document, reply.etag, kept={**document, "key": None})


def _rotate(draft: Draft, name: str, token: str, now: int, overlap_s: int) -> None:
    """Another token; those before it end when the overlap does, or when they were to end anyway."""
    known = draft.tokens_of(name)
    current = next((key for key in known if not key.rotated), None)
    if current is None:
        raise InvalidRequest(f"The key `{name}` has no token that could be rotated: delete it, and create it anew.")
    if current.state(now) == "expired":
        raise InvalidRequest(f"The key `{name}` has expired: set a later `expires_at`, then rotate it.")
    draft.put_token(replace(current, key_id=lookup_id(token), key_hash=hash_key(token), enabled=True))
    for key in known:
        if key.rotated and key.state(now) == "expired":
            draft.delete_token(key.key_id)
        else:
            draft.put_token(replace(key, rotated=True, expires_at=_end(key, now, overlap_s)))


def _end(key: VirtualKey, now: int, overlap_s: int) -> int:
    end = now + overlap_s if key.enabled else now
    return end if key.expires_at is None else min(end, key.expires_at)


def _switch(draft: Draft, name: str, *, enabled: bool) -> None:
    """Off with all of its tokens, or on again with those that have not been rotated."""
    for key in draft.tokens_of(name):
        if not (enabled and key.rotated):
            draft.put_token(replace(key, enabled=enabled))
