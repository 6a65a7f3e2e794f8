"""The configuration as a whole: what a gateway.toml would change, changing it, and the file that says what there is."""

from collections.abc import Mapping, Sequence
from typing import Any

from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.draft import Draft, Faults, entries_of
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.plan import ItemChange, Plan, plan_file
from llm_gateway.admin.preconditions import check_if_match
from llm_gateway.admin.provider_keys import ProviderKeys, left_behind
from llm_gateway.admin.rendering import as_json
from llm_gateway.catalog.exported import exported_file
from llm_gateway.domain.revisions import Change, Snapshot
from llm_gateway.errors import GatewayError, InvalidRequest


class Configuration:
    def __init__(self, editing: Editing, keys: ProviderKeys) -> None:
        self._editing = editing
        self._keys = keys

    def handlers(self) -> dict[str, Handler]:
        return {"plan_config": self.plan, "apply_config": self.apply, "export_config": self.export}

    async def plan(self, ask: Ask) -> Reply:
        snapshot = await self._editing.editor.read()
        return Reply(shown_plan(_plan(ask, snapshot)), revision_etag(snapshot.revision))

    async def apply(self, ask: Ask) -> Reply:
        """As one revision, and only on the one that the caller has seen the plan of."""
        plans: list[Plan] = []
        secrets: dict[str, str] = {}

        def changes(snapshot: Snapshot) -> Sequence[Change]:
            check_if_match(ask, revision_etag(snapshot.revision))
            plans[:] = [_plan(ask, snapshot)]
            secrets.clear()
            secrets.update(self._removed(plans[0], snapshot))
            return plans[0].changes

        number = await self._editing.commit(ask, changes)
        left = await self._forgotten(ask, secrets)
        shown = shown_result(plans[0], number)
        return Reply({**shown, "secrets_left": left} if left else shown, revision_etag(number))

    def _removed(self, plan: Plan, snapshot: Snapshot) -> dict[str, str]:
        gone = [(item.kind, item.name) for item in plan.items if item.action == "delete" and item.name is not None]
        providers, teams = ([name for of, name in gone if of == kind] for kind in ("provider", "team"))
        return self._keys.of_removed(Draft(snapshot), providers, teams) if providers or teams else {}

    async def _forgotten(self, ask: Ask, secrets: Mapping[str, str]) -> list[str]:
        """Never fails: the answer has tokens that are shown this once. What could not be deleted is told in it."""
        try:
            left = await self._keys.forget(ask, secrets)
        except GatewayError as error:
            await self._editing.refused(ask, error)
            return []
        if left:
            await self._editing.refused(ask, left_behind(left))
        return left

    async def export(self, ask: Ask) -> Reply:  # noqa: ARG002 - a handler's
        snapshot = await self._editing.editor.read()
        config = as_json(exported_file(entries_of(snapshot), snapshot.keys()))
        shown = {"object": "configuration", "revision": snapshot.revision, "config": config}
        return Reply(shown, revision_etag(snapshot.revision))


def revision_etag(revision: int) -> str:
    """Of the configuration as a whole."""
    return f'"r{revision}"'


def shown_plan(plan: Plan) -> dict[str, Any]:
    return {
        "object": "plan",
        "revision": plan.revision,
        "changes": _shown_items(plan.items),
        "new_keys": sorted(plan.tokens),
        "unnamed": [{"kind": kind, "name": name} for kind, name in plan.unnamed],
    }


def shown_result(plan: Plan, revision: int) -> dict[str, Any]:
    """Of what was committed: the tokens are shown here, this once."""
    return {
        "object": "applied",
        "revision": revision,
        "changes": _shown_items(plan.items),
        "keys": [{"name": name, "key": token} for name, token in sorted(plan.tokens.items())],
    }


def _shown_items(items: Sequence[ItemChange]) -> list[dict[str, Any]]:
    return [
        {
            "action": item.action,
            "kind": item.kind,
            "name": item.name,
            "members": [
                {"member": each.member, "before": as_json(each.before), "after": as_json(each.after)}
                for each in item.members
            ],
        }
        for item in items
    ]


def _plan(ask: Ask, snapshot: Snapshot) -> Plan:
    """Whoever asks keeps the key it asks with. Raises `InvalidRequest`, with the first fault's place as `param`."""
    prune = _flag(ask.query, "prune")
    try:
        return plan_file(ask.body, snapshot, prune=prune, kept={ask.actor.name})
    except Faults as faults:
        lines = faults.lines
    raise InvalidRequest("\n".join(lines), param=lines[0].partition(": ")[0][:256])


def _flag(query: Mapping[str, str], name: str) -> bool:
    given = query.get(name, "false")
    if given not in ("true", "false"):
        raise InvalidRequest(f"`{name}` is true or false.", param=name)
    return given == "true"
