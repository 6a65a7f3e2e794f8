"""Where thinking stood in an answer, and how it finds its place there again on the next turn.

Chat Completions has one text and one list of calls; a model may think before, between and behind their parts, and
refuses its turn in another order. So a member of `reasoning_details` says what it came after:

  position           its place among thinking, text (all of it as one) and calls, where text or calls precede it
  offset             then also: how many characters of `content` do
  after_server_tool  true where a block precedes it that Chat Completions has no place for

`index` has to count on without gaps: the official SDKs merge deltas by it as by a list's index. Whatever is no text to
be joined comes once in a stream, with an index's first delta: they join all strings but `type`.
Sources: https://platform.claude.com/docs/en/build-with-claude/extended-thinking (blocks go back unmodified, in order;
a turn may not end in one), https://openrouter.ai/docs/use-cases/reasoning-tokens (`reasoning_details`)
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Block = dict[str, Any]

BEHIND_A_TOOL = "reasoning_details were dropped: they came after a tool that the provider ran, which cannot go back"
AT_THE_END = "reasoning_details were dropped: a turn cannot end in them"
_JOINED = ("text", "signature", "data")


class Before(NamedTuple):
    """What precedes a thinking block: characters of text, calls, and whether anything that is left out does."""

    text: float = 0
    calls: int = 0
    server_tool: bool = False


def placed(detail: dict[str, Any], before: Before) -> dict[str, Any]:
    """A member of `reasoning_details`, which has its `index`, with its place."""
    if before.text or before.calls:
        detail["position"] = detail["index"] + before.calls + (1 if before.text else 0)
        detail["offset"] = before.text
    if before.server_tool:
        detail["after_server_tool"] = True
    return detail


def is_format(given: Any, name: str) -> bool:
    """Whether it is the name of a format, or that several times over: deltas that each had it, joined by an SDK."""
    return isinstance(given, str) and given != "" and given == name * (len(given) // len(name))


def with_thinking(
    details: Any,
    block_of: Callable[[dict[str, Any]], Block | None],
    content: Sequence[Block],
    calls: Sequence[Block],
) -> tuple[list[Block], list[str]]:
    """The blocks of an assistant's turn in the order in which the model said them, and warnings of what is left out.

    `block_of` makes a block of a detail, or None where it cannot go back. Of `content`, blocks with a `text` may be
    split around thinking.
    """
    warnings: list[str] = []
    thinking: list[tuple[Before, Block]] = []
    for at, detail in enumerate(_whole(details)):
        block = block_of(detail)
        if block is None:
            continue
        before = _before(detail, at, any_text=any("text" in each for each in content))
        if before.server_tool:
            warnings.append(BEHIND_A_TOOL)
        else:
            thinking.append((before, block))
    blocks = list(_in_order(thinking, content, calls)) if thinking else [*content, *calls]
    while blocks and any(blocks[-1] is block for _, block in thinking):
        blocks.pop()
        warnings.append(AT_THE_END)
    return blocks, warnings


def _whole(details: Any) -> Iterable[dict[str, Any]]:
    """The details; deltas that a client has collected without merging them are merged here, by their `index`."""
    merged: dict[Any, dict[str, Any]] = {}
    for at, detail in enumerate(details if isinstance(details, list) else ()):
        if not isinstance(detail, dict):
            continue
        index = detail.get("index")
        whole = merged.setdefault((str(detail.get("type")), index if isinstance(index, int) else f"at {at}"), {})
        for name, value in detail.items():
            if name in _JOINED and isinstance(value, str):
                whole[name] = whole.get(name, "") + value
            elif value is not None:
                whole.setdefault(name, value)
    return merged.values()


def _before(detail: dict[str, Any], at: int, *, any_text: bool) -> Before:
    """What a detail says that it came after. A `position` alone means all of the text, if there is any."""
    position, index, offset = (detail.get(name) for name in ("position", "index", "offset"))
    server_tool = detail.get("after_server_tool") is True
    if not isinstance(position, int):
        return Before(server_tool=server_tool)
    ahead = max(0, position - (index if isinstance(index, int) else at))
    if not isinstance(offset, int):
        return Before(math.inf if ahead else 0, ahead - 1 if any_text else ahead, server_tool)
    return Before(offset, ahead - 1 if offset > 0 else ahead, server_tool)


def _in_order(
    thinking: Sequence[tuple[Before, Block]], content: Sequence[Block], calls: Sequence[Block]
) -> Iterator[Block]:
    left, uncalled = list(content), list(calls)
    written: float = 0
    for before, block in thinking:
        while left and (written < before.text or (written and "text" not in left[0])):
            piece = left.pop(0)
            text = piece.get("text", "")
            room = before.text - written
            if len(text) > room:
                left.insert(0, {**piece, "text": text[int(room) :]})
                # what marks the text's end (a cache breakpoint) stays there
                piece = {"text": text[: int(room)]} | {name: piece[name] for name in ("type",) if name in piece}
            written += min(len(text), room)
            yield from _unless_blank(piece)
        while uncalled and len(calls) - len(uncalled) < before.calls:
            yield uncalled.pop(0)
        yield block
    for piece in left:
        yield from _unless_blank(piece)
    yield from uncalled


def _unless_blank(block: Block) -> Iterator[Block]:
    """Text that is all white space is refused by the APIs, though their models write it."""
    if "text" not in block or block["text"].strip():
        yield block
