"""`ports.ConversationStore` in a dictionary, for tests."""

from dataclasses import dataclass

from llm_gateway.domain.conversation import TurnClaim
from llm_gateway.errors import SessionBusy


@dataclass
class _Session:
    owner: str
    running: bool
    until: int
    kept: bytes | None = None
    kept_until: int = 0


class MemoryConversations:
    def __init__(self) -> None:
        self.sessions: dict[str, _Session] = {}

    async def begin(self, claim: TurnClaim) -> bytes | None:
        session = self.sessions.setdefault(claim.entry, _Session("", running=False, until=0))
        ours = session.owner == claim.owner
        if not (session.running if ours else not session.running or session.until <= claim.at):
            raise SessionBusy("Another turn of this session is running.", retry_after=1)
        session.owner, session.running, session.until = claim.owner, True, claim.until
        return session.kept if session.kept_until > claim.at else None

    async def finish(self, claim: TurnClaim, kept: bytes, until: int) -> bool:
        session = self.sessions.get(claim.entry)
        if session is None or session.owner != claim.owner:
            return False
        if session.running:
            session.running, session.kept, session.kept_until = False, kept, until
        return session.kept == kept

    async def release(self, claim: TurnClaim) -> None:
        session = self.sessions.setdefault(claim.entry, _Session(claim.owner, running=False, until=0))
        if session.owner == claim.owner:
            session.running = False
