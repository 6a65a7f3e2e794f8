"""What was said in a session of `POST /api/chat`, how much of it is remembered, and the port of where it is kept."""

from dataclasses import dataclass
from typing import Final, Protocol

MOST_TURNS: Final = 50
MOST_BYTES: Final = 64 * 1024
"""Of UTF-8: all of it goes to the model again with each turn, and is paid for again. Some 16,000 tokens of English."""

Turn = tuple[str, str]
"""What was said, and what was answered."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Turns, oldest first. `system` is the prompt that was given last."""

    system: str | None = None
    turns: tuple[Turn, ...] = ()

    def prompted(self, system: str | None) -> "Conversation":
        """With another prompt, where there is one."""
        return self if system is None else Conversation(system, self.turns)

    def with_turn(self, message: str, reply: str) -> "Conversation":
        """With one turn more, and without the oldest ones for which there is no room.

        A last turn that has no room by itself takes all before it along: a conversation with a gap misleads.
        """
        turns: list[Turn] = []
        left = MOST_BYTES - len((self.system or "").encode())
        for turn in ((message, reply), *reversed(self.turns)):
            left -= sum(len(text.encode()) for text in turn)
            if left < 0 or len(turns) == MOST_TURNS:
                break
            turns.append(turn)
        return Conversation(self.system, tuple(reversed(turns)))

    def room_for(self, message: str) -> bool:
        """Whether a message could be remembered at all."""
        return len((self.system or "").encode()) + len(message.encode()) <= MOST_BYTES


@dataclass(frozen=True, slots=True)
class TurnClaim:
    """A request's wish to have the next turn of a conversation. Times are Unix seconds."""

    entry: str
    """The conversation, with whose it is."""
    owner: str
    """The request's id. It asks once."""
    at: int
    until: int
    """From then on another may have its turn: this one has died."""


class ConversationStore(Protocol):
    """What was said in sessions. Of all who want a turn of one at once, one gets it.

    Every method is harmless when repeated, also late, and raises `errors.Unavailable` when the store cannot be reached.
    """

    async def begin(self, claim: TurnClaim) -> bytes | None:
        """What was kept of the conversation, or None; the turn is the claim's, to be finished or released.

        Raises `errors.SessionBusy` while it is another's, and for a claim that has had its turn.
        """
        ...

    async def finish(self, claim: TurnClaim, kept: bytes, until: int) -> bool:
        """Keeps the conversation as it is now until then, and ends the turn. False if it is no longer the claim's."""
        ...

    async def release(self, claim: TurnClaim) -> None:
        """Ends the turn and leaves the conversation as it was, also against a `begin` that comes late."""
        ...
