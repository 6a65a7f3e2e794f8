"""Tracing: a seam, free where it is off. `xray.py` beside it is imported only where it is on (ADR 0006)."""

from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol

Segment = Literal["auth", "ledger", "upstream"]
"""The parts of a request worth a line of their own."""


class Tracer(Protocol):
    """Where a request's time went. One instance serves any number of concurrent requests."""

    def begin(self, header: str | None) -> None:
        """Ties this task, and those it starts from here on, to the trace that the request's `x-amzn-trace-id` names."""
        ...

    def segment(self, name: Segment) -> AbstractContextManager[None]:
        """Times what is inside; an exception that leaves it marks the segment as failed and goes on."""
        ...

    def close(self) -> None: ...


_NOTHING: Final = nullcontext()


class NoTracing:
    """Off."""

    def begin(self, header: str | None) -> None:
        pass

    def segment(self, name: Segment) -> AbstractContextManager[None]:  # noqa: ARG002 - the seam's signature
        return _NOTHING

    def close(self) -> None:
        pass


def open_tracer(daemon_address: str | None) -> Tracer:
    """X-Ray's, given the address of its daemon (`AWS_XRAY_DAEMON_ADDRESS`, which Lambda sets); None is off.

    Raises `ValueError` for an address that is none.
    """
    if not daemon_address:
        return NoTracing()
    from llm_gateway.observability.xray import XRayTracing  # noqa: PLC0415 - what is off is not imported

    return XRayTracing(daemon_address)
