"""Providers: their configuration, whether they answer, and which models they have."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.crud import Crud
from llm_gateway.admin.draft import Draft, Faults
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.probe import Probe
from llm_gateway.admin.provider_keys import ProviderKeys, checked_text, left_behind, shown_test
from llm_gateway.admin.provider_resources import ProviderModelResource, ProviderResource, need_provider
from llm_gateway.catalog.schema_values import Name
from llm_gateway.domain.audit import AuditChange
from llm_gateway.domain.catalog import Provider
from llm_gateway.errors import InvalidRequest, UpstreamFailed

_NAME: Final[TypeAdapter[str]] = TypeAdapter(Name)


class Providers:
    def __init__(self, editing: Editing, keys: ProviderKeys, probe: Probe) -> None:
        self._editing = editing
        self._keys = keys
        self._probe = probe
        self._crud = Crud(editing, ProviderResource(), show=self._with_key)
        self._models = Crud(editing, ProviderModelResource())

    def handlers(self) -> dict[str, Handler]:
        return {
            **self._crud.handlers("provider"),
            **self._models.handlers("provider_model"),
            "create_provider": self._with_secret(self._crud.create),
            "replace_provider": self._with_secret(self._crud.replace),
            "change_provider": self._with_secret(self._crud.change),
            "delete_provider": self.delete,
            "test_provider": self.test,
            "refresh_provider_model": self.refresh,
        }

    async def _with_key(self, _: Ask, draft: Draft, name: str, document: dict[str, Any]) -> dict[str, Any]:
        provider = self._keys.provider(draft, name)
        (note,) = await self._keys.notes([self._keys.secret_name(provider, None)])
        return {**document, "api_key": self._keys.key_state(note)}

    def _with_secret(self, edit: Callable[[Ask], Any]) -> Handler:
        """The configuration first, then the key that came with it: a provider without a key calls nobody."""

        async def edited(ask: Ask) -> Reply:
            text = ask.secrets.get("api_key")
            body = {name: value for name, value in ask.body.items() if name != "api_key"}
            without = replace(ask, body=body)
            if text is None:
                reply: Reply = await edit(without)
                return await self._without_key(ask, reply) if "api_key" in ask.body else reply
            given = body.get("provider_id", ask.path.get("provider_id"))
            draft = await self._editing.draft()
            # Looked at before anything is stored: a key that cannot be one is no reason to be left half-way.
            text = checked_text(text, self._keys.provider(draft, str(given)))
            reply = await edit(without)
            draft = await self._editing.draft()
            name = str((reply.document or {})["provider_id"])
            await self._keys.put(self._keys.provider(draft, name), text)
            return replace(reply, document=await self._with_key(ask, draft, name, dict(reply.document or {})))

        return edited

    async def _without_key(self, ask: Ask, reply: Reply) -> Reply:
        """`"api_key": null`: the key is deleted. Where a provider is made there is none to be meant."""
        if ask.route.operation == "create_provider":
            return reply
        draft = await self._editing.draft()
        name = str((reply.document or {})["provider_id"])
        await self._keys.remove(ask, self._keys.provider(draft, name))
        return replace(reply, document=await self._with_key(ask, draft, name, dict(reply.document or {})))

    async def delete(self, ask: Ask) -> Reply:
        provider = await self._provider(ask)
        secrets = self._keys.of_removed(await self._editing.draft(), [provider.name], ())
        reply = await self._crud.delete(ask)
        if left := await self._keys.forget(ask, secrets):
            raise left_behind(left)
        return reply

    async def test(self, ask: Ask) -> Reply:
        """A failure is an answer, not an error: it is what was asked for."""
        provider = await self._provider(ask)
        key = await self._keys.current(provider)
        if key is None and self._probe.needs_key(provider):
            raise InvalidRequest(f"The provider `{provider.name}` has no key yet: send it to its `/key`.")
        probed = await self._probe.call(provider, key, ask.body.get("model"))
        shown = shown_test(provider, probed)
        after = {name: shown[name] for name in ("ok", "called", "model", "status", "usage")}
        await self._editing.record(ask, [AuditChange("provider", provider.name, None, after)])
        return Reply(shown)

    async def refresh(self, ask: Ask) -> Reply:
        """Adds what is new. What is gone stays, and is named: somebody may call it yet."""
        provider = await self._provider(ask)
        key = await self._keys.current(provider)
        if key is None and self._probe.needs_key(provider):
            raise InvalidRequest(f"The provider `{provider.name}` has no key yet: send it to its `/key`.")
        probed = await self._probe.call(provider, key, None)
        if probed.error is not None:
            raise UpstreamFailed(f"The provider `{provider.name}` gave no list of models: {probed.error['message']}")
        # What can be no model's name here is passed over: one such id must not keep the others out.
        found = [model for model in probed.models if _is_name(model)]
        added: list[str] = []
        missing: list[str] = []

        def edit(draft: Draft) -> None:
            name = need_provider(draft, provider.name)
            table = draft.table("provider", name) or {}
            known = table.get("models") or {}
            added[:] = [model for model in found if model not in known]
            missing[:] = sorted(set(known) - set(found))
            if added:
                draft.put("provider", name, {**table, "models": {**known, **{model: {} for model in added}}})

        await self._applied(ask, edit)
        shown = {"object": "refreshed_models", "provider_id": provider.name, "found": len(found)}
        return Reply({**shown, "added": added, "missing": missing})

    async def _applied(self, ask: Ask, edit: Callable[[Draft], None]) -> None:
        try:
            await self._editing.apply(ask, edit)
            return
        except Faults as faults:
            line = faults.lines[0]
        raise UpstreamFailed(f"What the provider lists cannot be configured: {line}.")

    async def _provider(self, ask: Ask) -> Provider:
        draft = await self._editing.draft()
        return self._keys.provider(draft, need_provider(draft, ask.path["provider_id"]))


def _is_name(model: str) -> bool:
    """As a file's rules have it, and without what is not seen."""
    try:
        _NAME.validate_python(model)
    except ValidationError:
        return False
    return model.isprintable()
