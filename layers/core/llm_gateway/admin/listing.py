"""Pages of lists: filters, a limit, and a token for where the next page begins."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args, get_origin

from llm_gateway.admin.ask import Ask
from llm_gateway.admin.route_table import Route
from llm_gateway.catalog.providers import canonical
from llm_gateway.errors import InvalidRequest
from llm_gateway.pipeline.page_tokens import PageTokens

DEFAULT: Final = 50
MOST: Final = 200


@dataclass(frozen=True, slots=True)
class Rows:
    """Names and documents; `next` is None on the last page."""

    rows: list[tuple[str, dict[str, Any]]]
    next: str | None


def _name(position: Any) -> str:
    if not isinstance(position, str):
        raise ValueError("no name")  # noqa: TRY004 - what `PageTokens.open` expects
    return position


class Listing:
    """The list that was asked for; `position` reads where a page begins, by default behind a name.

    Raises `InvalidRequest`, with the parameter at fault as `param`.
    """

    def __init__(self, ask: Ask, position: Callable[[Any], Any] = _name) -> None:
        self.limit = _limit(ask.query.get("limit"))
        self.wanted = {name: ask.query[name] for name in ask.route.filters if name in ask.query}
        if "provider" in self.wanted:
            self.wanted["provider"] = canonical(self.wanted["provider"])
        for name, value in self.wanted.items():
            if (known := _known(ask.route, name)) and value not in known:
                raise InvalidRequest(f"`{name}` is one of {', '.join(known)}, not `{value}`.", param=name)
        self._tokens = PageTokens(ask.actor.key_hash)
        self._question = [ask.route.operation, dict(ask.path), self.wanted]
        token = ask.query.get("next")
        self.after: Any = None if token is None else self._tokens.open(self._question, token, position)

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
        return all(_text(_member(document, name)) == wanted for name, wanted in self.wanted.items())


def _member(document: Mapping[str, Any], name: str) -> Any:
    if document["object"] == "price" and name == "provider":
        return document["name"].partition(":")[0]
    return document.get(name)


def _known(route: Route, name: str) -> tuple[str, ...]:
    """The values that a member of the list's documents can have; none where it is any text."""
    page = None if route.answer is None else route.answer.model_fields.get("data")
    documents = () if page is None else get_args(page.annotation)
    member = documents[0].model_fields.get(name) if documents else None
    return () if member is None else tuple(dict.fromkeys(_values(member.annotation)))


def _values(annotation: Any) -> Iterator[str]:
    if annotation is bool:
        yield from ("true", "false")
    elif get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for inner in get_args(annotation):
            yield from _values(inner)


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
