"""Requests with an `Idempotency-Key`: run once, answered as often as they are sent.

The first of a key runs, and holds the key's entry in the store until it has its whole answer, which is kept for a day,
or has failed, which frees the entry. Others with the same key and body get the kept answer, or a 409 while there is
none; with another body, 422. The header and its statuses: https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/
"""

import asyncio
import hashlib
import time
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from dataclasses import replace
from typing import Final

from llm_gateway.domain.catalog import Catalog
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.domain.ports import AnswerClaim, AnswerEntry, AnswerStore, KeptAnswer
from llm_gateway.errors import (
    GatewayError,
    IdempotencyConflict,
    IdempotencyKeyReused,
    InvalidRequest,
    Unavailable,
)
from llm_gateway.pipeline.call import Answer, Call

KEPT_S: Final = 86_400
LARGEST_KEPT: Final = 350 * 1024
"""Bytes of headers and packed body: a DynamoDB item may hold 400 KB."""
LARGEST_BODY: Final = 8 << 20
"""Bytes unpacked: what a replay takes of a process's memory."""
_LONGEST_KEY: Final = 255
_LONGEST_INVOCATION_S: Final = 900
"""Of a Lambda function: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html"""
_GRACE_S: Final = 120
_ASKED_AGAIN_S: Final = (0.1, 0.3)
"""An answer is stored after its last byte: whoever asks in that moment is not sent away for it."""
_LEVEL: Final = 1  # a stream of chunks shrinks to a tenth at once; more effort wins little, and takes twice the time
# What describes the answer. Not what describes the call that made it: its cost, its time, its limits.
_KEPT_HEADERS: Final = frozenset(
    {
        "content-type",
        "cache-control",
        "x-accel-buffering",
        "x-gateway-provider",
        "x-gateway-model",
        "x-gateway-warning",
    }
)
_ORIGINAL: Final = "x-gateway-original-request-id"


class Idempotency:
    """The stage. `warn` is told of answers that could not be kept; `now` is in Unix seconds."""

    def __init__(
        self,
        store: AnswerStore,
        warn: Callable[[str], None],
        now: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self.store = store
        self.warn = warn
        self.now = now
        self.sleep = sleep

    def run_of(self, call: Call, key: VirtualKey, catalog: Catalog) -> "IdempotentRun":
        """Raises `InvalidRequest` for an `Idempotency-Key` that is none. The call must have one."""
        given = call.idempotency_key
        if not given or len(given) > _LONGEST_KEY or not (given.isascii() and given.isprintable()):
            raise InvalidRequest(f"The Idempotency-Key header must be 1 to {_LONGEST_KEY} printable ASCII characters.")
        now = int(self.now())
        claim = AnswerClaim(
            # The key's name, which outlives its rotation; hashed, for a name may hold anything.
            entry=f"{hashlib.sha256(key.name.encode()).hexdigest()[:32]}#{given}",
            owner=call.request_id,
            fingerprint=fingerprint(call),
            at=now,
            until=now + _longest_run_s(catalog) + _GRACE_S,
        )
        return IdempotentRun(self, claim)


class IdempotentRun:
    """One request's way with its key: `begin`, then `keep` its answer, and `close` in the end, whatever happened."""

    def __init__(self, stage: Idempotency, claim: AnswerClaim) -> None:
        self._stage = stage
        self._claim = claim
        self._may_hold = False
        self._headers: Mapping[str, str] = {}
        self._buffered: bytes | None = None
        self._streamed: PackedBody | None = None
        self._whole = False
        self.held = False
        """Whether the entry is this request's: its answer is wanted even where its caller has gone."""
        self.replay_of: str | None = None
        """The id of the request whose answer this one gets."""

    async def begin(self) -> Answer | None:
        """None: the request runs. Otherwise the answer of the one that did.

        Raises `IdempotencyConflict`, `IdempotencyKeyReused`, and `Unavailable`: without the store nothing is promised.
        """
        self._may_hold = True  # also where the store's answer never comes
        try:
            entry = await self._ask()
        except Unavailable as error:
            raise Unavailable(
                "The request was not sent: the store that keeps the promise of its Idempotency-Key does not answer.",
                retry_after=1,
            ) from error
        if entry is None:
            self.held = True
            return None
        self._may_hold = False
        answer = _replay(entry, self._claim)
        self.replay_of = entry.owner
        return answer

    async def _ask(self) -> AnswerEntry | None:
        entry = await self._stage.store.begin(self._claim)
        for pause_s in _ASKED_AGAIN_S:
            if entry is None or entry.state != "running" or entry.fingerprint != self._claim.fingerprint:
                break
            await self._stage.sleep(pause_s)
            entry = await self._stage.store.begin(self._claim)
        return entry

    def keep(self, answer: Answer) -> Answer:
        """The answer to send: the same, remembered on its way out."""
        self._headers = {name: value for name, value in answer.headers.items() if name in _KEPT_HEADERS}
        if answer.stream is None:
            self._buffered, self._whole = answer.body, True
            return answer
        self._streamed = PackedBody()
        return replace(answer, stream=self._remembered(answer.stream, self._streamed))

    async def release(self) -> None:
        """Lets the next try run. Does nothing where the entry is not held, or no more."""
        if not self._may_hold:
            return
        try:
            await self._stage.store.release(self._claim)
        except GatewayError as error:
            self._stage.warn(f"The idempotency key of {self._claim.owner} stays taken until its time is up: {error}")
        self._may_hold = self.held = False

    async def close(self) -> None:
        """After the caller's last byte: keeps a whole answer, and releases the entry of one that came to nothing."""
        if self._whole and self._may_hold:
            await self._finish()
        else:
            await self.release()

    async def _remembered(self, stream: AsyncGenerator[bytes, None], body: "PackedBody") -> AsyncGenerator[bytes, None]:
        async with aclosing(stream):
            async for block in stream:
                body.add(block)
                yield block
        self._whole = True

    async def _finish(self) -> None:
        try:
            if not await self._stage.store.finish(self._claim, self._kept(), int(self._stage.now()) + KEPT_S):
                self._stage.warn(f"The answer of {self._claim.owner} came too late to be kept for its idempotency key.")
        except GatewayError as error:
            self._stage.warn(f"The answer of {self._claim.owner} could not be kept for its idempotency key: {error}")
            await self.release()
        else:
            self._may_hold = self.held = False

    def _kept(self) -> KeptAnswer | None:
        """None where it is too large."""
        body = self._streamed or PackedBody()
        if self._buffered is not None:
            body.add(self._buffered)
        packed = body.packed()
        room = LARGEST_KEPT - sum(len(name) + len(value) for name, value in self._headers.items())
        if packed is None or len(packed) > room:
            return None
        return KeptAnswer(self._headers, packed, stream=self._streamed is not None)


class PackedBody:
    """A body, compressed piece by piece as it passes, and dropped as soon as it is too large."""

    def __init__(self) -> None:
        self._deflate = zlib.compressobj(_LEVEL)
        self._pieces: list[bytes] = []
        self._size = 0
        self._packed_size = 0

    @property
    def _too_large(self) -> bool:
        return self._size > LARGEST_BODY or self._packed_size > LARGEST_KEPT

    def add(self, block: bytes) -> None:
        self._size += len(block)
        if self._too_large:
            self._pieces.clear()
        elif piece := self._deflate.compress(block):
            self._pieces.append(piece)
            self._packed_size += len(piece)

    def packed(self) -> bytes | None:
        """The whole, in zlib's format; None where it is too large. Asked for once, at the end."""
        if self._too_large:
            return None
        return b"".join((*self._pieces, self._deflate.flush()))


def fingerprint(call: Call) -> str:
    """The same for what is the same request: endpoint, the path's model and the body, byte for byte."""
    asked = hashlib.sha256(f"{call.endpoint}\n{call.path_model or ''}\n".encode())
    asked.update(call.body)
    return asked.hexdigest()


def _replay(entry: AnswerEntry, claim: AnswerClaim) -> Answer:
    original = {_ORIGINAL: entry.owner}
    if entry.fingerprint != claim.fingerprint:
        raise IdempotencyKeyReused(
            f"This Idempotency-Key was used for a different request before ({entry.owner}).", headers=original
        )
    if entry.state == "running":
        raise IdempotencyConflict(
            f"The first request with this Idempotency-Key is still running ({entry.owner}). Try again soon.",
            code="idempotency_in_progress",
            retry_after=1,
            headers=original,
        )
    if entry.answer is None:
        raise IdempotencyConflict(
            f"The first request with this Idempotency-Key was answered ({entry.owner}), but its answer was too large"
            " to be kept. It was billed; to have it made again, send another key.",
            code="idempotency_answer_too_large",
            headers={**original, "x-should-retry": "false"},
        )
    headers = {**entry.answer.headers, "x-gateway-idempotent-replay": "true", **original}
    body = zlib.decompress(entry.answer.packed)
    return Answer(headers, stream=_stream_of(body)) if entry.answer.stream else Answer(headers, body)


async def _stream_of(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body


def _longest_run_s(catalog: Catalog) -> int:
    """Seconds: the route is not chosen yet, so the most patient one counts. Deployed, Lambda ends each of them."""
    longest = max((alias.timeouts.total_s for alias in catalog.aliases.values()), default=0.0)
    return max(_LONGEST_INVOCATION_S, int(longest))
