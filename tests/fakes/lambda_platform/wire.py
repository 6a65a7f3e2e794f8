"""HTTP/1.1 as a server reads and writes it, strictly: what the runtime sends must be right to the byte.

Source: https://www.rfc-editor.org/rfc/rfc9112
"""

import asyncio
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]+\r\n")


class Violation(Exception):
    """The peer broke the protocol; the message says how."""


@dataclass
class Request:
    """A request's head, and the way to its body. Header names are lower-case; values are in the order they came."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    reader: asyncio.StreamReader
    trailers: dict[str, str] = field(default_factory=dict)

    def header(self, name: str) -> str | None:
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None

    async def chunks(self) -> AsyncIterator[bytes]:
        """The chunks of a chunked body, each as it was framed; the trailers are read at its end."""
        while True:
            line = await self.reader.readline()
            if not CHUNK_SIZE.fullmatch(line):
                raise Violation(f"not a chunk size: {line!r}")
            size = int(line, 16)
            if size == 0:
                break
            data = await self.reader.readexactly(size + 2)
            if data[-2:] != b"\r\n":
                raise Violation("a chunk does not end where it says")
            yield data[:-2]
        self.trailers = dict(await read_headers(self.reader))

    async def body(self) -> bytes:
        if (self.header("transfer-encoding") or "").lower() == "chunked":
            return b"".join([chunk async for chunk in self.chunks()])
        return await self.reader.readexactly(int(self.header("content-length") or 0))


async def read_request(reader: asyncio.StreamReader) -> Request | None:
    """The next request of a connection; None when the peer has closed it."""
    line = await reader.readline()
    if not line:
        return None
    parts = line.decode("ascii").rstrip("\r\n").split(" ")
    if len(parts) != 3 or parts[2] != "HTTP/1.1" or not line.endswith(b"\r\n"):
        raise Violation(f"not a request line: {line!r}")
    return Request(parts[0], parts[1], await read_headers(reader), reader)


async def read_headers(reader: asyncio.StreamReader) -> list[tuple[str, str]]:
    headers = []
    while (line := await reader.readline()) != b"\r\n":
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or name != name.strip() or not line.endswith(b"\r\n"):
            raise Violation(f"not a header: {line!r}")
        headers.append((name.lower(), value.strip()))
    return headers


def reply(status: int, headers: dict[str, str], body: bytes) -> bytes:
    """A whole reply. From 2 KB up the body is chunked, as Go's server does it for want of a length."""
    fields = dict(headers)
    if len(body) > 2048:
        fields["Transfer-Encoding"] = "chunked"
        half = len(body) // 2
        parts = (body[:half], body[half:])
        body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"
    else:
        fields["Content-Length"] = str(len(body))
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Status\r\n{head}\r\n".encode("latin-1") + body
