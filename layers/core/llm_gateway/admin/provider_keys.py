"""Keys of providers: written, tried out, and never given back.

A key that replaces another is staged first (AWSPENDING), read back and tried at the provider, and only then made the
current one (AWSCURRENT): https://docs.aws.amazon.com/secretsmanager/latest/userguide/rotating-secrets_how.html
"""

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final

from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.draft import Draft
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.probe import Probe, Probed, has_list
from llm_gateway.admin.provider_resources import need_provider
from llm_gateway.admin.rendering import shown_time
from llm_gateway.admin.resource import TEAMS
from llm_gateway.catalog.build import build_provider
from llm_gateway.catalog.providers import provider_rows
from llm_gateway.domain.audit import MASK, AuditChange
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.ports import SecretNote, SecretStore, SecretWriter
from llm_gateway.errors import GatewayError, InvalidRequest, NotFound, ProviderKeyRefused, Unavailable
from llm_gateway.pipeline.key_secret import (
    KeyText,
    UnreadableKeys,
    is_bare_key,
    read_keys,
    system_secret_name,
    team_secret_name,
)
from llm_gateway.upstream.google_credential_file import credential_file_fault

_DAY_S: Final = 86_400
_AT_ONCE: Final = 8
_MOST_TRIED: Final = 5


class ProviderKeys:
    """`secrets` reads what is current, past any cache; `now` is in Unix seconds."""

    def __init__(
        self,
        editing: Editing,
        writer: SecretWriter,
        secrets: SecretStore,
        probe: Probe,
        stack: str,
        environment: Mapping[str, str],
        now: Callable[[], float],
    ) -> None:
        self._editing = editing
        self._writer = writer
        self._secrets = secrets
        self._probe = probe
        self._stack = stack
        self._environment = environment
        self._now = now
        self._turn = asyncio.Semaphore(_AT_ONCE)

    def handlers(self) -> dict[str, Handler]:
        return {
            "replace_provider_key": self.replace,
            "delete_provider_key": self.delete,
            "get_rotation": self.rotation,
            "replace_rotation": self.schedule,
            "delete_rotation": self.unschedule,
            "list_team_provider_keys": self.of_team,
            "replace_team_provider_key": self.replace,
            "delete_team_provider_key": self.delete,
        }

    async def replace(self, ask: Ask) -> Reply:
        """The provider's key, or a team's own for it."""
        provider, team = await self._addressed(ask)
        text = checked_text(ask.secrets.get("value"), provider, of_team=team is not None)
        wants_test = ask.body.get("test", True)
        model = ask.body.get("model")
        if wants_test and model is None and not has_list(provider):
            raise InvalidRequest(f"The provider `{provider.name}` is tried by a call: name a `model`.", param="model")
        name = self.secret_name(provider, team)
        tested = await self._swap(provider, name, text, model if wants_test else None, wants_test=wants_test)
        days = ask.body.get("rotate_in_days")
        await self._writer.schedule_rotation(name, None if days is None else int(self._now()) + days * _DAY_S)
        await self._audited(ask, name, "replaced")
        shown = None if tested is None else shown_test(provider, tested)
        return Reply({**self._shown(provider, team, await self._writer.describe(name)), "tested": shown})

    async def _swap(
        self, provider: Provider, name: str, text: str, model: str | None, *, wants_test: bool
    ) -> Probed | None:
        if await self._writer.describe(name) is None:
            tested = await self._tried(provider, text, model) if wants_test else None
            await self._writer.put_secret(name, text)
            return tested
        version = await self._writer.stage(name, text)
        try:
            staged = await self._writer.read_staged(name, version) or ""
            tested = await self._tried(provider, staged, model) if wants_test else None
        except BaseException:
            await self._writer.discard(name, version)
            raise
        await self._writer.promote(name, version)
        return tested

    async def _tried(self, provider: Provider, text: str, model: str | None) -> Probed:
        """The last of its keys' calls. Raises `ProviderKeyRefused` at the first that fails."""
        tested: Probed | None = None
        for key in keys_in(text, provider)[:_MOST_TRIED]:
            tested = await self._probe.call(provider, key, model)
            if not tested.ok:
                named = f" `{key.name}`" if key.name else ""
                told = (tested.error or {}).get("message", "")
                raise ProviderKeyRefused(
                    f"The key{named} was tried at `{provider.name}`, and that failed: {told} Nothing was changed.",
                    param="value",
                )
        assert tested is not None
        return tested

    async def put(self, provider: Provider, text: str) -> None:
        """Stores the stack's key as it is, for a provider that is being configured. Raises `Unavailable`."""
        try:
            await self._writer.put_secret(self.secret_name(provider, None), text)
        except GatewayError as error:
            raise Unavailable(
                f"The provider `{provider.name}` is stored, but not its key: send the key to its `/key`.",
                retry_after=1,
            ) from error

    async def delete(self, ask: Ask) -> Reply:
        provider, team = await self._addressed(ask)
        name = self.secret_name(provider, team)
        if not await self._writer.delete_secret(name):
            raise NotFound(f"There is no key of {_whose(provider, team)}.")
        await self._audited(ask, name, None)
        return Reply(None)

    def of_removed(self, before: Draft, providers: Iterable[str], teams: Iterable[str]) -> dict[str, str]:
        """Secrets that nobody is left for once these are gone, each with its provider.

        A provider's is the one that only it has: a shipped vendor's stays, as the vendor does. A team's are its own.
        """
        found: dict[str, str] = {}
        for provider in (self.provider(before, name) for name in providers):
            if provider.name not in provider_rows() and provider.secret == provider.name:
                found[self.secret_name(provider, None)] = provider.name
        for team in teams:
            for provider in map(partial(self.provider, before), {*provider_rows(), *before.names("provider")}):
                name = team_secret_name(self._stack, team, provider.secret or provider.name)
                if name is not None:
                    found.setdefault(name, provider.name)
        return found

    async def forget(self, ask: Ask, secrets: Mapping[str, str]) -> list[str]:
        """Deletes those of `of_removed` that there are, as one audit event; the names of those it could not delete."""

        async def deleted(name: str) -> bool | None:
            try:
                async with self._turn:
                    # There is none of most: looking does not count as a change, and is cheaper.
                    there = await self._writer.describe(name) is not None
                    return there and await self._writer.delete_secret(name)
            except GatewayError:
                return None

        done = dict(zip(secrets, await asyncio.gather(*map(deleted, secrets)), strict=True))
        changes = [
            AuditChange("provider", secrets[name], {"api_key": MASK, "secret_name": name}, None)
            for name, gone in done.items()
            if gone
        ]
        if changes:
            await self._editing.record(ask, changes, target_kind="secret")
        return sorted(name for name, gone in done.items() if gone is None)

    async def remove(self, ask: Ask, provider: Provider) -> None:
        """The stack's key of a provider, whether there is one or not."""
        name = self.secret_name(provider, None)
        if await self._writer.delete_secret(name):
            change = AuditChange("provider", provider.name, {"api_key": MASK, "secret_name": name}, None)
            await self._editing.record(ask, [change], target_kind="secret")

    async def rotation(self, ask: Ask) -> Reply:
        provider, team = await self._addressed(ask)
        note = await self._writer.describe(self.secret_name(provider, team))
        return Reply(self._rotation(provider, note))

    async def schedule(self, ask: Ask) -> Reply:
        provider, team = await self._addressed(ask)
        name = self.secret_name(provider, team)
        await self._need(name, provider, team)
        await self._writer.schedule_rotation(name, int(self._now()) + int(ask.body["in_days"]) * _DAY_S)
        await self._editing.record(ask, target_kind="secret")
        return Reply(self._rotation(provider, await self._writer.describe(name)))

    async def unschedule(self, ask: Ask) -> Reply:
        provider, team = await self._addressed(ask)
        name = self.secret_name(provider, team)
        await self._need(name, provider, team)
        await self._writer.schedule_rotation(name, None)
        await self._editing.record(ask, target_kind="secret")
        return Reply(None)

    async def of_team(self, ask: Ask) -> Reply:
        """Those that there are."""
        draft = await self._editing.draft()
        team = _need_team(draft, ask)
        providers = [self.provider(draft, name) for name in sorted({*provider_rows(), *draft.names("provider")})]
        notes = await self.notes([self.secret_name(provider, team) for provider in providers])
        data = [
            self._shown(provider, team, note)
            for provider, note in zip(providers, notes, strict=True)
            if note is not None
        ]
        return Reply({"object": "list", "data": data})

    async def notes(self, names: Sequence[str]) -> list[SecretNote | None]:
        """Each name is a call: a few at a time, for whole lists are shown."""

        async def described(name: str) -> SecretNote | None:
            async with self._turn:
                return await self._writer.describe(name)

        unique = list(dict.fromkeys(names))
        found = dict(zip(unique, await asyncio.gather(*map(described, unique)), strict=True))
        return [found[name] for name in names]

    async def current(self, provider: Provider) -> KeyText | None:
        """The stack's first key of the provider. Raises `InvalidRequest` for a text that holds none."""
        if provider.credential == "none":
            return None
        text = await self._secrets.get_secret(self.secret_name(provider, None))
        return None if text is None else keys_in(text, provider)[0]

    def provider(self, draft: Draft, name: str) -> Provider:
        """As the gateway has it."""
        return build_provider(name, draft.table("provider", name) or {}, self._environment)

    def secret_name(self, provider: Provider, team: str | None) -> str:
        if team is None:
            return system_secret_name(self._stack, provider)
        name = team_secret_name(self._stack, team, provider.secret or provider.name)
        if name is None:
            raise InvalidRequest("The team's name is too long for a secret's name: it cannot have keys of its own.")
        return name

    def key_state(self, note: SecretNote | None) -> dict[str, Any]:
        if note is None:
            return {"configured": False, "updated_at": None, "rotate_at": None}
        changed = note.changed_at if note.changed_at is not None else note.created_at
        return {"configured": True, "updated_at": shown_time(changed), "rotate_at": shown_time(note.rotate_after)}

    def _shown(self, provider: Provider, team: str | None, note: SecretNote | None) -> dict[str, Any]:
        return {"object": "provider_key", "provider_id": provider.name, "team": team, **self.key_state(note)}

    def _rotation(self, provider: Provider, note: SecretNote | None) -> dict[str, Any]:
        at = None if note is None else note.rotate_after
        return {
            "object": "rotation",
            "provider_id": provider.name,
            "rotate_at": shown_time(at),
            "overdue": at is not None and at <= self._now(),
        }

    async def _addressed(self, ask: Ask) -> tuple[Provider, str | None]:
        draft = await self._editing.draft()
        team = _need_team(draft, ask) if "name" in ask.path else None
        return self.provider(draft, need_provider(draft, ask.path["provider_id"])), team

    async def _need(self, name: str, provider: Provider, team: str | None) -> None:
        if await self._writer.describe(name) is None:
            raise NotFound(f"There is no key of {_whose(provider, team)}.")

    async def _audited(self, ask: Ask, name: str, became: str | None) -> None:
        after = None if became is None else {"api_key": MASK, "secret_name": name}
        change = AuditChange("provider", ask.path["provider_id"], {"api_key": MASK, "secret_name": name}, after)
        await self._editing.record(ask, [change], target_kind="secret")


def checked_text(text: str | None, provider: Provider, *, of_team: bool = False) -> str:
    """A text that can be stored as the provider's key, or a team's own for it.

    Raises `InvalidRequest`, which quotes none of it.
    """
    if text is None or not text.strip():
        raise InvalidRequest("`value` is required: the provider's key.", param="value")
    text = text.strip()
    keys = keys_in(text, provider)
    if provider.credential == "oauth":
        faults = (credential_file_fault(key.text, federation=not of_team) for key in keys)
        if fault := next(filter(None, faults), None):
            raise InvalidRequest(f"`value` is no credential file of Google's: {fault}.", param="value")
    elif not all(is_bare_key(key.text) for key in keys):
        raise InvalidRequest("`value` holds what no header can carry.", param="value")
    return text


def keys_in(text: str, provider: Provider) -> Sequence[KeyText]:
    try:
        return read_keys(text, credential_files=provider.credential == "oauth")
    except UnreadableKeys as error:
        reason = str(error)
    # Raised out here: what was read must not travel as this one's context.
    raise InvalidRequest(f"`value` cannot be read as a key: {reason}.", param="value")


def shown_test(provider: Provider, probed: Probed) -> dict[str, Any]:
    usage = probed.usage
    return {
        "object": "provider_test",
        "ok": probed.ok,
        "provider_id": provider.name,
        "model": probed.model,
        "called": probed.called,
        "status": probed.status,
        "latency_ms": probed.latency_ms,
        "error": None if probed.error is None else dict(probed.error),
        "usage": None if usage is None else {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }


def left_behind(names: Sequence[str]) -> Unavailable:
    """What is told where the configuration has changed and secrets that went with it have not."""
    return Unavailable(
        f"It is deleted, but these secrets of it may still be there: {', '.join(names)}. "
        "Delete them in Secrets Manager."
    )


def _need_team(draft: Draft, ask: Ask) -> str:
    team = ask.path["name"]
    if draft.table("team", team) is None or ask.confined_to not in (None, team):
        raise NotFound(f"There is no {TEAMS.noun} `{team}`.")
    return team


def _whose(provider: Provider, team: str | None) -> str:
    return f"the provider `{provider.name}`" if team is None else f"the team `{team}` for `{provider.name}`"
