"""What a gateway.toml makes of the configuration: computed whole, before any of it is done.

A plan is made of one revision and holds for that one alone.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from llm_gateway.admin.draft import SETTINGS, Draft, Faults, entries_of, read_time
from llm_gateway.catalog.as_file import TABLE_OF
from llm_gateway.catalog.config import ConfigError, check_document
from llm_gateway.catalog.exported import exported_file
from llm_gateway.catalog.faults import where
from llm_gateway.catalog.providers import canonical
from llm_gateway.domain.audit import MASK, may_be_secret
from llm_gateway.domain.identity import new_token
from llm_gateway.domain.ports import Kind
from llm_gateway.domain.revisions import Change, EntryId, Snapshot, changed, effective

Action = Literal["create", "change", "delete"]
Path = tuple[str | int, ...]
_KINDS: Final[tuple[Kind, ...]] = ("settings", "organisation", *TABLE_OF)


@dataclass(frozen=True, slots=True)
class MemberChange:
    """`member` is its place in the table, as TOML spells it. Values are JSON-shaped; None is what is not there."""

    member: str
    before: Any
    after: Any


@dataclass(frozen=True, slots=True)
class ItemChange:
    """`name` is None of what there is one of: the settings, the organisation."""

    action: Action
    kind: Kind
    name: str | None
    members: tuple[MemberChange, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """`changes` is what is to be committed on `revision`; `items` tells it to people, in the order of a file.

    `tokens` are those of keys that are made, by name: to be shown once, and nowhere else.
    """

    revision: int
    changes: tuple[Change, ...]
    items: tuple[ItemChange, ...]
    tokens: Mapping[str, str]
    unnamed: tuple[tuple[Kind, str | None], ...]
    """What is there, is not in the file, and stays."""


def plan_file(
    document: Mapping[str, Any],
    snapshot: Snapshot,
    *,
    prune: bool,
    kept: Collection[str] = (),
    make_token: Callable[[], str] = new_token,
) -> Plan:
    """What applying a file's tables to the snapshot does. They may be TOML's or JSON's, without a key's token.

    With `prune` what the file does not name is deleted, but for the keys `kept`; without it, nothing is. Raises
    `Faults`, by place in the file: of a faulty file, and of one that does not go together with what stays.
    """
    file = _checked(document)
    draft = Draft(snapshot)
    unnamed = [each for each in _unnamed(draft, file) if each[0] != "key" or each[1] not in kept]
    tokens: dict[str, str] = {}
    for kind, name, table in _tables(file):
        draft.put(kind, name, table)
        if kind == "key" and all(token.rotated for token in draft.tokens_of(name)):
            tokens[name] = make_token()
            draft.make_token(name, tokens[name])
    before = draft.table("settings", "gateway") or {}
    if (settings := _settings(file, {} if prune else before)) != before:
        draft.put("settings", "gateway", settings)
    if prune:
        for kind, gone in unnamed:
            if kind != "settings":
                draft.delete(kind, gone or "organisation")
    made = effective(draft.changes(), snapshot.entries)
    return Plan(
        snapshot.revision,
        tuple(made.values()),
        tuple(_items(snapshot, made)) if made else (),
        tokens,
        () if prune else tuple(unnamed),
    )


def _checked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The file's tables under the names that are stored, once they are known to be a file. Raises `Faults`."""
    file = dict(document)
    if isinstance(file.get("keys"), Mapping):
        file["keys"] = {name: _key(table) for name, table in file["keys"].items()}
        if given := [name for name, table in file["keys"].items() if isinstance(table, Mapping) and "key" in table]:
            place = where(("keys", given[0], "key"))
            raise Faults([f"{place}: a key's token is made here and shown once: leave it out"])
    try:
        check_document(file, "gateway.toml")
    except ConfigError as error:
        raise Faults(error.faults) from None
    for kind, table in (("provider", "providers"), ("price", "prices")):
        file[table] = {_stored_name(kind, name): each for name, each in file.get(table, {}).items()}
    return file


def _key(table: Any) -> Any:
    if not isinstance(table, Mapping) or "expires_at" not in table:
        return table
    return {**table, "expires_at": read_time(table["expires_at"])}


def _stored_name(kind: str, name: str) -> str:
    if kind == "provider":
        return canonical(name)
    provider, colon, model = name.partition(":")
    return f"{canonical(provider)}{colon}{model}"


def _tables(file: Mapping[str, Any]) -> Iterator[tuple[Kind, str, Mapping[str, Any]]]:
    if file.get("organisation") is not None:
        yield "organisation", "organisation", file["organisation"]
    for kind, table in TABLE_OF.items():
        for name, each in file.get(table, {}).items():
            yield kind, name, each


def _settings(file: Mapping[str, Any], before: Mapping[str, Any]) -> dict[str, Any]:
    """Each member is a thing of its own: one that the file does not name stays as any other."""
    return {**before, **{member: file[member] for member in SETTINGS if file.get(member) is not None}}


def _unnamed(draft: Draft, file: Mapping[str, Any]) -> Iterator[tuple[Kind, str | None]]:
    for member in draft.table("settings", "gateway") or {}:
        if file.get(member) is None:
            yield "settings", member
    if "organisation" in draft.tables and file.get("organisation") is None:
        yield "organisation", None
    for kind, table in TABLE_OF.items():
        for name in draft.names(kind):
            if name not in file.get(table, {}):
                yield kind, name


def _items(snapshot: Snapshot, made: Mapping[EntryId, Change]) -> Iterator[ItemChange]:
    """What the changes come to in a file's words: the file as it was beside the file as it will be."""
    after = Snapshot(snapshot.revision + 1, changed(snapshot.entries, made, snapshot.revision + 1, 0))
    old, new = (exported_file(entries_of(each), each.keys()) for each in (snapshot, after))
    # What differs in nothing that a file shows (a default that is spelled out, a token no longer in force) is told too.
    touched = set(_touched(snapshot, after, made))
    for kind in _KINDS:
        before, now = _of_kind(old, kind), _of_kind(new, kind)
        for name in sorted({*before, *now}):
            was, is_now = before.get(name), now.get(name)
            members = tuple(_members(kind, was or {}, is_now or {}))
            if members or (was is None) != (is_now is None) or (kind, name) in touched:
                yield ItemChange(_action(was, is_now), kind, name or None, members)


def _of_kind(file: Mapping[str, Any], kind: Kind) -> Mapping[str, Mapping[str, Any]]:
    """Its tables by name. The settings have none, and are always there; so has the organisation, which is one."""
    if kind == "settings":
        return {"": {member: file[member] for member in SETTINGS if member in file}}
    if kind == "organisation":
        return {"": file[kind]} if kind in file else {}
    found: Mapping[str, Mapping[str, Any]] = file.get(TABLE_OF[kind], {})
    return found


def _touched(before: Snapshot, after: Snapshot, made: Mapping[EntryId, Change]) -> Iterator[tuple[str, str]]:
    names = {token.key_id: token.name for token in (*before.keys(), *after.keys())}
    for kind, name in made:
        if kind == "token":
            yield "key", names[name]
        else:
            yield kind, "" if kind in ("settings", "organisation") else name


def _action(before: Mapping[str, Any] | None, after: Mapping[str, Any] | None) -> Action:
    if before is None:
        return "create"
    return "delete" if after is None else "change"


def _members(kind: Kind, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[MemberChange]:
    old, new = dict(_leaves(before)), dict(_leaves(after))
    for path in [*old, *(path for path in new if path not in old)]:
        was, is_now = old.get(path), new.get(path)
        if was == is_now and type(was) is type(is_now):
            continue
        if _hidden(kind, path):
            was, is_now = (None if value is None else MASK for value in (was, is_now))
        yield MemberChange(where(path), was, is_now)


def _hidden(kind: Kind, path: Path) -> bool:
    # `key` of a deployment is the name of one.
    return may_be_secret(path) and not (kind == "model" and path[-1] == "key")


def _leaves(value: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is no table, with its place; a list without tables in it is one value."""
    if isinstance(value, Mapping) and (value or not path):
        for name, inner in value.items():
            yield from _leaves(inner, (*path, name))
    elif isinstance(value, list) and any(isinstance(each, Mapping) for each in value):
        for index, each in enumerate(value):
            yield from _leaves(each, (*path, index))
    elif value is not None:
        yield path, float(value) if isinstance(value, float) else value
