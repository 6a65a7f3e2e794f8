"""List, read, create, replace, change, delete: the same for every resource."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from llm_gateway.admin.ask import Ask, Handler, Reply
from llm_gateway.admin.draft import Draft, Faults
from llm_gateway.admin.editing import Editing
from llm_gateway.admin.listing import Listing
from llm_gateway.admin.preconditions import check_if_match
from llm_gateway.admin.rendering import etag_of, merged
from llm_gateway.admin.resource import Resource
from llm_gateway.catalog.faults import did_you_mean, one_of, where
from llm_gateway.errors import AlreadyExists, GatewayError, InvalidRequest, NotFound, StillInUse

Visible = Callable[[Ask, str, Mapping[str, Any]], bool]
"""Whether the caller may know that there is something: its name and body."""
Permit = Callable[[Ask, str, Mapping[str, Any] | None, Mapping[str, Any]], None]
"""Raises `PermissionDenied` for an edit that the caller may not make: name, body before, body after."""
Show = Callable[[Ask, Draft, str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Adds to a document what is not in the configuration."""

_BROKEN_REFERENCE: Final = re.compile(r'(.+?): "[^"]*" is (?:not a|neither a) ')
"""A fault of `checks`, of a name that there is no longer."""


def _everything(_: Ask, __: str, ___: Mapping[str, Any]) -> bool:
    return True


def _anything(_: Ask, __: str, ___: Mapping[str, Any] | None, ____: Mapping[str, Any]) -> None:
    return


async def _as_it_is(_: Ask, __: Draft, ___: str, document: dict[str, Any]) -> dict[str, Any]:
    return document


class Crud:
    """The six operations on a resource."""

    def __init__(
        self,
        editing: Editing,
        resource: Resource,
        *,
        visible: Visible = _everything,
        permit: Permit = _anything,
        show: Show = _as_it_is,
    ) -> None:
        self._editing = editing
        self._resource = resource
        self._visible = visible
        self._permit = permit
        self._show = show

    def handlers(self, noun: str) -> dict[str, Handler]:
        """By operation, as the route table names them."""
        return {
            f"list_{noun}s": self.list,
            f"create_{noun}": self.create,
            f"get_{noun}": self.get,
            f"replace_{noun}": self.replace,
            f"change_{noun}": self.change,
            f"delete_{noun}": self.delete,
        }

    async def list(self, ask: Ask) -> Reply:
        draft = await self._editing.draft()
        listing = Listing(ask)
        names = self._resource.names(draft, ask.path)
        found = listing.page(names, lambda name: self._listed(ask, draft, name))
        data = await asyncio.gather(*(self._show(ask, draft, name, document) for name, document in found.rows))
        return Reply({"object": "list", "data": list(data), "next": found.next})

    def _listed(self, ask: Ask, draft: Draft, name: str) -> dict[str, Any] | None:
        body = self._resource.read(draft, name)
        if body is None or not self._visible(ask, name, body):
            return None
        return self._resource.document(draft, name, body)

    async def get(self, ask: Ask) -> Reply:
        draft = await self._editing.draft()
        return await self._reply(ask, draft, self._resource.name(ask.path))

    async def create(self, ask: Ask) -> Reply:
        return await self.created(ask, lambda _draft, _name: None)

    async def created(self, ask: Ask, also: Callable[[Draft, str], None]) -> Reply:
        """`also` edits what belongs to it: the name is that of the new one."""
        member = self._resource.name_member or "name"
        given = ask.body.get(member)
        if not isinstance(given, str) or not given:
            raise InvalidRequest(f"`{member}` is required: a string.", param=member)
        name = self._resource.name({**ask.path, member: given})
        body = self._body(ask, {key: value for key, value in ask.body.items() if key != member})

        def edit(draft: Draft) -> None:
            self._permit(ask, name, None, body)
            if self._resource.configured(draft, name):
                raise AlreadyExists(f"There is a {self._resource.noun} `{name}` already.", param=member)
            self._resource.write(draft, name, body)
            also(draft, name)

        return await self._reply(ask, await self._apply(ask, name, edit), name)

    async def replace(self, ask: Ask) -> Reply:
        name = self._resource.name(ask.path)
        body = self._body(ask, ask.body)

        def edit(draft: Draft) -> None:
            before = self._there(ask, draft, name)
            check_if_match(ask, self._etag(draft, name, before))
            self._permit(ask, name, before, body)
            self._resource.write(draft, name, body)

        return await self._reply(ask, await self._apply(ask, name, edit), name)

    async def change(self, ask: Ask) -> Reply:
        """By a merge patch; an `If-Match` is heeded where there is one."""
        name = self._resource.name(ask.path)
        patch = self._body(ask, ask.body)

        def edit(draft: Draft) -> None:
            before = self._there(ask, draft, name)
            if ask.if_match is not None:
                check_if_match(ask, self._etag(draft, name, before))
            body = merged(before, patch)
            self._permit(ask, name, before, body)
            self._resource.write(draft, name, body)

        return await self._reply(ask, await self._apply(ask, name, edit), name)

    async def touched(self, ask: Ask, touch: Callable[[Draft], None]) -> Reply:
        """`touch` edits what belongs to it; an `If-Match` is heeded where there is one."""
        name = self._resource.name(ask.path)

        def edit(draft: Draft) -> None:
            before = self._there(ask, draft, name)
            if ask.if_match is not None:
                check_if_match(ask, self._etag(draft, name, before))
            self._permit(ask, name, before, before)
            touch(draft)

        return await self._reply(ask, await self._apply(ask, name, edit), name)

    async def delete(self, ask: Ask) -> Reply:
        name = self._resource.name(ask.path)

        def edit(draft: Draft) -> None:
            before = self._there(ask, draft, name)
            check_if_match(ask, self._etag(draft, name, before))
            self._permit(ask, name, before, before)
            self._resource.delete(draft, name)

        await self._apply(ask, name, edit, deletes=True)
        return Reply(None)

    async def _apply(self, ask: Ask, name: str, edit: Callable[[Draft], None], *, deletes: bool = False) -> Draft:
        try:
            return await self._editing.apply(ask, edit)
        except Faults as faults:
            refusal = self._refusal(name, faults, deletes=deletes)
        raise refusal

    def _refusal(self, name: str, faults: Faults, *, deletes: bool) -> GatewayError:
        """The first fault, as the caller wrote what is wrong; what an edit breaks elsewhere is told with its place."""
        line = faults.lines[0]
        place = where(self._resource.place(name))
        if deletes:
            told = f"`{broken[1]}` names it" if (broken := _BROKEN_REFERENCE.match(line)) else line
            return StillInUse(f"The {self._resource.noun} `{name}` cannot go: {told}")
        if line.startswith(f"{place}.") or not place:
            path, _, what = line.removeprefix(f"{place}.").partition(": ")
            member = self._resource.member(path)
            return InvalidRequest(f"`{member}`: {what}.", param=member)
        if line.startswith(f"{place}: "):
            return InvalidRequest(f"`{name}`: {line.removeprefix(f'{place}: ')}.", param=self._resource.name_member)
        return InvalidRequest(f"{line}.")

    def _there(self, ask: Ask, draft: Draft, name: str) -> dict[str, Any]:
        body = self._resource.read(draft, name)
        if body is None or not self._visible(ask, name, body):
            raise NotFound(f"There is no {self._resource.noun} `{name}`.")
        return body

    def _body(self, ask: Ask, given: Mapping[str, Any]) -> dict[str, Any]:
        """Without what is read-only. Raises `InvalidRequest` for a member that there is not, and for another name."""
        members, named = self._resource.body.model_fields, self._resource.name_member
        ours = self._resource.answer.model_fields.keys() - members.keys() - {named}
        body = {name: value for name, value in given.items() if name not in ours}
        if named is not None and named in body and named not in members:
            if named in ask.path and body[named] != ask.path[named]:
                raise InvalidRequest(f"`{named}` is not the name in the path: nothing is renamed.", param=named)
            del body[named]
        for name in body:
            if name not in members:
                hint = did_you_mean(name, members)
                raise InvalidRequest(
                    f"`{name}` is not known here{hint}: there are {one_of(members)}.", param=name[:256]
                )
        return body

    def _etag(self, draft: Draft, name: str, body: Mapping[str, Any]) -> str:
        return etag_of(self._resource.entries(draft, name), body)

    async def _reply(self, ask: Ask, draft: Draft, name: str) -> Reply:
        body = self._there(ask, draft, name)
        document = self._resource.document(draft, name, body)
        return Reply(await self._show(ask, draft, name, document), self._etag(draft, name, body))
