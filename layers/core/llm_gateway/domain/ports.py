"""What the pipeline asks of the world outside. Adapters implement these; tests use `adapters.memory`."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, Protocol

from llm_gateway.domain.fallback import LostSettlement
from llm_gateway.domain.health import Finding
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.limits import Grant, Hold, Level, Policy, Refusal, Scope, StoredHold
from llm_gateway.domain.usage import RequestRecord
from llm_gateway.errors import UpstreamError

if TYPE_CHECKING:  # a gateway that is never asked for usage, and changes nothing, does not load what they are made of
    from llm_gateway.domain.audit import AuditEvent, AuditFilter, AuditPage, AuditPosition
    from llm_gateway.domain.listing import Position, RequestPage, Wanted
    from llm_gateway.domain.revisions import Change, RevisionNote, Snapshot
    from llm_gateway.domain.totals import Dimension, Group, Row, Totals

Kind = Literal["settings", "provider", "model", "price", "organisation", "team", "user", "key"]


@dataclass(frozen=True, slots=True)
class RegistryEntry:
    """One thing an operator configured. `document` is JSON-shaped; money and prices in it are strings.

    Of a key it says what the name may do: its limits and budgets, which outlive any one token.
    """

    kind: Kind
    name: str
    document: Mapping[str, Any]


class RegistryView(Protocol):
    """One revision of the registry as a gateway reads it: never a part of another one."""

    @property
    def revision(self) -> int: ...

    @property
    def catalog(self) -> Sequence[RegistryEntry]:
        """By kind and name. The very same sequence in every view between which nothing of it changed."""
        ...

    async def find_key(self, key_id: str) -> VirtualKey | None:
        """Raises `errors.Unavailable` when the store cannot be reached."""
        ...


class Registry(Protocol):
    """What operators configure. Every method raises `errors.Unavailable` when the store cannot be reached.

    A `put` or `delete` is a revision of its own.
    """

    async def view(self) -> RegistryView:
        """The current revision."""
        ...

    async def load_catalog(self) -> Sequence[RegistryEntry]: ...

    async def put_entry(self, entry: RegistryEntry) -> None: ...

    async def delete_entry(self, kind: Kind, name: str) -> None: ...

    async def find_key(self, key_id: str) -> VirtualKey | None: ...

    async def put_key(self, key: VirtualKey) -> None: ...

    async def delete_key(self, key_id: str) -> None: ...

    async def list_keys(self) -> Sequence[VirtualKey]: ...


class RegistryEditor(Registry, Protocol):
    """The registry as whoever changes it sees it. Every method raises `errors.Unavailable`."""

    async def read(self) -> "Snapshot":
        """The current revision, whole."""
        ...

    async def commit(self, changes: "Sequence[Change]", expected: int, audit: "AuditEvent") -> int:
        """Makes all of the changes or none, and the audit event with them; the revision's number.

        The event's outcome, revision and changes are filled in here. Where nothing changes there is no new revision,
        and the event is recorded all the same. Raises `errors.RevisionConflict` where the current revision is not the
        expected one (nothing is written, the event neither), and `errors.InvalidRequest` for an entry of over 400 KB.
        """
        ...

    async def revisions(self, limit: int, before: int | None = None) -> "Sequence[RevisionNote]":
        """The latest ones, newest first, or those before a number. Older ones than the kept ones are gone."""
        ...

    async def read_revision(self, revision: int) -> "Snapshot | None":
        """An earlier one, whole. None where it is not kept, or never was."""
        ...


class AuditTrail(Protocol):
    """Who changed what, for good. Every method raises `errors.Unavailable`."""

    async def record(self, event: "AuditEvent") -> None:
        """Of what changed no entry of the registry: a secret, or a refused attempt. Harmless when repeated."""
        ...

    async def page(self, wanted: "AuditFilter", after: "AuditPosition | None", limit: int) -> "AuditPage":
        """At most `limit` events, newest first, from behind `after` on."""
        ...


class Ledger(Protocol):
    """One record per request. Every method raises `errors.Unavailable` when the store cannot be reached."""

    async def open(self, record: RequestRecord) -> None:
        """Writes an `open` record. Harmless when repeated with the same `request_id`.

        It may be opened again with more in it. One with `holds` is then not undone by one without, which comes late.
        """
        ...

    async def settle(self, record: RequestRecord) -> bool:
        """Moves `open` or `abandoned` to the record's status with everything it says; writes it where none is.

        True if this call did it, False if the record had been settled or failed before: the first truth stays.
        """
        ...

    async def get(self, request_id: str) -> RequestRecord | None: ...

    async def abandon(self, record: RequestRecord) -> bool:
        """Moves `open` to the record, which is `abandoned`. True if this call did it, or one that was the same."""
        ...

    async def close(self, request_id: str) -> None:
        """Ends the time in which an abandoned record takes a late settlement. Leaves any other as it is."""
        ...

    def due(self, now: float) -> AsyncIterator[str]:
        """Ids of `open` records whose `expires_at` is before `now` (Unix seconds)."""
        ...


class LostSettlements(Protocol):
    """Where settlements wait that the ledger could not take."""

    async def put(self, lost: LostSettlement) -> None:
        """Harmless when repeated. Raises `errors.Unavailable`, also for one that is too long."""
        ...


class RequestIndex(Protocol):
    """Lists of requests that have ended. Every method raises `errors.Unavailable` when the store cannot be reached."""

    async def page(self, wanted: "Wanted", after: "Position | None", limit: int) -> "RequestPage":
        """At most `limit` requests, newest first (of one moment by id, downwards), from behind `after` on."""
        ...

    def every(self, first_ms: int, until_ms: int) -> AsyncIterator[Sequence[RequestRecord]]:
        """All requests received from `first_ms` and before `until_ms`, in batches, in no order."""
        ...


class Scopes(Protocol):
    """The counters of whatever is limited. Every method raises `errors.Unavailable` when the store cannot be reached.

    Each ends or makes one hold of one request, once, however often it is sent. `now` is in Unix seconds.
    """

    async def reserve(self, request_id: str, hold: Hold, policy: Policy, now: float) -> Grant | Refusal:
        """Takes `hold` if the policy has room for it; the hold of an earlier attempt is the same grant."""
        ...

    async def widen(
        self, request_id: str, hold: Hold, tag: str, usd: Decimal, policy: Policy, now: float
    ) -> Grant | Refusal:
        """Makes a live hold one of `usd` if the policy's hard budgets have room for what that is more than before.

        `hold` is as it was taken, or last widened; a hold is never made less. Of a grant's level only `committed` is
        told. A hold that has ended is refused, and so is another attempt's.
        """
        ...

    async def cancel(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        """Gives all of it back, its place in the minute too."""
        ...

    async def leave(self, request_id: str, hold: Hold, tag: str, now: float) -> None:
        """Ends a live hold that cost nothing; its place in the minute stays taken."""
        ...

    async def settle(
        self, request_id: str, hold: Hold, tag: str, cost: Decimal, tokens: int, now: float
    ) -> Level | None:
        """Makes the hold what it came to. None where it is gone, or another attempt's. Corrects an abandoned one."""
        ...

    async def abandon(self, request_id: str, hold: Hold, tag: str, charge: Decimal, now: float) -> None:
        """Charges the hold, and keeps its mark for a late settlement."""
        ...

    async def forget(self, request_id: str, scope: Scope) -> None:
        """Removes the mark of an abandoned hold."""
        ...

    async def holds(self, scope: Scope) -> Sequence[StoredHold]: ...

    async def level(self, scope: Scope, minute: int, labels: Sequence[str]) -> Level:
        """The counters as they are."""
        ...

    def scopes(self) -> AsyncIterator[Scope]:
        """Every scope that has ever been counted."""
        ...

    async def prune(self, scope: Scope, now: float) -> int:
        """Removes counters that nothing writes any more; how many."""
        ...


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """A whole answer, as its caller got it. Header names in lower case; `packed` is the body, compressed (zlib)."""

    headers: Mapping[str, str]
    packed: bytes
    stream: bool


@dataclass(frozen=True, slots=True)
class AnswerClaim:
    """A request's wish to be the one that runs under an idempotency key. Times are Unix seconds."""

    entry: str
    """The key, with whose it is."""
    owner: str
    """The request's id. It asks once."""
    fingerprint: str
    """Of what was asked: the same for the same request only."""
    at: int
    until: int
    """From then on another may run: this one has died."""


@dataclass(frozen=True, slots=True)
class AnswerEntry:
    """What is there under an idempotency key. `answer` only where the state is `kept`."""

    owner: str
    fingerprint: str
    state: Literal["running", "kept", "too_large"]
    answer: KeptAnswer | None = None


class AnswerStore(Protocol):
    """Answers of requests with an `Idempotency-Key`. Of all who claim an entry at once, one gets it.

    Every method is harmless when repeated, also late, and raises `errors.Unavailable` when the store cannot be reached.
    """

    async def begin(self, claim: AnswerClaim) -> AnswerEntry | None:
        """None: the entry is the claim's, to be finished or released. Otherwise what is there already.

        An entry is free where there is none, where its time is up (`until`), and where it was released.
        """
        ...

    async def finish(self, claim: AnswerClaim, answer: KeptAnswer | None, until: int) -> bool:
        """Keeps the answer until then; None says that it is too large. False if the entry is no longer the claim's."""
        ...

    async def release(self, claim: AnswerClaim) -> None:
        """Frees the entry, if it is still the claim's and not finished, and against a `begin` that comes late."""
        ...


@dataclass(frozen=True, slots=True)
class Folded:
    """What became of records that were to be folded: `counted` now; `refused` ids, which the store will never take.

    Those that are in neither had been counted before, in the state that they are in, or are gone.
    """

    counted: tuple[RequestRecord, ...] = ()
    refused: tuple[str, ...] = ()


class TotalsReader(Protocol):
    """Daily totals (`domain.totals`), as they are read."""

    def read(
        self, group: "Group", first_day: date, last_day: date, where: "Mapping[Dimension, str | None] | None" = None
    ) -> "AsyncIterator[tuple[Row, Totals]]":
        """The rows of one of `totals.GROUPS`, both days included, by day and then by values in a stable order.

        `where` keeps those with these values of the group's own dimensions, as `totals.total_name` makes them. Rows
        that came to nothing are left out. Raises `ValueError` for a group that is not kept.
        """
        ...


class TotalsStore(TotalsReader, Protocol):
    """Daily totals (`domain.totals`). Every method raises `errors.Unavailable` when the store cannot be reached."""

    async def fold(self, records: Sequence[RequestRecord]) -> Folded:
        """Counts requests that have left `open`, each once, however often and in whatever order they are given.

        A record is what somebody saw at some time: what the ledger says now is what counts. An abandoned one that was
        counted and has been settled since is corrected by the difference. Raises `errors.Unavailable` while the totals
        are being rebuilt; what was counted by then stays counted.
        """
        ...

    async def rebuild(self, first_day: date, last_day: date) -> int:
        """Makes the totals of these days what the ledger's requests say, exactly; how many requests counted.

        No fold succeeds meanwhile, and none until it has ended well: one that died is to be begun again.
        Raises `errors.Unavailable`, also where another rebuild has taken over.
        """
        ...


class AlertMarks(Protocol):
    """Which alerts were sent. Times are Unix seconds. Every method raises `errors.Unavailable`."""

    async def claim(self, name: str, now: int, until: int) -> str | None:
        """A token where the alert is the caller's to send until then: nobody has sent it, and no claim still runs."""
        ...

    async def release(self, name: str, token: str) -> None:
        """Gives the claim back."""
        ...

    async def sent(self, name: str, now: int) -> None:
        """It is sent, and will not be claimed again."""
        ...


class Notifier(Protocol):
    """Somewhere that people listen."""

    async def publish(self, subject: str, text: str, attributes: Mapping[str, str]) -> None:
        """Raises `errors.Unavailable`."""
        ...


class HealthStore(Protocol):
    """What processes tell each other of deployments that fail. Every method raises `errors.Unavailable`."""

    async def tell(self, name: str, finding: Finding, over: Mapping[str, Finding]) -> Finding | None:
        """Keeps what was found of the deployment `name`, unless what is there began later, which is returned then.

        `over` are findings that nobody needs any more: each is forgotten, if it is still as it is given here.
        """
        ...

    async def read(self) -> Mapping[str, Finding]:
        """Of every deployment that something was found of; perhaps not yet what was told in the last second."""
        ...


class SecretStore(Protocol):
    """Provider keys. Raises `errors.Unavailable` when the store cannot be reached."""

    async def get_secret(self, name: str) -> str | None:
        """The secret's text, or None where there is none."""
        ...


@dataclass(frozen=True, slots=True)
class SecretNote:
    """What may be said of a secret: everything but its value. Times are Unix seconds."""

    name: str
    created_at: int | None
    changed_at: int | None
    current: str
    """The version that `get_secret` gives."""
    staged: str | None
    """The one that waits to take its place."""
    rotate_after: int | None
    """When somebody wanted it replaced."""


class SecretWriter(Protocol):
    """Provider keys, as whoever sets them sees them. Names are whole. No text is in any exception.

    Every method raises `errors.Unavailable`. All but `describe` and `read_staged` may be repeated.
    """

    async def put_secret(self, name: str, text: str) -> str:
        """Makes it the current version at once, whether there is a secret or not, and ends what was staged; its id."""
        ...

    async def stage(self, name: str, text: str) -> str:
        """A version that nobody is given yet; its id. One that was staged before is discarded.

        Raises `errors.NotFound` where there is no secret: the first key is `put_secret`.
        """
        ...

    async def read_staged(self, name: str, version: str) -> str | None:
        """Its text, to be tried out. None where it is not staged any more."""
        ...

    async def promote(self, name: str, version: str) -> None:
        """Makes the staged version the current one. Raises `errors.NotFound` where it is not staged any more."""
        ...

    async def discard(self, name: str, version: str) -> None:
        """Forgets a staged version; one that is current, or gone, stays as it is."""
        ...

    async def delete_secret(self, name: str) -> bool:
        """False where there was none. It can be restored for seven days, by hand; `put_secret` does that too."""
        ...

    async def describe(self, name: str) -> SecretNote | None: ...

    async def schedule_rotation(self, name: str, at: int | None) -> None:
        """Notes when it is to be replaced (Unix seconds); None takes the note away. Raises `errors.NotFound`."""
        ...


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """One request to a host of ours. `headers` in lower case; times in seconds."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    connect_s: float = 5.0
    first_byte_s: float = 120.0
    """From the call of `send` to the response's head: a connection, where one has to be made, takes its part of it."""
    idle_s: float = 60.0
    """Between two reads of the body."""
    renew: "Callable[[], HttpRequest] | None" = None
    """Makes it anew where a kept connection turns out dead and it is sent again: the first may be carried out yet."""
    on_sent: "Callable[[], None] | None" = None
    """Called once there is a connection and the request goes out on it: until then nobody can have worked on it."""


class HttpResponse(Protocol):
    """A response whose head has come. It must be closed; closing one that is not read to its end cancels it."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> Mapping[str, str]:
        """Names in lower case; of a repeated one the last."""
        ...

    async def read(self, limit: int) -> bytes:
        """The whole body. Raises `UpstreamMalformed` past `limit` bytes, and what `chunks` raises."""
        ...

    def chunks(self) -> AsyncIterator[bytes]:
        """The body as it comes: what the socket had, in one piece, never empty.

        Raises `UpstreamCut` where it ends before the framing says so, `UpstreamTimeout` after `idle_s` of silence.
        """
        ...

    def end(self, error: UpstreamError) -> None:
        """Ends it now, for the provider too. Whoever reads, or will, gets what has come, and then `error`.

        Without effect where all has come, or nothing more was wanted.
        """
        ...

    async def close(self) -> None: ...


class HttpClient(Protocol):
    async def send(self, request: HttpRequest) -> HttpResponse:
        """Raises `UpstreamUnreachable` (name, connection, TLS), `UpstreamTimeout` (connect, first byte), `UpstreamCut`,
        and `UpstreamMalformed` for a peer that does not speak HTTP.

        Never follows a redirect, keeps connections alive, verifies certificates. Being cancelled closes the connection.
        A request that a stale kept-alive connection swallowed (closed by the peer before any byte of an answer) is sent
        again once on a fresh one.
        """
        ...

    async def close(self) -> None: ...
