"""What one request holds of its limits, from its opening in the ledger to its settlement there."""

import asyncio
from collections.abc import Coroutine, Mapping
from contextlib import suppress
from dataclasses import replace
from decimal import Decimal
from typing import Any

from llm_gateway.dialects.dialect import Endpoint
from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import GatewayError, Unavailable
from llm_gateway.pipeline.accounts import Accounts
from llm_gateway.pipeline.admission import Admission, Admitted, with_members
from llm_gateway.pipeline.leg import Leg
from llm_gateway.schemas.openai_chat import ModelRequest

_MAXIMUM = "max_completion_tokens"


class Holds:
    """`record` is the request's, as it is to be opened."""

    def __init__(
        self,
        admission: Admission,
        accounts: Accounts,
        endpoint: Endpoint,
        catalog: Catalog,
        key: VirtualKey,
        record: RequestRecord,
    ) -> None:
        self._admission = admission
        self._accounts = accounts
        self._endpoint = endpoint
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
        return {} if self._admitted is None else self._admitted.headers

    async def take(self, leg: Leg) -> ModelRequest:
        """Opens the entry, with room for `leg` in every limit. The request as the limits change it.

        May be called again for another leg where `DeploymentLimited` is raised: then nothing is held.
        Raises `RateLimited`, `QuotaExceeded`, `InvalidRequest`, `Unavailable`.
        """
        record = replace(self._record, provider=leg.provider.name, routed_model=leg.deployment.model)
        limited = self._scopes(leg)
        if not limited:
            self._record = record
            await self._accounts.open(record)
            return leg.request
        try:
            admitted = await self._ask(
                self._admission.admit(
                    self._endpoint, record, limited, leg.request, len(leg.parts), leg.deployment, self._catalog
                )
            )
        except Unavailable:
            # What is held though nobody heard of it is given back when the record that names the scopes is settled.
            self._record = replace(record, scopes=tuple(each.scope.id for each in limited if each.policy.counts))
            raise
        return with_members(leg.request, admitted.members) if admitted.members else leg.request

    async def widen(self, leg: Leg, spent_usd: Decimal) -> ModelRequest:
        """Makes room for one leg more, beside what the earlier ones cost. The leg's request as the limits change it.

        Raises as `take` does; what is held stays held then.
        """
        limited = self._scopes(leg)
        if self._admitted is None and not limited:
            return leg.request
        admitted = await self._ask(
            self._admission.readmit(
                self._endpoint,
                self._admitted,
                self._record,
                limited,
                leg.request,
                len(leg.parts),
                leg.deployment,
                self._catalog,
                spent_usd,
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

    def _scopes(self, leg: Leg) -> Any:
        return self._admission.scopes_of(
            self._catalog, self._key, leg.request.user, self._record.requested_model, leg.deployment
        )

    async def _ask(self, asked: Coroutine[Any, Any, Admitted]) -> Admitted:
        """A caller who leaves meanwhile does not stop it half-way: `settle` must know what is held."""
        self._asking = asyncio.ensure_future(asked)
        self._admitted = await asyncio.shield(self._asking)
        return self._admitted


def _lowered(request: ModelRequest, members: Mapping[str, Any]) -> dict[str, Any]:
    """The members, but for a maximum that is above the request's own: a continuation wants only the rest."""
    own = request.fields.get(_MAXIMUM) or request.fields.get("max_tokens")
    return {name: value for name, value in members.items() if name != _MAXIMUM or own is None or value < own}
