"""What `requests tail` reads: the ledger's list, newest first, told oldest first, each request once."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from llm_gateway.cli.client import Gateway

FILTERS: Final = ("team", "key", "user", "model", "provider", "status")
_PAGE: Final = 100
_LONGEST: Final = timedelta(minutes=20)
"""A request stands in the list where it began, and is there once it has ended: so much later at most."""
_WRITTEN: Final = timedelta(seconds=5)
"""Between a request's end and its entry."""
_DEEP: Final = timedelta(minutes=1)
_FAR: Final = timedelta(days=29)


class Tail:
    """`wanted` are the list's filters. The gateway's clock counts, not this machine's."""

    def __init__(self, gateway: "Gateway", wanted: dict[str, str]) -> None:
        self._gateway = gateway
        self._wanted = wanted
        self._seen: dict[str, datetime] = {}
        self._now = datetime.now(UTC)
        self._begun = self._now
        self._deep_at = self._now

    def last(self, count: int) -> list[dict[str, Any]]:
        """The last ones, oldest first."""
        found: list[dict[str, Any]] = []
        for page in self._pages(self._now - _FAR):
            if not found:
                self._begun = self._deep_at = self._now
            found += page
            if len(found) >= count:
                break
        self._remember(found)
        return found[:count][::-1]

    def new(self) -> list[dict[str, Any]]:
        """What has ended since, oldest first.

        Usually it is on the first page. One that ran long stands further back: once a minute all of that is read.
        """
        since = self._now - _LONGEST
        deep = self._now - self._deep_at >= _DEEP
        found: list[dict[str, Any]] = []
        for page in self._pages(since):
            fresh = [each for each in page if self._is_new(each)]
            found += fresh
            if not fresh and not deep:
                break
        if deep:
            self._deep_at = self._now
        self._remember(found)
        self._seen = {name: at for name, at in self._seen.items() if at >= since - _LONGEST}
        return found[::-1]

    def _is_new(self, entry: dict[str, Any]) -> bool:
        took = entry["latency_ms"]
        ended = began(entry) + (_LONGEST if took is None else timedelta(milliseconds=took))
        return entry["request_id"] not in self._seen and ended >= self._begun - _WRITTEN

    def _remember(self, entries: list[dict[str, Any]]) -> None:
        self._seen.update((each["request_id"], began(each)) for each in entries)

    def _pages(self, since: datetime) -> Iterator[list[dict[str, Any]]]:
        """No page more than is asked for."""
        following: str | None = None
        while True:
            params: dict[str, str | int | None] = {"from": f"{since:%Y-%m-%d}", "limit": _PAGE, "next": following}
            page, headers = self._gateway.call("GET", "/usage/requests", params={**params, **self._wanted})
            if "date" in headers:
                self._now = parsedate_to_datetime(headers["date"])
            yield [each for each in page["data"] if began(each) >= since]
            following = page["next"]
            if following is None or (page["data"] and began(page["data"][-1]) < since):
                return


def began(entry: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(entry["at"])
