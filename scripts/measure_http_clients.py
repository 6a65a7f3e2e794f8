"""What an HTTP client costs: CPU per small POST, CPU per streamed event, import time, size, memory, threads.

    python scripts/measure_http_clients.py [--tls] [--rounds 5] [--only pyreqwest,aiohttp] [--json build/http.json]

Each client runs in a process of its own against one upstream in another process (a raw asyncio server on
loopback), in interleaved rounds; the table gives medians. CPU is the client process's own clock, all threads
included (`time.process_time`). The decision that rests on it is docs/adr/0001-http-client.md.

Cases: `post` is one request at a time, 16 or 64 in flight; `flush` is a stream whose upstream writes one event
at a time as fast as it can, `paced` is 20 streams with an event every 10 ms each (an event is a wake-up),
`burst` is 20 events to a write. `--tls` does all of it over TLS (needs the `openssl` command for a certificate).
"""

import argparse
import asyncio
import importlib
import importlib.metadata
import json
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

REQUEST_BODY = json.dumps(
    {"model": "gpt-4.1-mini", "messages": [{"role": "user", "content": "Say something about the weather. " * 8}]}
).encode()
ANSWER = json.dumps(
    {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "It rains. " * 40}}],
        "usage": {"prompt_tokens": 9, "completion_tokens": 80, "total_tokens": 89},
    }
).encode()
EVENT = (
    b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"gpt-4.1-mini",'
    b'"service_tier":"default","system_fingerprint":"fp_1","choices":[{"index":0,"delta":{"content":" word"},'
    b'"logprobs":null,"finish_reason":null}]}\n\n'
)
HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-x", "accept": "application/json"}

Post = Callable[[str], Awaitable[int]]
"""Sends one POST, reads the whole answer, returns its length in bytes."""
Read = Callable[[str], Awaitable[int]]
"""Sends one POST, reads the stream piece by piece, returns its length in bytes."""


class Upstream(asyncio.Protocol):
    """Answers POST /json, /flush/N, /paced/N and /burst/N; enough HTTP for a benchmark and no more."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.buffer = b""
        self.tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError(transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        head, mark, body = self.buffer.partition(b"\r\n\r\n")
        if not mark or len(body) < len(REQUEST_BODY):
            return
        self.buffer = b""
        path = head.split(b" ", 2)[1].decode()
        if self.transport is None:
            raise RuntimeError("data before a connection")
        if path == "/json":
            self.transport.write(
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s"
                % (len(ANSWER), ANSWER)
            )
            return
        task = asyncio.ensure_future(self.stream(self.transport, *path.strip("/").split("/")))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def stream(self, transport: asyncio.Transport, mode: str, count: str) -> None:
        piece = b"%x\r\n%s\r\n" % (len(EVENT), EVENT)
        transport.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        per_write = 20 if mode == "burst" else 1
        for _ in range(int(count) // per_write):
            transport.write(piece * per_write)
            await asyncio.sleep(0.01 if mode == "paced" else 0)
        transport.write(b"0\r\n\r\n")


async def serve(certificate: str) -> None:
    tls = None
    if certificate:
        tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        tls.load_cert_chain(certificate)
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=512, ssl=tls)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def tls_context(trust: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=trust or None)


def read_certificates(trust: str) -> list[bytes]:
    return [Path(trust).read_bytes()] if trust else []


@asynccontextmanager
async def use_httpx(trust: str) -> AsyncIterator[tuple[Post, Read]]:
    import httpx  # noqa: PLC0415 - import time is measured apart

    async with httpx.AsyncClient(
        trust_env=False, verify=tls_context(trust), limits=httpx.Limits(max_connections=512)
    ) as client:

        async def post(url: str) -> int:
            return len((await client.post(url, content=REQUEST_BODY, headers=HEADERS)).content)

        async def read(url: str) -> int:
            async with client.stream("POST", url, content=REQUEST_BODY, headers=HEADERS) as response:
                return sum([len(piece) async for piece in response.aiter_raw()])

        yield post, read


@asynccontextmanager
async def use_aiohttp(trust: str) -> AsyncIterator[tuple[Post, Read]]:
    import aiohttp  # noqa: PLC0415 - import time is measured apart

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=512, ssl=tls_context(trust))) as session:

        async def post(url: str) -> int:
            async with session.post(url, data=REQUEST_BODY, headers=HEADERS) as response:
                return len(await response.read())

        async def read(url: str) -> int:
            async with session.post(url, data=REQUEST_BODY, headers=HEADERS) as response:
                return sum([len(piece) async for piece in response.content.iter_any()])

        yield post, read


@asynccontextmanager
async def use_pyreqwest(trust: str) -> AsyncIterator[tuple[Post, Read]]:
    from pyreqwest.client import ClientBuilder  # noqa: PLC0415 - import time is measured apart

    builder = ClientBuilder().no_proxy().follow_redirects(enable=False)
    for pem in read_certificates(trust):
        builder = builder.add_root_certificate_pem(pem)
    async with builder.build() as client:

        async def post(url: str) -> int:
            response = await client.post(url).headers(HEADERS).body_bytes(REQUEST_BODY).build().send()
            return len(await response.bytes())

        async def read(url: str) -> int:
            request = client.post(url).headers(HEADERS).body_bytes(REQUEST_BODY)
            length = 0
            # Without the 0, the head of a stream is held back until 64 KiB of it have come.
            async with request.streamed_read_buffer_limit(0).build_streamed() as response:
                while (piece := await response.body_reader.read_chunk()) is not None:
                    length += len(piece)
            return length

        yield post, read


@asynccontextmanager
async def use_gateway(trust: str) -> AsyncIterator[tuple[Post, Read]]:
    """What the gateway uses: `llm_gateway.upstream.client`, time limits, checks and all."""
    from llm_gateway.domain.ports import HttpRequest  # noqa: PLC0415 - import time is measured apart
    from llm_gateway.upstream.client import open_client  # noqa: PLC0415

    client = open_client(tls=tls_context(trust))

    async def post(url: str) -> int:
        response = await client.send(HttpRequest("POST", url, HEADERS, REQUEST_BODY))
        try:
            return len(await response.read(1 << 20))
        finally:
            await response.close()

    async def read(url: str) -> int:
        response = await client.send(HttpRequest("POST", url, HEADERS, REQUEST_BODY))
        try:
            return sum([len(piece) async for piece in response.chunks()])
        finally:
            await response.close()

    try:
        yield post, read
    finally:
        await client.close()


Use = Callable[[str], AbstractAsyncContextManager[tuple[Post, Read]]]
CLIENTS: dict[str, tuple[str, Use]] = {
    "httpx": ("httpx", use_httpx),
    "aiohttp": ("aiohttp", use_aiohttp),
    "pyreqwest": ("pyreqwest.client", use_pyreqwest),
    "gateway": ("llm_gateway.upstream.client", use_gateway),
}


async def cpu_per(unit: Callable[[], Awaitable[int]], parallel: int, times: int, count: int, expect: int) -> float:
    """CPU µs for each of `count` things in one `unit`, `parallel` units at a time, `times` rounds."""

    async def checked() -> None:
        length = await unit()
        if length != expect:
            raise RuntimeError(f"{length} bytes, expected {expect}")

    await asyncio.gather(*[checked() for _ in range(parallel)])
    start = time.process_time()
    for _ in range(times):
        await asyncio.gather(*[checked() for _ in range(parallel)])
    return (time.process_time() - start) / (times * parallel * count) * 1e6


async def measure(name: str, base: str, trust: str) -> dict[str, float]:
    module, use = CLIENTS[name]
    before = time.perf_counter()
    importlib.import_module(module)
    imported = (time.perf_counter() - before) * 1e3
    async with use(trust) as (post, read):
        result = {"import ms": imported}
        for parallel in (1, 16, 64):
            result[f"post x{parallel}"] = await cpu_per(
                lambda: post(f"{base}/json"), parallel, max(8, 400 // parallel), 1, len(ANSWER)
            )
        for mode, parallel, times, count in (("flush", 1, 5, 2000), ("paced", 20, 1, 100), ("burst", 1, 5, 4000)):
            result[mode] = await cpu_per(
                lambda mode=mode, count=count: read(f"{base}/{mode}/{count}"),  # type: ignore[misc]
                parallel, times, count, count * len(EVENT),
            )  # fmt: skip
        status = process_status()
        return result | {"threads": float(status["Threads"][0]), "RSS MB": int(status["VmRSS"][0]) / 1024}


def process_status() -> dict[str, list[str]]:
    """Linux's own account of this process: native threads count too, which Python does not see."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return {name: value.split() for name, _, value in (line.partition(":") for line in lines)}


def installed_size(name: str) -> float:
    """MB on disk of a distribution and what it alone brings along (its requirements, one level at a time)."""
    seen: set[str] = set()
    todo = [name]
    total = 0
    while todo:
        current = todo.pop().lower()
        if current in seen:
            continue
        seen.add(current)
        try:
            distribution = importlib.metadata.distribution(current)
        except importlib.metadata.PackageNotFoundError:
            continue  # An optional requirement that is not installed weighs nothing.
        total += sum(file.size or 0 for file in distribution.files or ())
        todo += [
            requirement.split(";")[0].split("[")[0].rstrip("<>=!~. 0123456789,()")
            for requirement in distribution.requires or ()
            if "extra ==" not in requirement
        ]
    return total / 1e6


def make_certificate(folder: str) -> str:
    """The path of a file with a self-signed certificate for 127.0.0.1 and its key."""
    path = f"{folder}/upstream.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=upstream"
    extension = [
        "-addext",
        "subjectAltName=IP:127.0.0.1",
        "-addext",
        "basicConstraints=critical,CA:FALSE",
        "-keyout",
        f"{folder}/key.pem",
        "-out",
        path,
    ]
    subprocess.run([*command.split(), *extension], check=True, capture_output=True)
    with Path(path).open("a") as file:
        file.write(Path(f"{folder}/key.pem").read_text())
    return path


def run(names: list[str], rounds: int, certificate: str) -> dict[str, dict[str, float]]:
    serving = [sys.executable, __file__, "--serve", "--certificate", certificate]
    upstream = subprocess.Popen(serving, stdout=subprocess.PIPE, text=True)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in names}
    try:
        if upstream.stdout is None:
            raise RuntimeError("the upstream has no standard output")
        base = f"http{'s' if certificate else ''}://127.0.0.1:{upstream.stdout.readline().strip()}"
        for _ in range(rounds):
            for name in names:
                command = [sys.executable, __file__, "--measure", name, "--base", base, "--certificate", certificate]
                output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                results[name].append(json.loads(output))
    finally:
        upstream.terminate()
        upstream.wait()
    table = {
        name: {case: statistics.median(found[case] for found in all_found) for case in all_found[0]}
        for name, all_found in results.items()
    }
    for name, row in table.items():
        row["size MB"] = installed_size("httptools" if name == "gateway" else name)
    return table


def show(table: dict[str, dict[str, float]]) -> str:
    cases = list(next(iter(table.values())))
    lines = ["| client | " + " | ".join(cases) + " |", "|---" * (len(cases) + 1) + "|"]
    for name, row in table.items():
        lines.append(f"| {name} | " + " | ".join(f"{row[case]:.1f}".removesuffix(".0") for case in cases) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default=",".join(CLIENTS))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--certificate", default="", help=argparse.SUPPRESS)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--base", default="", help=argparse.SUPPRESS)
    given: Any = parser.parse_args()
    if given.serve:
        asyncio.run(serve(given.certificate))
    elif given.measure:
        print(json.dumps(asyncio.run(measure(given.measure, given.base, given.certificate))))
    else:
        with tempfile.TemporaryDirectory() as folder:
            table = run(given.only.split(","), given.rounds, make_certificate(folder) if given.tls else "")
        print(show(table))
        if given.json:
            given.json.parent.mkdir(parents=True, exist_ok=True)
            given.json.write_text(json.dumps(table, indent=2))


if __name__ == "__main__":
    main()
