"""CPU of the translators alone: a chunk of a stream with its framing, and a buffered request with its answer.

Nothing but the dialects runs: no HTTP, no event loop, no ledger. Each chunk comes in a read of its own, or 20 in one.
"""

import gc
import time
from collections.abc import Callable, Sequence

import orjson

from llm_gateway.dialects.loading import Dialects
from llm_gateway.domain.catalog import Provider, Quirks
from llm_gateway.schemas.openai_chat import ModelRequest, read_chat_request
from llm_gateway.upstream.framings import FRAMINGS
from tests.bench.dialect_chunks import ANTHROPIC, ANTHROPIC_ON_BEDROCK, BEDROCK, GEMINI, OPENAI, OPENAI_CRLF, Wire
from tests.bench.report import Report, Row, ratio

PASSTHROUGH = "openai_chat"
WIRES = {
    PASSTHROUGH: OPENAI,
    "openai_chat, parsed": OPENAI_CRLF,
    "anthropic_messages": ANTHROPIC,
    "claude on bedrock": ANTHROPIC_ON_BEDROCK,
    "gemini_generate_content": GEMINI,
    "bedrock_converse": BEDROCK,
}
"""`openai_chat` forwards chunks unread; "parsed" is what it does with chunks that it has to read."""
TRANSLATED = ("anthropic_messages", "claude on bedrock", "gemini_generate_content", "bedrock_converse")

_TABLE = "dialects"
_REQUEST = "buffered request"
_CHUNKS, _REQUESTS = 2000, 200
_LIMIT = 3
_DIALECTS = Dialects()
_TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of the coming days.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string"},
                "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]},
                "days": {"type": "integer"},
            },
            "required": ["city"],
        },
    },
}


def measure_dialects(report: Report, rounds: int) -> None:
    """All wires in turn, so that whatever slows the machine slows all."""
    cases: dict[str, Callable[[Wire], float]] = {
        "text chunk": lambda wire: chunk(wire, wire.text),
        "text, 20 in a read": lambda wire: chunk(wire, wire.text, together=20),
        "tool-argument chunk": lambda wire: chunk(wire, wire.arguments, wire.call),
        _REQUEST: buffered,
    }
    found: dict[str, dict[str, list[float]]] = {case: {name: [] for name in WIRES} for case in cases}
    names = list(WIRES)
    for number in range(-1, rounds):
        for case, measure in cases.items():
            for name in [*names[number % len(names) :], *names[: number % len(names)]]:
                spent = measure(WIRES[name])
                if number >= 0:  # the round before the first one warms up
                    found[case][name].append(spent)
    report.rows += [Row(name, "CPU µs", {case: found[case][name] for case in cases}, 2, _TABLE) for name in names]
    for case in [case for case in cases if case != _REQUEST]:
        row = Row(case, "CPU µs", found[case])
        report.targets += [ratio(f"{case}: {name}", row, _LIMIT, [PASSTHROUGH], name) for name in TRANSLATED]


def chunk(wire: Wire, make: Callable[[int], bytes], before: bytes = b"", together: int = 1) -> float:
    """µs of CPU of one chunk: cut out of the read, translated. What opens the stream is not counted."""
    new_splitter, split_events = FRAMINGS[wire.framing]
    splitter, request = new_splitter(), request_of(wire, stream=True)
    translator = _DIALECTS[wire.dialect].translator(request, wire.model, split_events)
    for opening in (wire.opening, before):
        translator.feed(splitter.feed(opening))
    assert translator.started
    made = [make(number) for number in range(_CHUNKS)]
    reads = [b"".join(made[at : at + together]) for at in range(0, _CHUNKS, together)]

    def translate() -> Sequence[bytes]:
        return [translator.feed(block) if (block := splitter.feed(read)) else b"" for read in reads]

    spent, out = _cpu(translate)
    written = b"".join(out).count(b'"choices":[{')
    assert written == _CHUNKS, f"{wire.dialect} made {written} chunks of {_CHUNKS}"
    return spent / _CHUNKS


def buffered(wire: Wire) -> float:
    """µs of CPU of one request on its way up and its answer on the way down. Reading the caller's JSON is not counted."""
    dialect, request = _DIALECTS[wire.dialect], request_of(wire, stream=False)
    provider = Provider("bench", wire.dialect, "https://h.example", quirks=Quirks(envelope=wire.envelope))

    def translate() -> Sequence[bytes]:
        bodies = []
        for _ in range(_REQUESTS):
            dialect.encode("chat.completions", request, wire.model, provider)
            bodies.append(dialect.decode("chat.completions", request, wire.model, wire.answer).body)
        return bodies

    spent, out = _cpu(translate)
    assert orjson.loads(out[-1])["choices"][0]["finish_reason"] == "tool_calls"
    return spent / _REQUESTS


def request_of(wire: Wire, *, stream: bool) -> ModelRequest:
    """A conversation with a system message, three turns and a tool; usage asked for."""
    fields = {
        "model": wire.model,
        "messages": [
            {"role": "system", "content": "You are a helpful assistant. Answer in two sentences."},
            {"role": "user", "content": "What do you know about San Francisco?"},
            {"role": "assistant", "content": "It is a city in California, known for fog, hills and bridges."},
            {"role": "user", "content": "How will the weather be there?"},
        ],
        "tools": [_TOOL],
        "max_tokens": 512,
        "temperature": 0.2,
        **({"stream": True, "stream_options": {"include_usage": True}} if stream else {}),
    }
    return read_chat_request(orjson.dumps(fields))


def _cpu(run: Callable[[], Sequence[bytes]]) -> tuple[float, Sequence[bytes]]:
    """µs of this process's CPU, and what was made. The garbage of the case before is not this one's."""
    gc.collect()
    begun = time.process_time_ns()
    out = run()
    return (time.process_time_ns() - begun) / 1000, out
