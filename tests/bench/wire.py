"""The bytes of the bench: what callers send, what the fake provider answers, and how a body names its case.

A case is `json`, or a stream: `flush-N` (an event per write, as fast as it goes), `burst-N` (20 events per write) or
`paced-N` (an event every 5 ms), each with N events of content. It stands in the request's `user` member, because that
passes through every app of the bench unread.
"""

import json
import re

KEY = "sk-bench-caller-0123456789abcdef"
"""The virtual key that callers of the gateway send."""
PROVIDER_KEY = "sk-bench-provider"
MODEL = "gpt-4.1-mini"
BURST = 20
PACE_S = 0.005

CASE = re.compile(rb'"user": ?"(json|flush|burst|paced)(?:-(\d+))?"')
_PROMPT = "Summarise what a gateway does for a team that calls many language models. " * 6


def request_body(case: str) -> bytes:
    """What a caller posts to `/v1/chat/completions`."""
    body = {
        "model": "fast",
        "messages": [
            {"role": "system", "content": "You answer in one short paragraph."},
            {"role": "user", "content": _PROMPT},
        ],
        "temperature": 0.2,
        "max_tokens": 400,
        "user": case,
    }
    if case != "json":
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    return json.dumps(body).encode()


ANSWER = json.dumps(
    {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1790000000,
        "model": MODEL,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "It holds the keys. " * 30, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 96,
            "completion_tokens": 150,
            "total_tokens": 246,
            "prompt_tokens_details": {"cached_tokens": 32},
            "completion_tokens_details": {"reasoning_tokens": 0},
        },
        "system_fingerprint": "fp_bench",
    },
    separators=(",", ":"),
).encode()

_EVENT = (
    b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4.1-mini",'
    b'"service_tier":"default","system_fingerprint":"fp_bench","choices":[{"index":0,"delta":%s,"logprobs":null,'
    b'"finish_reason":%s}],"usage":null}\n\n'
)
CONTENT = _EVENT % (b'{"content":" word"}', b"null")
FIRST = _EVENT % (b'{"role":"assistant","content":"Hello"}', b"null")
LAST = (
    _EVENT
    % (b"{}", b'"stop"')
    + b'data: {"id":"chatcmpl-bench","object":"chat.completion.chunk","created":1790000000,"model":"gpt-4.1-mini",'
    b'"choices":[],"usage":{"prompt_tokens":96,"completion_tokens":150,"total_tokens":246}}\n\n'
    b"data: [DONE]\n\n"
)


def streamed_size(events: int) -> int:
    """Bytes of a whole stream with so many events of content."""
    return len(FIRST) + events * len(CONTENT) + len(LAST)
