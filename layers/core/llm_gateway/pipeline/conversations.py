"""Sessions of `POST /api/chat`: what was said is kept for a day after the last turn, for the key that said it.

A turn holds its session until it has ended: of two at once the later is refused, before anything is paid for it.
A turn that failed, or whose caller left, is not in the conversation.
"""

import hashlib
import time
import zlib
from collections.abc import Callable
from typing import Final

import orjson

from llm_gateway.domain.conversation import Conversation, ConversationStore, TurnClaim
from llm_gateway.domain.identity import VirtualKey
from llm_gateway.errors import GatewayError, InvalidRequest, SessionBusy, Unavailable

KEPT_S: Final = 86_400
LEASE_S: Final = 320
"""A buffered answer comes within 280 s or not at all; what is longer has died."""
_NOT_KEPT: Final = "This turn could not be kept: the session's next one will not know of it."
_TOO_LONG: Final = "This turn is too long to be kept: the session begins anew."
_WORDLESS: Final = "There was no reply, so the session does not keep this turn."


class Conversations:
    """`warn` is told of conversations that could not be kept; `now` is in Unix seconds."""

    def __init__(
        self, store: ConversationStore, warn: Callable[[str], None], now: Callable[[], float] = time.time
    ) -> None:
        self.store = store
        self.warn = warn
        self.now = now

    def turn(self, key: VirtualKey, session_id: str, request_id: str) -> "SessionTurn":
        now = int(self.now())
        return SessionTurn(self, TurnClaim(_entry(key, session_id), request_id, now, now + LEASE_S))


class SessionTurn:
    """`begin`, `prompted`, `keep` its reply, and `release` in the end, whatever happened."""

    def __init__(self, stage: Conversations, claim: TurnClaim) -> None:
        self._stage = stage
        self._claim = claim
        self._may_hold = False
        self.conversation = Conversation()

    async def begin(self) -> None:
        """Takes the session's next turn. Raises `SessionBusy`, and `Unavailable` where nothing can be remembered."""
        self._may_hold = True  # also where the store's answer never comes
        try:
            kept = await self._stage.store.begin(self._claim)
        except SessionBusy:
            self._may_hold = False
            raise SessionBusy(
                "The turn before this one is still running in the session. Wait for its reply.", retry_after=1
            ) from None
        except Unavailable as error:
            raise Unavailable(
                "The message was not sent: the store that keeps conversations does not answer.", retry_after=1
            ) from error
        if kept is not None:
            self.conversation = _unpacked(kept)

    def prompted(self, system: str | None, message: str) -> Conversation:
        """What goes before the message. Raises `InvalidRequest` for a message that is too long to be remembered."""
        self.conversation = self.conversation.prompted(system)
        if not self.conversation.room_for(message):
            raise InvalidRequest(
                "The message, with its system prompt, is too long for a session. Send it without `session_id`.",
                param="message",
                code="message_too_long",
            )
        return self.conversation

    async def keep(self, message: str, reply: str) -> str | None:
        """Remembers the turn; where that fails, what the caller is to be told: the reply is paid for, and not lost."""
        if not reply:
            await self.release()  # before the answer goes out: whoever says the next thing at once must find it free
            return _WORDLESS
        now = self.conversation.with_turn(message, reply)
        try:
            kept = await self._stage.store.finish(self._claim, _packed(now), int(self._stage.now()) + KEPT_S)
        except GatewayError as error:
            self._stage.warn(f"The session's turn {self._claim.owner} could not be kept: {error}")
            return _NOT_KEPT
        self._may_hold = False
        if not kept:
            return _NOT_KEPT
        return None if now.turns else _TOO_LONG

    async def release(self) -> None:
        """Lets the next turn in, with the conversation as it was. Does nothing after a turn that was kept."""
        if not self._may_hold:
            return
        self._may_hold = False
        try:
            await self._stage.store.release(self._claim)
        except GatewayError as error:
            self._stage.warn(f"The session of {self._claim.owner} stays taken until its time is up: {error}")


def _entry(key: VirtualKey, session_id: str) -> str:
    """Of the key's name and team, which outlive its rotation: what another key calls by this id is another session."""
    whose = hashlib.sha256(f"{key.team or ''}\n{key.name}".encode()).hexdigest()[:32]
    return f"{whose}#{session_id}"


def _packed(conversation: Conversation) -> bytes:
    return zlib.compress(orjson.dumps([conversation.system, conversation.turns]), 1)


def _unpacked(kept: bytes) -> Conversation:
    system, turns = orjson.loads(zlib.decompress(kept))
    return Conversation(system, tuple((said, answered) for said, answered in turns))
