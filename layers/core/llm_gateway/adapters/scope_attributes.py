"""What a scope's item is made of: counters by minute and by period, and the holds of requests in flight.

Read docs/ledger.md for what each attribute means.
"""

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Final

from llm_gateway.adapters.attributes import AttributeValue, Item, number
from llm_gateway.domain.limits import Hold, Level, Scope, StoredHold, ended_before

_HOLD: Final = "r#"
_KEPT_MINUTES: Final = 3
_KEPT_PERIODS_S: Final = 2 * 86_400
"""A hold of a period that is over settles within the longest request and a repair; two days are ample."""


def hold_name(request_id: str) -> str:
    return f"{_HOLD}{request_id}"


def write_hold(hold: Hold, tag: str) -> AttributeValue:
    fields: Item = {
        "a": {"N": number(hold.usd)},
        "t": {"N": str(hold.tokens)},
        "m": {"N": str(hold.minute)},
        "e": {"N": str(hold.expires_at)},
        "g": {"S": tag},
    }
    if hold.labels:
        fields["l"] = {"S": ",".join(hold.labels)}
    return {"M": fields}


def stored_hold(name: str, scope: Scope, attribute: AttributeValue) -> StoredHold:
    """A hold's attribute read back; `name` is the attribute's."""
    fields: Item = attribute["M"]
    labels = fields["l"]["S"].split(",") if "l" in fields else ()
    hold = Hold(
        scope=scope,
        usd=Decimal(fields["a"]["N"]),
        tokens=_integer(fields["t"]),
        minute=_integer(fields["m"]),
        labels=tuple(labels),
        expires_at=_integer(fields["e"]),
    )
    charged = Decimal(fields["x"]["N"]) if "x" in fields else None
    abandoned_at = _integer(fields["z"]) if "z" in fields else None
    return StoredHold(name.removeprefix(_HOLD), hold, fields["g"]["S"], charged, abandoned_at)


def stored_holds(scope: Scope, item: Item) -> Iterator[StoredHold]:
    return (stored_hold(name, scope, value) for name, value in item.items() if name.startswith(_HOLD))


def level_of(attributes: Item, minute: int, labels: Sequence[str]) -> Level:
    """The counters for one minute and some periods, out of an item or of what an update touched."""

    def count(name: str) -> int:
        return _integer(attributes[name]) if name in attributes else 0

    def money(kind: str) -> tuple[tuple[str, Decimal], ...]:
        names = ((label, f"{kind}#{label}") for label in labels)
        return tuple((label, Decimal(attributes[name]["N"])) for label, name in names if name in attributes)

    return Level(count(f"n#{minute}"), count(f"t#{minute}"), count("f"), money("c"), money("s"))


def old_counters(item: Item, now: float) -> list[str]:
    """Names of counters that nothing writes any more, at most as many as one update may name."""
    minute = int(now) // 60 - _KEPT_MINUTES
    return [name for name in item if _is_old(name, minute, now - _KEPT_PERIODS_S)][:200]


def _is_old(name: str, minute: int, before: float) -> bool:
    kind, _, rest = name.partition("#")
    if kind in ("n", "t"):
        return int(rest) < minute
    return kind in ("c", "s") and ended_before(rest, before)


def _integer(attribute: AttributeValue) -> int:
    return int(Decimal(attribute["N"]))
