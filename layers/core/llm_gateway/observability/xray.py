"""Subsegments to the X-Ray daemon that Lambda runs beside the function: one UDP datagram each, nothing to wait for.

Sources: https://docs.aws.amazon.com/xray/latest/devguide/xray-api-segmentdocuments.html (a subsegment sent on its own),
https://docs.aws.amazon.com/xray/latest/devguide/xray-api-sendingdata.html (the daemon's header), and
https://docs.aws.amazon.com/xray/latest/devguide/xray-concepts.html#xray-concepts-tracingheader
"""

import logging
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Final

import orjson

from llm_gateway.observability.tracing import Segment

log = logging.getLogger("llm_gateway.xray")

_HEADER: Final = b'{"format":"json","version":1}\n'


@dataclass(frozen=True, slots=True)
class Trace:
    """What a segment needs of its request: the trace, and the segment it is a part of."""

    trace_id: str
    parent_id: str


_current: ContextVar[Trace | None] = ContextVar("llm_gateway_trace", default=None)


def read_trace(header: str | None) -> Trace | None:
    """Reads `Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1`.

    None unless it is whole and sampled.
    """
    if not header:
        return None
    fields = dict(part.strip().split("=", 1) for part in header.split(";") if "=" in part)
    if fields.get("Sampled") != "1" or "Root" not in fields or "Parent" not in fields:
        return None
    return Trace(fields["Root"], fields["Parent"])


class XRayTracing:
    """`tracing.Tracer`. `daemon_address` is `host:port`, or the daemon's longer form, `tcp:host:port udp:host:port`.

    The trace is kept per task, because the requests of one process overlap; the X-Ray SDK's one `_X_AMZN_TRACE_ID` per
    process cannot tell them apart.
    """

    def __init__(self, daemon_address: str) -> None:
        self._address = _udp_address(daemon_address)
        self._socket: socket.socket | None = None

    def begin(self, header: str | None) -> None:
        _current.set(read_trace(header))

    def segment(self, name: Segment) -> AbstractContextManager[None]:
        return self._timed(name, _current.get())

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    @contextmanager
    def _timed(self, name: Segment, trace: Trace | None) -> Iterator[None]:
        if trace is None:
            yield
            return
        document: dict[str, Any] = {
            "name": name,
            "id": secrets.token_hex(8),
            "trace_id": trace.trace_id,
            "parent_id": trace.parent_id,
            "type": "subsegment",
            "start_time": time.time(),
        }
        try:
            yield
        except BaseException:  # cancellation too: whatever ended it early is what the trace should show
            document["fault"] = True
            raise
        finally:
            document["end_time"] = time.time()
            self._send(_HEADER + orjson.dumps(document))

    def _send(self, datagram: bytes) -> None:
        try:
            if self._socket is None:
                # Opened late: a socket made before SnapStart's image would be one of another machine.
                self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                self._socket.setblocking(False)
            self._socket.sendto(datagram, self._address)
        except OSError as error:
            # A trace is never worth a request.
            log.debug("a segment was lost: %s", error)


def _udp_address(text: str) -> tuple[str, int]:
    for part in text.split():
        host, _, port = part.removeprefix("udp:").rpartition(":")
        if host and ":" not in host and port.isdigit():
            return host, int(port)
    raise ValueError(f"AWS_XRAY_DAEMON_ADDRESS must be host:port, not {text!r}")
