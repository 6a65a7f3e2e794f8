"""Lists of requests: which ones are asked for, and where a page of them begins."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from llm_gateway.domain.usage import RequestRecord, Status

NAMES = ("team", "key", "user", "model", "provider", "status")
"""What requests are chosen by, besides their time."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requests that have ended, received from `first_ms` and before `until_ms` (Unix milliseconds); None is any.

    `model` is the one that was asked for or the one that was called. What is still `open` is in no list.
    """

    first_ms: int
    until_ms: int
    team: str | None = None
    key: str | None = None
    user: str | None = None
    model: str | None = None
    provider: str | None = None
    status: Status | None = None

    def filters(self) -> Iterator[tuple[str, str]]:
        """The names of `NAMES` that are given, with their values."""
        return ((name, value) for name in NAMES if (value := getattr(self, name)) is not None)

    def has(self, record: RequestRecord) -> bool:
        if record.status == "open" or not self.first_ms <= record.at_ms < self.until_ms:
            return False
        return all(
            value in (record.requested_model, record.routed_model)
            if name == "model"
            else getattr(record, name) == value
            for name, value in self.filters()
        )


@dataclass(frozen=True, slots=True, order=True)
class Position:
    """A place in the order of requests: by their time, and of one moment by id."""

    at_ms: int
    request_id: str


@dataclass(frozen=True, slots=True)
class RequestPage:
    """Newest first. `after` is where the next page goes on, None where there is none.

    A page may be shorter than asked for, even empty, and have one after it: what is read for one page is bounded.
    """

    records: Sequence[RequestRecord]
    after: Position | None
