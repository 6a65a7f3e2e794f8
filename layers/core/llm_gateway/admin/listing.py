"""Pages of lists: filters, a limit, and a token for where the next page begins."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from llm_gateway.admin.ask import Ask
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.page_tokens import PageTokens

DEFAULT: Final = 50
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """Names and documents; `next` is None on the last page."""

    rows: list[tuple[str, dict[str, Any]]]
    next: str | None


class Listing:
    """The list that was asked for. Raises `InvalidRequest`, with the parameter at fault as `param`."""

    def __init__(self, ask: Ask) -> None:
        self.limit = _limit(ask.query.get("limit"))
        self.wanted = {name: ask.query[name] for name in ask.route.filters if name in ask.query}
        self._tokens = PageTokens(ask.actor.key_hash)
        self._question = [ask.route.operation, dict(ask.path), self.wanted]
        token = ask.query.get("next")
        self.after: Any = None if token is None else self._tokens.open(self._question, token)

    def token(self, position: Any) -> str:
        return self._tokens.seal(self._question, position)

    def page(self, names: Iterable[str], row: Callable[[str], dict[str, Any] | None]) -> Rows:
        """`names` are in order; `row` gives None for one that is not to be seen."""
        found: list[tuple[str, dict[str, Any]]] = []
        for name in names:
            if self.after is not None and name <= self.after:
                continue
            document = row(name)
            if document is None or not self._has(document):
                continue
            if len(found) == self.limit:
                return Rows(found, self.token(found[-1][0]))
            found.append((name, document))
        return Rows(found, None)

    def _has(self, document: dict[str, Any]) -> bool:
        return all(_text(document.get(name)) == wanted for name, wanted in self.wanted.items())


def _text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _limit(text: str | None) -> int:
    if text is None:
        return DEFAULT
    if text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= MOST:
        return int(text)
    raise InvalidRequest(f"`limit` is a number from 1 to {MOST}, not `{text}`.", param="limit")
