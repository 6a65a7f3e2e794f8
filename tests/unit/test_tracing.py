"""Specifies the tracing seam: free and unimported when off; when on, one document per segment for X-Ray's daemon, each in
the trace of its own request, and never a request lost to it."""

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.observability.tracing import NoTracing, Segment, Tracer, open_tracer
from llm_gateway.observability.xray import Trace, XRayTracing, read_trace

ROOT = "1-5759e988-bd862e3fe1be46a994272793"
HEADER = f"Root={ROOT};Parent=53995c3f42cd8ad8;Sampled=1"


class Daemon:
    """X-Ray's, as far as a sender can tell: a UDP socket."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.settimeout(2)
        self.address = f"127.0.0.1:{self._socket.getsockname()[1]}"

    def received(self, count: int) -> list[dict[str, Any]]:
        return [self._document() for _ in range(count)]

    def _document(self) -> dict[str, Any]:
        header, _, body = self._socket.recv(65536).partition(b"\n")
        assert json.loads(header) == {"format": "json", "version": 1}
        return dict(json.loads(body))

    def is_empty(self) -> bool:
        self._socket.setblocking(False)
        try:
            self._socket.recv(65536)
        except BlockingIOError:
            return True
        return False

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def daemon() -> Iterator[Daemon]:
    one = Daemon()
    yield one
    one.close()


@pytest.fixture
def tracer(daemon: Daemon) -> Iterator[Tracer]:
    one = open_tracer(daemon.address)
    yield one
    one.close()


@pytest.mark.parametrize("name", ["auth", "ledger", "upstream"])
def test_a_segment_is_a_whole_subsegment_document(name: Segment, tracer: Tracer, daemon: Daemon) -> None:
    tracer.begin(HEADER)
    with tracer.segment(name):
        pass
    (document,) = daemon.received(1)
    assert re.fullmatch("[0-9a-f]{16}", document.pop("id"))
    assert 0 <= document.pop("end_time") - document.pop("start_time") < 1
    assert document == {"name": name, "trace_id": ROOT, "parent_id": "53995c3f42cd8ad8", "type": "subsegment"}


def test_a_failure_is_marked_and_goes_on(tracer: Tracer, daemon: Daemon) -> None:
    tracer.begin(HEADER)
    with pytest.raises(KeyError), tracer.segment("upstream"):
        raise KeyError("as it was")
    (document,) = daemon.received(1)
    assert document["fault"] is True


async def test_requests_at_once_keep_to_their_traces(tracer: Tracer, daemon: Daemon) -> None:
    async def part(name: Segment) -> None:
        with tracer.segment(name):
            await asyncio.sleep(0)

    async def request(parent: str) -> None:
        tracer.begin(f"Root={ROOT};Parent={parent};Sampled=1")
        with tracer.segment("auth"):
            await asyncio.sleep(0)
        await asyncio.gather(part("ledger"), part("upstream"))

    await asyncio.gather(*(asyncio.create_task(request(f"{number:016x}")) for number in range(8)))
    seen = sorted((document["parent_id"], document["name"]) for document in daemon.received(24))
    assert seen == [(f"{number:016x}", name) for number in range(8) for name in ("auth", "ledger", "upstream")]


@pytest.mark.parametrize(
    ("header", "trace"),
    [
        (HEADER, Trace(ROOT, "53995c3f42cd8ad8")),
        (f"Sampled=1; Root={ROOT} ;Parent=ab;Lineage=1:2:3", Trace(ROOT, "ab")),
        (f"Root={ROOT};Parent=ab;Sampled=0", None),
        (f"Root={ROOT};Parent=ab", None),
        (f"Root={ROOT};Sampled=1", None),
        ("what a caller might send", None),
        ("", None),
        (None, None),
    ],
)
def test_only_a_sampled_and_whole_header_makes_a_trace(header: str | None, trace: Trace | None) -> None:
    assert read_trace(header) == trace


def test_what_is_not_sampled_sends_nothing(tracer: Tracer, daemon: Daemon) -> None:
    tracer.begin(HEADER)
    tracer.begin(None)
    with tracer.segment("auth"):
        pass
    assert daemon.is_empty()


def test_without_a_daemon_a_request_goes_on() -> None:
    gone = Daemon()
    gone.close()
    tracer = XRayTracing(gone.address)
    tracer.begin(HEADER)
    done = []
    for _ in range(3):  # the second send is told of the first one's refusal
        with tracer.segment("auth"):
            done.append("auth")
    tracer.close()
    assert len(done) == 3


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:2000",
        "udp:127.0.0.1:2000",
        "tcp:127.0.0.1:2001 udp:127.0.0.1:2000",
        "udp:127.0.0.1:2000 tcp:127.0.0.1:2001",
    ],
)
def test_daemon_addresses(address: str) -> None:
    assert XRayTracing(address)._address == ("127.0.0.1", 2000)


@pytest.mark.parametrize("address", ["localhost", "127.0.0.1:", ":2000", "tcp:127.0.0.1:2000"])
def test_what_is_no_daemon_address(address: str) -> None:
    with pytest.raises(ValueError, match="AWS_XRAY_DAEMON_ADDRESS"):
        XRayTracing(address)


def test_off_does_nothing() -> None:
    tracer = open_tracer(None)
    assert isinstance(tracer, NoTracing)
    tracer.begin(HEADER)
    with tracer.segment("auth"), tracer.segment("ledger"):
        pass
    tracer.close()
    assert isinstance(open_tracer(""), NoTracing)


def test_off_imports_nothing() -> None:
    program = (
        "import sys; from llm_gateway.observability.tracing import open_tracer; open_tracer(None);"
        "print([name for name in sys.modules if 'xray' in name])"
    )
    package = Path(__file__).parents[2] / "layers" / "core"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env={"PYTHONPATH": str(package)}
    )
    assert done.stdout.strip() == "[]"
