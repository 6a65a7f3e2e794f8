"""Who changed what: events that are written once and never touched again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from llm_gateway.domain.revisions import Change, EntryId, EntryKind, Put, StoredEntry

Outcome = Literal["done", "refused", "failed"]
"""`refused`: the gateway said no (rights, a stale ETag, a bad document). `failed`: a store or a provider did."""

MASK: Final = "***"
_SECRET_NAMES: Final = frozenset(
    {"key_hash", "key", "api_key", "secret", "password", "token", "authorization", "client_secret", "private_key"}
)
_SECRET_TABLES: Final = frozenset({"headers", "credentials"})
"""Every value in them: a vendor's header may carry a key under any name."""


@dataclass(frozen=True, slots=True)
class AuditChange:
    """One entry before and after, masked; None where there was or is none.

    `omitted` where the event was too large for both: its revision still has them.
    """

    kind: EntryKind
    name: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any] | None
    omitted: bool = False


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One attempt to change something. `event_id` is unique; writing the same event twice is writing it once."""

    event_id: str
    at_ms: int
    """Unix milliseconds."""
    actor: str
    """The key's name, the token's subject, or `command line`."""
    action: str
    """What was asked for: `provider.update`, `key.create`, `config.apply`."""
    target_kind: str = ""
    """The kind of entry, or `secret`; with `target`, what the action was about."""
    target: str = ""
    role: str | None = None
    team: str | None = None
    """The actor's."""
    source_ip: str | None = None
    request_id: str | None = None
    outcome: Outcome = "done"
    reason: str | None = None
    """Of what was not done: the message that the caller got."""
    revision: int | None = None
    """The one that it made."""
    changes: Sequence[AuditChange] = ()
    more_changes: int = 0
    """How many others there were, which the event had no room to name; its revision has them."""


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """None is any. Times are Unix milliseconds, the first included, the second not."""

    first_ms: int = 0
    until_ms: int | None = None
    actor: str | None = None
    action: str | None = None
    """All of it (`provider.update`), or what stands before the full stop (`provider`)."""
    target_kind: str | None = None
    target: str | None = None
    team: str | None = None
    outcome: Outcome | None = None

    def has(self, event: AuditEvent) -> bool:
        if event.at_ms < self.first_ms or (self.until_ms is not None and event.at_ms >= self.until_ms):
            return False
        if self.action is not None and self.action not in (event.action, event.action.partition(".")[0]):
            return False
        wanted = ("actor", "target_kind", "target", "team", "outcome")
        return all(getattr(self, name) in (None, getattr(event, name)) for name in wanted)


@dataclass(frozen=True, slots=True, order=True)
class AuditPosition:
    """A place in the order of events: by their time, and of one moment by id."""

    at_ms: int
    event_id: str


@dataclass(frozen=True, slots=True)
class AuditPage:
    """Newest first. A page may be shorter than asked for, even empty, and have one after it (`after`)."""

    events: Sequence[AuditEvent]
    after: AuditPosition | None


def audit_change(entry: EntryId, before: StoredEntry | None, change: Change) -> AuditChange:
    """What a change makes of an entry, as the audit may show it."""
    old = None if before is None else masked(before.document)
    return AuditChange(*entry, old, masked(change.document) if isinstance(change, Put) else None)


def may_be_secret(path: Sequence[str | int]) -> bool:
    """Whether `masked` hides what is at that place of a document."""
    names = [step.lower() for step in path if isinstance(step, str)]
    return any(name in _SECRET_TABLES or name in _SECRET_NAMES for name in names)


def masked(document: Mapping[str, Any]) -> dict[str, Any]:
    """The document with `***` for what may be a secret; that there was one, and a name of one, stays."""
    return {
        name: _all_masked(value) if name.lower() in _SECRET_TABLES or name.lower() in _SECRET_NAMES else _within(value)
        for name, value in document.items()
    }


def _within(value: Any) -> Any:
    if isinstance(value, Mapping):
        return masked(value)
    if isinstance(value, list | tuple):
        return [_within(each) for each in value]
    return value


def _all_masked(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _all_masked(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_all_masked(each) for each in value]
    return value if value is None or isinstance(value, bool) else MASK
