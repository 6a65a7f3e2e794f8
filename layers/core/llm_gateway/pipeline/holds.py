"""What one request holds of its limits, from its opening in the ledger to its settlement there."""

import asyncio
import math
from collections.abc import Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission, Admitted, with_members
from llm_gateway.pipeline.call import Call
from llm_gateway.pipeline.leg import Leg
from llm_gateway.pipeline.reservations import Limited
from llm_gateway.pipeline.waiting import Place
from llm_gateway.schemas.openai_chat import ModelRequest

_MAXIMUM = "max_completion_tokens"


class Holds:
    """`record` is the request's, as it is to be opened. It waits in line no longer than `until`, a reading of the
    pipeline's clock."""

    def __init__(
        self,
        admission: Admission,
        accounts: Accounts,
        call: Call,
        catalog: Catalog,
        key: VirtualKey,
        record: RequestRecord,
        until: float = math.inf,
    ) -> None:
        self._until = until
        self._place: Place | None = None
        self._admission = admission
        self._accounts = accounts
        self._call = call
        self._catalog = catalog
        self._key = key
        self._record = record
        self._admitted: Admitted | None = None
        self._asking: asyncio.Task[Admitted] | None = None

    @property
    def money(self) -> bool:
        """Whether a hard budget holds money for the request."""
        return self._admitted is not None and bool(self._admitted.record.reserved_usd)

    @property
    def headers(self) -> Mapping[str, str]:
        """What the caller is told of the limits."""
        told = {} if self._admitted is None else self._admitted.headers
        return {**told, "x-gateway-queued-ms": str(round(self.queued_s * 1000))} if self.queued_s else told

    @property
    def queued_s(self) -> float:
        """How long it has waited in line."""
        return 0.0 if self._place is None else self._place.waited_s

    async def take(self, leg: Leg, *, patient: bool = True) -> ModelRequest:
        """Opens the entry, with room for `leg` in every limit. The request as the limits change it.

        `patient` says whether to wait a moment for room at the deployment: not where another one is left. May be called
        again for another leg where `DeploymentLimited` is raised: then nothing is held.
        Raises `RateLimited`, `QuotaExceeded`, `InvalidRequest`, `Unavailable`.
        """
        record = self._at(leg)
        limited = self._scopes(leg)
        if not limited:
            self._record = record
            await self._accounts.open(record)
            return leg.request
        if self._place is None:
            self._place = self._place_in_line(limited)
        try:
            admitted = await self._ask(
                self._admission.admit(
                    self._call.endpoint,
                    record,
                    limited,
                    leg.request,
                    len(leg.parts),
                    leg.deployment,
                    self._catalog,
                    patient=patient,
                    place=self._place,
                )
            )
        except Unavailable:
            # What is held though nobody heard of it is given back when the record that names the scopes is settled.
            self._record = replace(record, scopes=tuple(each.scope.id for each in limited if each.policy.counts))
            raise
        return with_members(leg.request, admitted.members) if admitted.members else leg.request

    async def widen(self, leg: Leg, spent_usd: Decimal, *, patient: bool = True) -> ModelRequest:
        """Makes room for one leg more, beside what the earlier ones cost. The leg's request as the limits change it.

        Raises as `take` does; what is held stays held then.
        """
        limited = self._scopes(leg)
        if self._admitted is None and not limited:
            return leg.request
        admitted = await self._ask(
            self._admission.readmit(
                self._call.endpoint,
                self._admitted,
                self._at(leg),
                limited,
                leg.request,
                len(leg.parts),
                leg.deployment,
                self._catalog,
                spent_usd,
                patient=patient,
            )
        )
        members = _lowered(leg.request, admitted.members)
        return with_members(leg.request, members) if members else leg.request

    async def record(self) -> RequestRecord:
        """As it stands in the ledger. Waits for an answer of the ledger's that is still to come."""
        if self._asking is not None:
            # Who asked may have left before it was answered. Where nothing more was given, what was held still is.
            with suppress(GatewayError):
                self._admitted = await self._asking
        return self._record if self._admitted is None else self._admitted.record

    async def settle(self, record: RequestRecord) -> RequestRecord:
        """Writes what the request came to, and ends what it holds. The record as it was written."""
        if self._admitted is None:
            await self._accounts.settle(record)
            return record
        return await self._admission.settle(record, self._admitted, self._accounts)

    @property
    def bound_usd(self) -> Decimal | None:
        """The most that the leg which was given room last can cost, where a hard budget holds that."""
        return None if self._admitted is None else self._admitted.bound_usd

    @property
    def reserved_usd(self) -> Decimal:
        """The most that what was begun so far can cost, where a budget holds it."""
        return Decimal(0) if self._admitted is None else self._admitted.record.reserved_usd or Decimal(0)

    def _at(self, leg: Leg) -> RequestRecord:
        return self._record.at(leg.provider.name, leg.deployment.model)

    def _place_in_line(self, limited: Sequence[Limited]) -> Place | None:
        alias = self._catalog.aliases.get(self._record.requested_model)
        alias_s = None if alias is None else alias.queue_s
        return self._admission.place_in_line(limited, self._call.queue_s, alias_s, self._until)

    def _scopes(self, leg: Leg) -> tuple[Limited, ...]:
        return self._admission.scopes_of(
            self._catalog, self._key, leg.request.user, self._record.requested_model, leg.deployment
        )

    async def _ask(self, asked: Coroutine[Any, Any, Admitted]) -> Admitted:
        """A caller who leaves meanwhile does not stop it half-way: `settle` must know what is held."""
        self._asking = asyncio.ensure_future(asked)
        try:
            self._admitted = await asyncio.shield(self._asking)
        except asyncio.CancelledError:
            if self._place is not None:
                self._place.give_up()
            raise
        return self._admitted


def _lowered(request: ModelRequest, members: Mapping[str, Any]) -> dict[str, Any]:
    """The members, but for a maximum that is above the request's own: a continuation wants only the rest."""
    own = request.fields.get(_MAXIMUM) or request.fields.get("max_tokens")
    return {name: value for name, value in members.items() if name != _MAXIMUM or own is None or value < own}
