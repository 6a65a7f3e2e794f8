"""Creates with an `Idempotency-Key`: made once, answered as often as they are sent, for a day.

A token is in no kept answer: it would have to be stored. Whoever repeats the creation of a key gets `"key": null`, and
rotates it where the first answer was lost.
"""

import hashlib
import zlib
from collections.abc import Awaitable, Callable
from typing import Final

import orjson

from llm_gateway.admin.ask import Ask, Reply
from llm_gateway.domain.ports import AnswerClaim, AnswerEntry, AnswerStore, KeptAnswer
from llm_gateway.errors import GatewayError, IdempotencyConflict, IdempotencyKeyReused, InvalidRequest

REPLAYED: Final = "x-gateway-idempotent-replay"
_KEPT_S: Final = 86_400
_LONGEST_RUN_S: Final = 120
_LONGEST_KEY: Final = 255


class IdempotentCreates:
    """`now` is in Unix seconds."""

    def __init__(self, store: AnswerStore, now: Callable[[], float], warn: Callable[[str], None]) -> None:
        self._store = store
        self._now = now
        self._warn = warn

    async def run(self, ask: Ask, body: bytes, create: Callable[[], Awaitable[Reply]]) -> tuple[Reply, bool]:
        """The reply, and whether it is an earlier one's. Raises what `create` raises, which frees the key."""
        claim = self._claim(ask, body)
        entry = await self._store.begin(claim)
        if entry is not None:
            return _kept(entry, claim), True
        try:
            reply = await create()
        except BaseException:
            await self._release(claim)
            raise
        await self._finish(claim, reply)
        return reply, False

    def _claim(self, ask: Ask, body: bytes) -> AnswerClaim:
        given = ask.idempotency_key or ""
        if not given or len(given) > _LONGEST_KEY or not (given.isascii() and given.isprintable()):
            raise InvalidRequest(f"The Idempotency-Key header must be 1 to {_LONGEST_KEY} printable ASCII characters.")
        now = int(self._now())
        asked = f"{ask.route.operation}\n{orjson.dumps(dict(ask.path)).decode()}\n".encode() + body
        return AnswerClaim(
            # Apart from those of the data plane: the same name may be used on both.
            entry=f"admin-{hashlib.sha256(ask.actor.name.encode()).hexdigest()[:32]}#{given}",
            owner=ask.request_id,
            fingerprint=hashlib.sha256(asked).hexdigest(),
            at=now,
            until=now + _LONGEST_RUN_S,
        )

    async def _finish(self, claim: AnswerClaim, reply: Reply) -> None:
        kept = orjson.dumps({"document": reply.kept or reply.document, "etag": reply.etag})
        answer = KeptAnswer({"content-type": "application/json"}, zlib.compress(kept), stream=False)
        try:
            await self._store.finish(claim, answer, int(self._now()) + _KEPT_S)
        except GatewayError as error:
            # It is made: a repetition will be told that there is one of that name.
            self._warn(f"The answer of {claim.owner} could not be kept for its idempotency key: {error.message}")

    async def _release(self, claim: AnswerClaim) -> None:
        try:
            await self._store.release(claim)
        except GatewayError as error:
            self._warn(f"The idempotency key of {claim.owner} stays taken until its time is up: {error.message}")


def _kept(entry: AnswerEntry, claim: AnswerClaim) -> Reply:
    if entry.fingerprint != claim.fingerprint:
        raise IdempotencyKeyReused(f"This Idempotency-Key was used for a different request before ({entry.owner}).")
    if entry.state == "running" or entry.answer is None:
        raise IdempotencyConflict(
            f"The first request with this Idempotency-Key is still running ({entry.owner}). Try again soon.",
            code="idempotency_in_progress",
            retry_after=1,
        )
    kept = orjson.loads(zlib.decompress(entry.answer.packed))
    return Reply(kept["document"], kept["etag"])
