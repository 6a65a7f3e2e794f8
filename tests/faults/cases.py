"""The table: every way in which a provider misbehaves, and what must come of it.

Without a fallback a passing fault is tried three times, with one twice; a provider that was silent, and one that denies,
once.
"""

from tests.fakes.faulty_upstream import Close, Reset
from tests.faults import plays
from tests.faults.case import (
    FIRST_TOKEN_S,
    IDLE_S,
    Case,
    broke,
    continued,
    continued_itself,
    fell_back,
    refused,
    served,
)

SSE = ("openai_chat", "anthropic_messages", "gemini_generate_content")
TERMINATED = ("openai_chat", "anthropic_messages")
"""Whose streams end with an event that says nothing else."""
SPACED_S = 1.0 - 0.02
PASSING_S = 7.0
"""Three tries, with half a second and a second between them at most."""
PATIENT = {"idle_s": 5, "total_s": 30}
"""For bodies of many megabytes on a machine that has other things to do."""
GRACE_S = 5.0
"""A stream that is complete is given two seconds to end."""

CONNECTIONS = (
    Case("healthy", plays.healthy, served(), served()),
    Case("refused connection", plays.healthy, refused(502, 3, at_most_s=PASSING_S), fell_back(2), where="refusing"),
    Case(
        "no connection in time",
        plays.healthy,
        refused(504, at_least_s=0.3),
        fell_back(at_least_s=0.3),
        where="not accepting",
        dialects=("openai_chat",),
        timeouts={"connect_s": 0.4},
    ),
    Case("reset before the head", plays.reset, refused(502, 3, at_most_s=PASSING_S), fell_back(2), where="own port"),
    Case("closed before the head", plays.vanish, refused(502, 3, at_most_s=PASSING_S), fell_back(2), where="own port"),
    Case("reset once", plays.then_healthy(plays.reset), served(2), served(2), where="own port"),
    Case("stale connection, closed", plays.stale_once(Close()), served(), served(), where="own port", warm=True, resent=1),
    Case("stale connection, reset", plays.stale_once(Reset()), served(), served(), where="own port", warm=True, resent=1),
    Case("half a head, then closed", plays.half_a_head, refused(502, 3, at_most_s=PASSING_S), fell_back(2)),
)  # fmt: skip

SILENT = [
    ("silence", plays.silence),
    ("half a head, then silence", plays.half_a_head_and_silence),
    ("a header byte now and then", plays.dripping_head),
    ("slow first token", plays.slow(FIRST_TOKEN_S * 6)),
]
SILENT_STREAMS = [
    ("comments and nothing else", plays.comments_alone, SSE),
    ("empty events and nothing else", plays.empty_events_alone, ("openai_chat", "anthropic_messages")),
]
CLOCKS = (
    *(
        Case(
            name,
            play,
            refused(504, lost="unread", at_least_s=FIRST_TOKEN_S - 0.05, at_most_s=FIRST_TOKEN_S + 4),
            fell_back(lost="unread", at_least_s=FIRST_TOKEN_S - 0.05, at_most_s=FIRST_TOKEN_S + 4),
        )
        for name, play in SILENT
    ),
    *(
        Case(
            name,
            play,
            refused(504, lost="unread", at_least_s=FIRST_TOKEN_S - 0.05, at_most_s=FIRST_TOKEN_S + 4),
            fell_back(lost="unread", at_least_s=FIRST_TOKEN_S - 0.05, at_most_s=FIRST_TOKEN_S + 4),
            modes=("stream",),
            dialects=dialects,
        )
        for name, play, dialects in SILENT_STREAMS
    ),
    Case("a first token just in time", plays.slow(FIRST_TOKEN_S / 3), served(), served()),
    Case("a stream that takes too long in all", plays.slow_words(0.15), broke("upstream_timeout", at_least_s=1.1),
         broke("upstream_timeout", at_least_s=1.1), modes=("stream",), timeouts={"total_s": 1.2}),
    Case("complete, but left open", plays.left_open, served(at_most_s=GRACE_S), served(at_most_s=GRACE_S),
         modes=("stream",)),
    Case("complete and left open, no terminator", plays.left_open_without_terminator, served(at_most_s=GRACE_S),
         served(at_most_s=GRACE_S), modes=("stream",), dialects=TERMINATED),
)  # fmt: skip

STATUSES = (
    *(
        Case(f"{code}", plays.status(code), refused(told, 3, at_most_s=PASSING_S), fell_back(2))
        for code, told in ((409, {409}), (425, {425}), (500, {502}), (502, {502}), (503, {503}), (529, {502, 503}))
    ),
    Case("408", plays.status(408), refused({408, 504}, (1, 3), at_most_s=PASSING_S), fell_back((1, 2))),
    Case("500 once", plays.then_healthy(plays.status(500)), served(2), served(2)),
    Case("504", plays.status(504), refused(504), fell_back()),
    *(Case(f"{code}", plays.status(code), refused(code), fell_back()) for code in (401, 403, 404)),
    *(Case(f"{code}", plays.status(code), refused(code), refused(code)) for code in (400, 422)),
    Case("429", plays.status(429), refused(429, 3, at_most_s=PASSING_S), fell_back()),
    Case("429 for a second, once", plays.then_healthy(plays.status(429, retry_after="1")),
         served(2, apart_s=SPACED_S), served(2, apart_s=SPACED_S)),
    Case("429 for a second, always", plays.status(429, retry_after="1"),
         refused(429, (2, 3), apart_s=SPACED_S, at_most_s=PASSING_S, retry_after=1), fell_back(2, apart_s=SPACED_S)),
    Case("429 until a date, once", plays.then_healthy(plays.retry_at(429, 2)), served(2, apart_s=0.9),
         served(2, apart_s=0.9)),
    Case("429 for long", plays.status(429, retry_after="20"), refused(429, retry_after=20), fell_back(at_most_s=1.5)),
    Case("429 until a late date", plays.retry_at(429, 60), refused(429), fell_back(at_most_s=1.5)),
    Case("503 for a second, once", plays.then_healthy(plays.status(503, retry_after="1")),
         served(2, apart_s=SPACED_S), served(2, apart_s=SPACED_S)),
    Case("503 for long", plays.status(503, retry_after="20"), refused(503, retry_after=20), fell_back(at_most_s=1.5)),
    Case("an HTML page with 200", plays.html(200), refused(502, 3, at_most_s=PASSING_S), fell_back(2)),
    Case("an HTML page with 502", plays.html(502), refused(502, 3, at_most_s=PASSING_S), fell_back(2)),
    Case("context length", plays.too_long, refused(400, code="context_length_exceeded"), fell_back()),
    Case("context length, a larger model named", plays.too_long, None, fell_back(), chain="context_window_fallbacks"),
    Case("content policy", plays.blocked, refused(400), refused(400), dialects=(*TERMINATED, "bedrock_converse")),
    Case("content policy, another model named", plays.blocked, None, fell_back(), chain="content_policy_fallbacks",
         dialects=TERMINATED),
)  # fmt: skip

BODIES = (
    Case("JSON cut at the right length", plays.half_json, refused(502, 3, at_most_s=PASSING_S), fell_back(2), modes=("buffered",)),
    Case("content-length too long", plays.length_too_long, refused(502, 3, lost="unread", at_most_s=PASSING_S),
         fell_back(2, lost="unread"), modes=("buffered",)),
    Case("content-length too long, streamed", plays.length_too_long, broke(None, 3, at_most_s=PASSING_S), continued(2),
         modes=("stream",)),
    Case("content-length too short", plays.length_too_short, served(), served()),
    Case("gzip unasked", plays.gzipped, served(), served()),
    Case("wrong content-type", plays.mislabelled, served(), served()),
)  # fmt: skip

_CUTS = [
    ("cut in mid-stream", plays.cut, "upstream_cut"),
    ("reset in mid-stream", plays.cut_by_reset, "upstream_cut"),
    ("cut in an event", plays.cut_in_an_event, None),
    ("an end without a finish reason", plays.no_finish, "upstream_cut"),
    ("malformed event in mid-stream", plays.malformed_event, "upstream_malformed"),
    ("error in the stream", plays.error_event, None),
]
_STALLS = [
    ("stall", plays.stall, ("openai_chat", "anthropic_messages", "gemini_generate_content", "bedrock_converse")),
    ("stall, with comments", plays.stall_with_comments, SSE),
    ("stall, with empty events", plays.stall_with_empty_events, ("openai_chat", "anthropic_messages")),
]
STREAMS = (
    *(Case(name, play, broke(code, 3, at_most_s=PASSING_S), continued(2), modes=("stream",)) for name, play, code in _CUTS),
    *(Case(f"{name}, once", plays.then_healthy(play), continued_itself(), continued_itself(), modes=("stream",))
      for name, play, _ in _CUTS[:2]),
    *(
        Case(name, play, broke("upstream_timeout", at_least_s=IDLE_S - 0.05), continued(1, at_least_s=IDLE_S - 0.05),
             modes=("stream",), dialects=dialects)
        for name, play, dialects in _STALLS
    ),
    Case("cut before content", plays.cut_before_content, refused(502, 3, lost="unread", at_most_s=PASSING_S),
         fell_back(2, lost="unread"), modes=("stream",)),
    Case("error event before content", plays.error_event_first, refused({502, 503}, 3, lost="perhaps", at_most_s=PASSING_S),
         fell_back(2, lost="perhaps"), modes=("stream",)),
    Case("malformed event before content", plays.malformed_first, refused(502, 3, lost="perhaps", at_most_s=PASSING_S),
         fell_back(2, lost="perhaps"), modes=("stream",)),
    Case("a stream without an event", plays.empty_stream, refused(502, 3, lost="perhaps", at_most_s=PASSING_S),
         fell_back(2, lost="perhaps"), modes=("stream",)),
    Case("malformed event after the finish", plays.malformed_after_the_finish, served(), served(), modes=("stream",)),
    Case("no terminator", plays.no_terminator, served(), served(), modes=("stream",), dialects=TERMINATED),
    Case("two terminators", plays.two_terminators, served(), served(), modes=("stream",), dialects=TERMINATED),
    Case("garbage behind the end", plays.trailing_garbage, served(), served(), modes=("stream",)),
    Case("a huge event", plays.huge_event, served(), served(), modes=("stream",), timeouts=PATIENT, heavy=True),
    Case("too huge an event", plays.too_huge_event, broke("upstream_malformed", 3, at_most_s=20),
         continued(2, at_most_s=20), modes=("stream",), timeouts=PATIENT, heavy=True),
)  # fmt: skip

RECOVERIES = (
    Case("cut, no provider takes a prefill", plays.cut, None, broke("upstream_cut"), modes=("stream",), prefill=False),
    Case("cut, the fallback refuses the prefill", plays.cut, None, broke(None, 2, spared=1), modes=("stream",),
         spare=plays.refuses_prefill),
    Case("cut, the fallback begins anew", plays.cut, None, broke(None, 2, spared=3, lost="begun", at_most_s=PASSING_S),
         modes=("stream",), spare=plays.begins_anew),
    Case("cut, the fallback is cut too", plays.cut, None, broke(None, 2, spared=3, lost="begun", at_most_s=PASSING_S),
         modes=("stream",), spare=plays.cut_again),
    Case("cut, held back by configuration", plays.cut, refused(502, 3, lost="begun", at_most_s=PASSING_S),
         fell_back(2, lost="begun"), modes=("stream",), recovery="restart"),
    Case("cut, held back as the caller asks", plays.cut, None, fell_back(2, lost="begun"), modes=("stream",),
         prefill=False, headers={"x-gateway-stream-recovery": "restart"}),
    Case("stall, held back", plays.stall, None, fell_back(lost="begun", at_least_s=IDLE_S - 0.05), modes=("stream",),
         recovery="restart"),
    Case("cut, recovery off", plays.cut, None, broke("upstream_cut"), modes=("stream",), recovery="off"),
)  # fmt: skip

CASES: tuple[Case, ...] = (*CONNECTIONS, *CLOCKS, *STATUSES, *BODIES, *STREAMS, *RECOVERIES)

REAL_TIME: tuple[Case, ...] = (
    Case("20 s to the first token, and 10 s allowed", plays.slow(20), None,
         fell_back(lost="unread", at_least_s=9.9, at_most_s=15), timeouts={"first_token_s": 10, "idle_s": 30, "total_s": 60},
         dialects=("openai_chat",)),
)  # fmt: skip
"""Not compressed; for `make faults` alone."""
