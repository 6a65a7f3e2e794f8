"""What a process finds out of a deployment's circuit, as it is told to others."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Finding:
    """One of a deployment. Times are Unix milliseconds, by the clock of whoever found it."""

    began: int
    """When the call began that showed it. Of two findings the later one is true."""
    at: int
    """When it was found."""
    until: int | None = None
    """Until when to pass over the deployment; None: it works."""
    since: int | None = None
    """When it was found failing first, since it last worked."""
    error: str | None = None
    """The code, or else the kind, of the fault: for people."""
