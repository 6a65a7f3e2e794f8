"""What a dialect is: a pure translator between Chat Completions, our hub, and one provider wire.

Nothing here does I/O. The pipeline sends what `encode_*` gives, and feeds what comes back.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import orjson

from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamError
from llm_gateway.schemas.openai_chat import ModelRequest

_NOTHING: Mapping[str, Any] = {}

Endpoint = Literal["chat.completions", "embeddings", "moderations"]
Framing = Literal["sse", "aws_event_stream"]


@dataclass(frozen=True, slots=True)
class EncodedRequest:
    """A provider request, less its credential. `path` (with a query, if any) follows the provider's base URL."""

    path: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    framing: Framing = "sse"
    """How the answer's stream is cut into events."""
    warnings: tuple[str, ...] = ()
    """What the provider could not be told, for the answer's `x-gateway-warning`."""


@dataclass(frozen=True, slots=True)
class DecodedAnswer:
    """A whole answer in the caller's wire. `usage` is None where the provider counted nothing."""

    body: bytes
    model: str | None
    finish_reason: str | None
    usage: Usage | None
    text: Callable[[], str]
    """What the model wrote, for an estimate where there is no usage; made only when asked for."""


def members_of(body: bytes) -> Mapping[str, Any]:
    """The members of a body; none of one that is no JSON object."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _NOTHING
    return found if isinstance(found, dict) else _NOTHING


class StreamEvent(Protocol):
    """One server-sent event: its name, its data, and the very bytes it came in."""

    @property
    def event(self) -> str | None: ...
    @property
    def data(self) -> bytes: ...
    @property
    def raw(self) -> bytes: ...


SplitEvents = Callable[[bytes], Sequence[StreamEvent]]


@dataclass(frozen=True, slots=True)
class Said:
    """What a stream has given out so far: all that another model needs in order to go on with it."""

    content: str
    """The text of the one choice, without reasoning."""
    plain: bool
    """False where anything but such text and reasoning went out (tool calls, a refusal, audio, images, several
    choices), or where it is not known to the last character."""
    opening: Mapping[str, Any]
    """`id`, `created` and `model` of its chunks, as far as they had any."""
    details: int = 0
    """The first `index` that no member of its `reasoning_details` has: clients merge those of one index."""


class StreamTranslator(Protocol):
    """The decoding half of a stream, from the provider's bytes to the caller's."""

    @property
    def started(self) -> bool:
        """Whether content has come: from then on the caller has a status and a failure is in-band."""
        ...

    @property
    def contents(self) -> int:
        """Grows with every block that holds content; comments, pings, roles and empty deltas are none."""
        ...

    @property
    def model(self) -> str | None: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def usage(self) -> Usage | None: ...
    @property
    def service_tier(self) -> str | None:
        """The tier that the provider says it serves in, where it says so before it counts."""
        ...

    def feed(self, block: bytes) -> bytes:
        """Takes whole events, gives what the caller is to get, perhaps nothing. Raises `UpstreamError`.

        An event that cannot be read is skipped once the answer is `whole`; before, it is `UpstreamMalformed`, raised
        when what stands in front of it has gone out.
        """
        ...

    def finish(self, rest: bytes) -> bytes:
        """The provider has closed. `rest` is what came after the last whole event.

        Raises `UpstreamCut` where the answer is not `whole`; a wire's last event may be missing.
        """
        ...

    @property
    def complete(self) -> bool:
        """Whether the wire's final event has come, so that nothing more is to be waited for."""
        ...

    @property
    def whole(self) -> bool:
        """Whether every choice has its finish reason: usage and the end are all that may still come."""
        ...

    def said(self) -> Said:
        """What `feed` has given out. Costs a parse of it all: for a stream that failed."""
        ...

    def text(self) -> str:
        """What the model has written so far, for an estimate."""
        ...


class Dialect(Protocol):
    name: str

    def inputs_per_call(self, model: str, provider: Provider) -> int | None:
        """The most inputs that one call for embeddings takes; a request for more becomes several calls.

        None where the gateway does not have to count, for the provider's limit is the one its callers know.
        """
        ...

    def encode(self, endpoint: Endpoint, request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
        """Raises `InvalidRequest` for what the provider would reject and nothing can stand in for."""
        ...

    def decode(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        model: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> DecodedAnswer:
        """`headers` are the provider's, in lower case: some count there alone.

        Raises `UpstreamMalformed` for what is no answer, and the provider's own error for one sent with 200.
        """
        ...

    def told_usage(self, model: str, body: bytes) -> Usage | None:
        """What a body that `decode` raised for says it used: no answer, but the provider bills it.

        None where it says nothing, or cannot be read at all.
        """
        ...

    def translator(self, request: ModelRequest, model: str, split_events: SplitEvents) -> StreamTranslator: ...

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError: ...
