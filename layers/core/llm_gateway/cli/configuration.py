"""A configuration that can be planned, applied and exported: through a gateway's control plane, or on its tables.

Both ways make one plan (`admin.plan`) and one revision.
"""

import asyncio
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import quote

from llm_gateway.cli.client import Gateway
from llm_gateway.cli.failures import BadInput, Failure, Refused, Unreachable

if TYPE_CHECKING:
    from llm_gateway.admin.plan import Plan
    from llm_gateway.domain.ports import RegistryEditor
    from llm_gateway.domain.revisions import Snapshot
    from llm_gateway.local.place import Place

_CHANGED = "somebody else has changed the configuration since this plan was made: nothing was applied; plan again"

Planned = Mapping[str, Any]
"""As `admin.wire.Plan`; `Applied` as `admin.wire.Applied`."""
Applied = Mapping[str, Any]


class Configuration(Protocol):
    """`document` is a gateway.toml's, JSON-shaped. Every method raises `Failure`, the last two also `GatewayError`."""

    told: str
    """What messages call it."""

    def own_key(self, names: Iterable[str]) -> str | None:
        """Which of these keys the command calls with."""
        ...

    def plan(self, document: Mapping[str, Any], *, prune: bool) -> Planned: ...

    def apply(self, document: Mapping[str, Any], *, prune: bool, revision: int) -> Applied:
        """All of it or nothing, and only on the revision that was planned on."""
        ...

    def export(self) -> Mapping[str, Any]:
        """The file's tables; times are `datetime`."""
        ...

    def how_to_store(self, team: str | None, provider: str) -> str | None:
        """How a provider's key gets there; None where it is there already."""
        ...


class ThroughAdminPlane:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self.told = gateway.target.told

    def own_key(self, names: Iterable[str]) -> str | None:
        from llm_gateway.cli.key_ways import own_key

        return own_key(self._gateway, names)

    def plan(self, document: Mapping[str, Any], *, prune: bool) -> Planned:
        found: Planned = self._ask("/admin/plan", document, prune)
        return found

    def apply(self, document: Mapping[str, Any], *, prune: bool, revision: int) -> Applied:
        try:
            found: Applied = self._ask("/admin/apply", document, prune, {"if-match": f'"r{revision}"'})
        except Refused as error:
            raise Failure(_CHANGED) if error.status == 412 else error from None
        except Unreachable as error:
            raise Unreachable(f"{error}; whether it was applied is not known: apply again, and see") from None
        return found

    def export(self) -> Mapping[str, Any]:
        from llm_gateway.admin.draft import read_time

        config: Mapping[str, Any] = self._gateway.get("/admin/export")["config"]
        for key in config.get("keys", {}).values():
            if "expires_at" in key:
                key["expires_at"] = read_time(key["expires_at"])
        return config

    def how_to_store(self, team: str | None, provider: str) -> str | None:
        if self._has_key(team, provider):
            return None
        of_team = "" if team is None else f"/teams/{quote(team, safe='')}"
        return f"PUT {self._gateway.target.root}/admin{of_team}/providers/{provider}/key"

    def _ask(
        self, path: str, document: Mapping[str, Any], prune: bool, headers: Mapping[str, str] | None = None
    ) -> Any:
        try:
            return self._gateway.call(
                "POST", path, params={"prune": "true" if prune else None}, json=document, headers=headers
            )[0]
        except Refused as error:
            if error.status == 400:
                # The file is one by itself: it does not go together with what stays.
                raise BadInput(str(error)) from None
            if error.status == 404:
                raise Failure(f"{self.told} is of a version that cannot do this: update it first") from None
            raise

    def _has_key(self, team: str | None, provider: str) -> bool:
        try:
            if team is None:
                return bool(self._gateway.get(f"/admin/providers/{provider}")["api_key"]["configured"])
            listed = self._gateway.get(f"/admin/teams/{quote(team, safe='')}/providers")["data"]
        except (Failure, KeyError):
            return False  # then it is told once too often
        return any(each["provider_id"] == provider and each["configured"] for each in listed)


class OnTables:
    """For who has AWS credentials and no key."""

    def __init__(self, place: "Place", stack: str) -> None:
        self._place = place
        self._stack = stack
        self.told = f"stack {stack}"

    def own_key(self, names: Iterable[str]) -> str | None:  # noqa: ARG002
        return None  # AWS credentials stay

    def plan(self, document: Mapping[str, Any], *, prune: bool) -> Planned:
        from llm_gateway.admin.configuration import shown_plan

        snapshot = asyncio.run(self._on_registry(_read))
        return shown_plan(_planned(document, snapshot, prune))

    def apply(self, document: Mapping[str, Any], *, prune: bool, revision: int) -> Applied:
        from llm_gateway.adapters.registry_edits import command_event
        from llm_gateway.admin.configuration import shown_result
        from llm_gateway.errors import RevisionConflict

        async def commit(registry: "RegistryEditor") -> Applied:
            snapshot = await registry.read()
            if snapshot.revision != revision:
                raise Failure(_CHANGED)
            plan = _planned(document, snapshot, prune)
            number = await registry.commit(plan.changes, revision, command_event("config.apply", "config"))
            return shown_result(plan, number)

        try:
            return asyncio.run(self._on_registry(commit))
        except RevisionConflict:
            raise Failure(_CHANGED) from None

    def export(self) -> Mapping[str, Any]:
        from llm_gateway.admin.draft import entries_of
        from llm_gateway.catalog.exported import exported_file

        snapshot = asyncio.run(self._on_registry(_read))
        return exported_file(entries_of(snapshot), snapshot.keys())

    def how_to_store(self, team: str | None, provider: str) -> str | None:
        of_team = "" if team is None else f" --team {team}"
        return f"llm-gateway secrets set {provider} --stack {self._stack}{of_team}"

    async def _on_registry(self, work: Any) -> Any:
        from llm_gateway.local.place import with_registry

        return await with_registry(self._place, work)


async def _read(registry: "RegistryEditor") -> "Snapshot":
    return await registry.read()


def _planned(document: Mapping[str, Any], snapshot: "Snapshot", prune: bool) -> "Plan":
    from llm_gateway.admin.draft import Faults
    from llm_gateway.admin.plan import plan_file

    try:
        return plan_file(document, snapshot, prune=prune)
    except Faults as faults:
        raise BadInput("; ".join(faults.lines)) from None
