"""What somebody wants to know of usage: checked, held to what the asker may see, and to what totals are kept by."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Final

from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.listing import Wanted
from llm_gateway.domain.totals import DIMENSIONS, GROUPS, Dimension, Group, total_name
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import InvalidRequest, PermissionDenied

DAY: Final = "day"
MOST_DAYS: Final = 400
"""As long as the ledger keeps a request."""
DEFAULT_DAYS: Final = 30
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2999
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Days:
    """Days of UTC, both included."""

    first: date
    last: date

    def milliseconds(self) -> tuple[int, int]:
        """Unix milliseconds: from the first one, before the second."""
        first, last = (datetime(day.year, day.month, day.day, tzinfo=UTC) for day in (self.first, self.last))
        return int(first.timestamp()) * 1000, int(last.timestamp()) * 1000 + _DAY_MS


@dataclass(frozen=True, slots=True)
class UsageQuestion:
    """Totals of some days. `group_by` are dimensions, and `day` for a row a day; `where` keeps those with a value."""

    days: Days
    group_by: tuple[str, ...] = (DAY,)
    where: Mapping[Dimension, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Plan:
    """How kept totals answer a question: `group` is read `where`; rows have `columns`, and `day` where `by_day`.

    `wholly` is the team and key that all of it must be of, where `group` does not tell keys of one name apart.
    """

    days: Days
    group: Group
    where: Mapping[Dimension, str | None]
    columns: tuple[Dimension, ...]
    by_day: bool
    wholly: Mapping[Dimension, str | None] | None = None


def days_between(first: date | None, last: date | None, today: date) -> Days:
    """The days that are meant: without an end until today, without a beginning 30 of them. Raises `InvalidRequest`."""
    for name, day in (("from", first), ("to", last)):
        if day is not None and not _FIRST_YEAR <= day.year <= _LAST_YEAR:
            raise InvalidRequest(
                f"`{name}` is a day of the years {_FIRST_YEAR} to {_LAST_YEAR}, not {day}.", param=name
            )
    last = last or today
    first = first or last - timedelta(days=DEFAULT_DAYS - 1)
    if first > last:
        raise InvalidRequest(f"`from` ({first}) is after `to` ({last}).", param="from")
    if (last - first).days >= MOST_DAYS:
        raise InvalidRequest(
            f"A question covers {MOST_DAYS} days at most, not {(last - first).days + 1}.", param="from"
        )
    return Days(first, last)


def plan(question: UsageQuestion, viewer: VirtualKey | None) -> Plan:
    """How the question is answered for `viewer`; None is the operator, who sees all.

    Raises `InvalidRequest` for what no totals are kept by, `PermissionDenied` where others' usage is asked for by name.
    """
    columns = _columns(question.group_by)
    narrow = _own(viewer)
    _forbid_others(question.where, narrow, viewer)
    where: dict[Dimension, str | None] = {**question.where, **narrow}
    # One organisation, one value: it divides nothing.
    needed = {*columns, *where} - {"organisation"}
    wholly: dict[Dimension, str | None] | None = None
    if needed == {"team", "key", "model"} and "key" in narrow and "team" not in columns:
        # Nothing is kept by all three: by key and model it is, and whether that is one team's can be asked.
        wholly = {dimension: total_name(value) for dimension, value in narrow.items()}
        needed.remove("team")
        del where["team"]
    group = next((group for group in GROUPS if set(group) == (needed or {"organisation"})), None)
    if group is None:
        raise InvalidRequest(_not_kept(needed, columns, narrow), param="group_by")
    named = {dimension: total_name(value) for dimension, value in where.items()}
    return Plan(question.days, group, named, columns, DAY in question.group_by, wholly)


def narrowed(wanted: Wanted, viewer: VirtualKey | None) -> Wanted:
    """`wanted` held to what `viewer` may see. Raises `PermissionDenied` where others' are asked for by name."""
    narrow = _own(viewer)
    asked: dict[Dimension, str | None] = {}
    if wanted.team is not None:
        asked["team"] = wanted.team
    if wanted.key is not None:
        asked["key"] = wanted.key
    _forbid_others(asked, narrow, viewer)
    names = {**asked, **narrow}
    return Wanted(
        wanted.first_ms,
        wanted.until_ms,
        names.get("team"),
        names.get("key"),
        wanted.user,
        wanted.model,
        wanted.provider,
        wanted.status,
    )


def may_see(viewer: VirtualKey, record: RequestRecord) -> bool:
    """A caller sees its key's requests in its team, a team-admin its team's, an admin all."""
    return all(getattr(record, name) == value for name, value in _own(viewer).items())


def _own(viewer: VirtualKey | None) -> dict[Dimension, str | None]:
    """What a viewer's rows all have: keys of one name are one, so that a rotated key keeps its history.

    But not beyond the team: a name that another team had before is another's.
    """
    if viewer is None or viewer.role == "admin":
        return {}
    if viewer.role == "team-admin" and viewer.team is not None:
        return {"team": viewer.team}
    return {"team": viewer.team, "key": viewer.name}


def _forbid_others(
    where: Mapping[Dimension, str | None], narrow: Mapping[Dimension, str | None], viewer: VirtualKey | None
) -> None:
    for dimension, own in narrow.items():
        if dimension == "team" and "key" in narrow:
            continue
        if where.get(dimension, own) != own:
            raise PermissionDenied(
                f"This key sees the usage of the {dimension} `{own}` only, not of `{where[dimension]}`.",
                param=dimension,
            )
    if "key" in narrow and viewer is not None and where.get("team", viewer.team) != viewer.team:
        raise PermissionDenied(f"This key sees its own usage only, not the team's `{where['team']}`.", param="team")


def _columns(group_by: tuple[str, ...]) -> tuple[Dimension, ...]:
    known: dict[str, Dimension] = {dimension: dimension for dimension in DIMENSIONS}
    columns: list[Dimension] = []
    for name in group_by:
        if name == DAY:
            continue
        if name not in known:
            raise InvalidRequest(
                f"Usage is not grouped by `{name}`: there are {_listed((DAY, *DIMENSIONS))}.", param="group_by"
            )
        columns.append(known[name])
    if len(set(group_by)) != len(group_by):
        raise InvalidRequest("`group_by` names a dimension twice.", param="group_by")
    return tuple(columns)


def _not_kept(needed: set[Dimension], columns: tuple[Dimension, ...], narrow: Mapping[Dimension, str | None]) -> str:
    extra = [dimension for dimension in DIMENSIONS if dimension in needed and dimension not in columns]
    asked = " x ".join(dimension for dimension in DIMENSIONS if dimension in needed)
    why = ""
    if extra:
        reason = "what this key may see" if set(extra) <= set(narrow) else "the filters"
        why = f" (with {_listed(tuple(extra))}, for {reason})"
    kept = ", ".join(" x ".join(group) for group in GROUPS)
    return f"No totals are kept by {asked}{why}. They are kept by {kept}, each also by day."


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)
