"""Who calls."""

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Literal

Role = Literal["admin", "team-admin", "caller"]
KeyState = Literal["active", "rotated", "disabled", "expired"]


def new_token() -> str:
    """A caller's key: 256 random bits."""
    return f"sk-{secrets.token_urlsafe(32)}"


def lookup_id(token: str) -> str:
    """The public id a key is stored under: it finds the record, and proves nothing.

    Derived, so that a key of any shape (`sk-local`, one brought from elsewhere) has one.
    """
    return hashlib.sha256(b"llm-gateway lookup:" + token.encode()).hexdigest()[:24]


def hash_key(token: str) -> str:
    """What is stored of a key. Keys are random and long, so one round of SHA-256 is enough."""
    return hashlib.sha256(b"llm-gateway key:" + token.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class VirtualKey:
    """A key of ours, as stored. `models` are patterns (`fast`, `echo:*`); None allows all."""

    key_id: str
    name: str
    key_hash: str
    role: Role = "caller"
    team: str | None = None
    user: str | None = None
    models: tuple[str, ...] | None = None
    enabled: bool = True
    expires_at: int | None = None
    """Unix seconds."""
    tags: dict[str, str] = field(default_factory=dict)
    """Recorded with every request."""
    providers: tuple[str, ...] | None = None
    """Names of those it may reach, in their one spelling; None allows all."""
    owner: str | None = None
    """Who answers for it: for people."""
    metadata: dict[str, str] = field(default_factory=dict)
    """What an operator wants to remember of it; in no request's record."""
    rotated: bool = False
    """Another key of the same name has taken its place, and `expires_at` is when its overlap ends."""

    def matches(self, token: str) -> bool:
        """Whether `token` is this key; takes the same time however much of it agrees."""
        return hmac.compare_digest(self.key_hash, hash_key(token))

    def state(self, now: float) -> KeyState:
        """What it is good for; a rotated one is so until its overlap ends."""
        if not self.enabled:
            return "disabled"
        if self.expires_at is not None and self.expires_at <= now:
            return "expired"
        return "rotated" if self.rotated else "active"
