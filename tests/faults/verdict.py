"""Holds a result against what was expected: what the caller got, what the providers saw, the ledger, what is left."""

from collections import Counter
from collections.abc import Iterator, Sequence
from decimal import Decimal
from itertools import pairwise

from llm_gateway.domain.usage import RequestRecord
from tests.fakes.faulty_upstream import Seen
from tests.fakes.faulty_wires import INPUT_TOKENS, TEXT, words_of
from tests.faults.answers import Got
from tests.faults.case import Bill, Expect
from tests.faults.stage import PRICES, Result

MOST_INPUT, MOST_OUTPUT = 60, 40
"""Tokens that a call which was broken off is estimated at, at most: the prompt is short, and so is the answer."""
_HAMMERED = (3, 1.0)
"""More calls than this within so many seconds are too many, whatever a case expects."""


def faults_of(result: Result) -> list[str]:
    """What is wrong, in words; empty where all is as it must be."""
    return [*_answer(result), *_calls(result), *_ledger(result), *_left(result)]


# -- the caller -------------------------------------------------------------------------------------------------------


def _answer(result: Result) -> Iterator[str]:
    got, expected = result.got, result.run.expected
    yield from got.broken
    if got.status not in expected.status:
        yield f"status {got.status}, not {_told(expected.status)}: {got.error}"
    if not expected.times.at_least_s <= got.seconds <= expected.times.at_most_s:
        yield f"it took {got.seconds:.2f} s, not {expected.times.at_least_s:g} to {expected.times.at_most_s:g}"
    match expected.what:
        case "whole":
            yield from _whole(result)
        case "part":
            yield from _part(got, expected)
        case "refused":
            yield from _refused(got, expected)


def _whole(result: Result) -> Iterator[str]:
    got, expected = result.got, result.run.expected
    streamed, both = result.run.mode == "stream", bool(_begun(result))
    if got.text != TEXT:
        yield f"the text is {got.text!r}"
    if got.finish_reason != "stop" or not got.done or got.error:
        yield f"a whole answer does not end so: {got.finish_reason}, done {got.done}, {got.error}"
    if got.usage is None:
        yield "no usage"
    if streamed and (len(got.ids), got.roles) != (1, 1):
        yield f"{got.roles} roles, and the ids {got.ids}"
    names = {"primary-1"} if expected.spare == (0, 0) else {"spare-1"}
    if result.run.wire.dialect != "bedrock_converse" and not names <= got.models <= {"primary-1", "spare-1"}:
        yield f"the models are {got.models}, not {names}"
    if any(name.startswith(("run-", "spare-1-")) for name in got.models):
        yield f"an alias as the model: {got.models}"
    provider = got.headers.get("x-gateway-provider", "")
    wanted = "p" if expected.spare == (0, 0) or both else "s"
    if not provider.startswith(wanted):
        yield f"x-gateway-provider is {provider}"


def _part(got: Got, expected: Expect) -> Iterator[str]:
    if not got.text or got.text == TEXT or not TEXT.startswith(got.text):
        yield f"no beginning of the text: {got.text!r}"
    if got.done or got.finish_reason is not None:
        yield f"a truncated success: done {got.done}, {got.finish_reason}"
    yield from _error(got, expected)


def _refused(got: Got, expected: Expect) -> Iterator[str]:
    if got.text or got.done:
        yield f"an error with an answer: {got.text!r}"
    yield from _error(got, expected)
    told = got.headers.get("retry-after")
    if expected.retry_after is not None and told != str(expected.retry_after):
        yield f"retry-after is {told}"


def _error(got: Got, expected: Expect) -> Iterator[str]:
    if got.error is None:
        yield "no error was told"
    elif expected.code is not None and got.error.get("code") != expected.code:
        yield f"the code is {got.error.get('code')}, not {expected.code}"


# -- the providers ----------------------------------------------------------------------------------------------------


def _calls(result: Result) -> Iterator[str]:
    run, expected = result.run, result.run.expected
    unseen = run.case.where in ("refusing", "not accepting")
    low, high = (0, 0) if unseen else (each + run.case.resent for each in expected.primary)
    for who, seen, (least, most) in (
        ("primary", result.primary, (low, high)),
        ("spare", result.spare, expected.spare),
    ):
        if not least <= len(seen) <= most:
            yield f"the {who} was called {len(seen)} times, not {_range(least, most)}"
        if not run.case.resent:
            yield from _spacing(who, seen, expected.times.apart_s)
    for late in result.spare:
        if late.at < max((each.at for each in result.primary), default=0.0):
            yield "the spare was called before the primary was given up"


def since(call: Seen) -> float:
    """From when the time until the next call counts. When a client hung up, its provider may notice late."""
    return call.at if call.done_at is None else call.done_at


def _spacing(who: str, seen: Sequence[Seen], apart_s: float) -> Iterator[str]:
    for first, second in pairwise(seen):
        gap = second.at - since(first)
        if gap < apart_s:
            yield f"the {who} was called again after {gap:.3f} s, not {apart_s:g}"
    most, within_s = _HAMMERED
    times = [each.at for each in seen]
    if any(times[at + most] - times[at] < within_s for at in range(len(times) - most)):
        yield f"the {who} was hammered: {len(times)} calls"


# -- the ledger -------------------------------------------------------------------------------------------------------


def _ledger(result: Result) -> Iterator[str]:
    record, expected = result.record, result.run.expected
    if record is None:
        yield "its record is still open, or was never written"
        return
    wanted = "settled" if expected.what == "whole" else "failed"
    if record.status != wanted or (record.error_code is None) != (wanted == "settled"):
        yield f"the record is {record.status} ({record.error_code})"
    if expected.what != "refused" and record.http_status != 200:
        yield f"the record's status is {record.http_status}"
    if expected.what == "refused" and record.http_status != result.got.status:
        yield f"the record's status is {record.http_status}, the caller's {result.got.status}"
    yield from _attempts(result, record)
    yield from _bill(result, record)


def _attempts(result: Result, record: RequestRecord) -> Iterator[str]:
    expected = result.run.expected
    rows = Counter(each.provider[0] for each in record.attempts)
    for letter, (least, most) in (("p", expected.primary), ("s", expected.spare)):
        if not least <= rows[letter] <= most:
            yield f"{rows[letter]} attempts at {letter} on record, not {_range(least, most)}"
    if not record.attempts:
        return
    *failed, last = record.attempts
    if any(each.error is None for each in failed) or (last.error is None) != (expected.what == "whole"):
        yield f"the attempts' errors are {[each.error for each in record.attempts]}"
    answered = "p" if expected.spare == (0, 0) else "s"
    if expected.what == "whole" and (last.status != 200 or record.provider[0] != answered):
        yield f"the last attempt has {last.status}, the record's provider is {record.provider}"
    if expected.what == "whole" and record.finish_reason != "stop":
        yield f"the record's finish reason is {record.finish_reason}"


def _bill(result: Result, record: RequestRecord) -> Iterator[str]:
    expected = result.run.expected
    own, other = expected.bills
    begun = _begun(result)
    rest = len(words_of(TEXT.removeprefix(begun)))
    own_words = len(words_of(TEXT.removeprefix(result.run.wire.prefill(result.primary[-1])))) if result.primary else 0
    primary = _bounds(own, "p", own_words, max(len(result.primary), expected.primary[1]))
    spare = _bounds(other, "s", rest, expected.spare[1])
    least, most = primary[0] + spare[0], primary[1] + spare[1]
    if own in ("unread", "perhaps"):
        most = max(most, record.reserved_usd or Decimal(0))
    billed = record.cost_usd
    if billed is None or not least <= billed <= most:
        yield f"billed {billed}, not {least}" + (f" to {most}" if most != least else "")
    if own in ("begun", "unread", "begun and told") and billed is not None and billed <= least:
        yield f"billed {billed}: what the primary had begun is free"
    usage = result.got.usage
    if usage is not None:
        told = (usage.get("prompt_tokens"), usage.get("completion_tokens"))
        kept = (record.usage.input_tokens, record.usage.output_tokens)
        if expected.what == "whole" and own in ("told", "nothing") and told != kept:
            yield f"the caller was told of {told} tokens, the record says {kept}"
    costs = [each.cost_usd for each in record.attempts if each.cost_usd is not None]
    if len(record.attempts) > 1 and sum(costs, Decimal(0)) != (billed or 0):
        yield f"the attempts come to {sum(costs, Decimal(0))}, the record to {billed}"


def _bounds(bill: Bill, letter: str, words: int, calls: int) -> tuple[Decimal, Decimal]:
    told = _cost(letter, INPUT_TOKENS, words)
    most = calls * _cost(letter, MOST_INPUT, MOST_OUTPUT)
    nothing = Decimal(0)
    return {
        "nothing": (nothing, nothing),
        "told": (told, told),
        "begun": (nothing, most),
        "unread": (nothing, most),
        "perhaps": (nothing, most),
        "begun and told": (told, told + most),
    }[bill]


def _cost(letter: str, tokens: int, written: int) -> Decimal:
    price_in, price_out = PRICES[letter]
    return Decimal(tokens * price_in + written * price_out) / 10**6


def _begun(result: Result) -> str:
    """What of the answer the spare was given to go on from."""
    return result.run.wire.prefill(result.spare[-1]) if result.spare else ""


# -- what is left -----------------------------------------------------------------------------------------------------


def _left(result: Result) -> Iterator[str]:
    if result.holds or result.in_flight:
        yield f"{result.holds} holds are left, {result.in_flight} in flight"
    if result.unfinished:
        yield f"{result.unfinished} calls were still under way after the answer"
    after = result.after
    if after.status != 200 or after.text != TEXT or after.broken or not after.done:
        yield f"a healthy call after it got {after.status} {after.text!r} {after.error} {after.broken}"


def _range(least: int, most: int) -> str:
    return str(least) if least == most else f"{least} to {most}"


def _told(statuses: frozenset[int]) -> str:
    return " or ".join(map(str, sorted(statuses)))
