"""AWS event-stream framing: cutting a byte stream into messages, and reading them.

A message is: total length, headers length, CRC-32 of those eight bytes (the prelude), headers, payload, CRC-32 of all
before it; integers are big-endian. A header is: name length (1 byte), name, type (1 byte), value.
Source: https://smithy.io/2.0/aws/amazon-eventstream.html
"""

import struct
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple
from uuid import UUID
from zlib import crc32

import orjson

from llm_gateway.errors import UpstreamMalformed

MAX_HEADERS = 128 * 1024
MAX_PAYLOAD = 24 * 1024 * 1024
"""Bytes, the limits of the specification."""

_PRELUDE = struct.Struct("!III")
_LENGTHS = struct.Struct("!II")
_CRC = struct.Struct("!I")
_FRAME = _PRELUDE.size + _CRC.size
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NO_HEADERS: Mapping[str, Any] = MappingProxyType({})


class AwsMessage(NamedTuple):
    """One message, in the shape of an event.

    `event` is the `:event-type`, of an exception its `:exception-type`, of an error its `:error-code`. `data` is the
    payload; a failure without one has its `:error-message` as JSON. `failed` tells the last two from events.
    """

    event: str | None
    data: bytes
    raw: bytes
    headers: Mapping[str, Any] = _NO_HEADERS
    failed: bool = False


class MessageSplitter:
    """Cuts a stream where its messages end, and lets only those through whose two CRCs are right.

    What is wrong with a message is raised once those before it have been given out: at the next `feed` or at `rest`.
    """

    __slots__ = ("_failure", "_need", "_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        """What has come of a message that is not complete: joined once, however many reads it takes."""
        self._size = 0
        self._need = _PRELUDE.size
        """Bytes without which there is nothing to be read."""
        self._failure: UpstreamMalformed | None = None

    def feed(self, data: bytes) -> bytes:
        """The whole messages that `data` completes, unchanged, or `b""`. Raises `UpstreamMalformed`."""
        if self._failure is not None:
            raise self._failure
        if self._size + len(data) < self._need:
            self._keep(data)
            return b""
        buffer = b"".join((*self._pieces, data)) if self._pieces else data
        end = 0
        self._need = _PRELUDE.size
        try:
            while end < len(buffer):
                length = _length_at(buffer, end)
                if length is None or end + length > len(buffer):
                    self._need = length or _PRELUDE.size
                    break
                _check_message(buffer, end, length)
                end += length
        except UpstreamMalformed as failure:
            if end == 0:
                raise
            self._failure = failure
        self._pieces = []
        self._size = 0
        if end == len(buffer):
            return buffer
        self._keep(buffer[end:])
        return buffer[:end]

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._size += len(data)

    def rest(self) -> bytes:
        """What has come of a message that is not complete. Raises `UpstreamMalformed` for one that was wrong."""
        if self._failure is not None:
            raise self._failure
        return b"".join(self._pieces)


def split_messages(block: bytes) -> list[AwsMessage]:
    """The messages of a block of whole ones. Raises `UpstreamMalformed`, for a wrong checksum too."""
    start = 0
    while start < len(block):
        length = int.from_bytes(block[start : start + 4], "big")
        if length < _FRAME or start + length > len(block):
            raise UpstreamMalformed("The provider's stream holds a message that is not whole.")
        _check_message(block, start, length)  # its checksum covers the prelude too
        start += length
    return split_checked_messages(block)


def split_checked_messages(block: bytes) -> list[AwsMessage]:
    """`split_messages` for what `MessageSplitter` gave, whose checksums were right then."""
    messages = []
    start = 0
    while start < len(block):
        total, headers_length = _LENGTHS.unpack_from(block, start)
        payload, end = start + _PRELUDE.size + headers_length, start + total
        event, failed, headers = _head(block[start + _PRELUDE.size : payload])
        data = block[payload : end - _CRC.size]
        if failed and not data:
            data = orjson.dumps({"message": _text(headers, ":error-message")})
        messages.append(AwsMessage(event, data, block[start:end], headers, failed))
        start = end
    return messages


def _length_at(buffer: bytes, start: int) -> int | None:
    """The length of the message that begins at `start`; None where its prelude is not there yet."""
    if len(buffer) - start < _PRELUDE.size:
        return None
    total, headers, crc = _PRELUDE.unpack_from(buffer, start)
    if crc32(buffer[start : start + 8]) != crc:
        raise UpstreamMalformed("The provider sent a message whose prelude has a wrong checksum.")
    payload = total - headers - _FRAME
    if payload < 0:
        raise UpstreamMalformed("The provider sent a message with lengths that contradict each other.")
    if headers > MAX_HEADERS or payload > MAX_PAYLOAD:
        raise UpstreamMalformed(f"The provider sent a message of {total} bytes, more than the format allows.")
    return int(total)


def _check_message(buffer: bytes, start: int, length: int) -> None:
    end = start + length - _CRC.size
    if crc32(buffer[start:end]) != _CRC.unpack_from(buffer, end)[0]:
        raise UpstreamMalformed("The provider sent a message with a wrong checksum.")


@lru_cache(maxsize=64)
def _head(block: bytes) -> tuple[str | None, bool, Mapping[str, Any]]:
    """Name, whether it is a failure, headers. Remembered: all messages of a kind have the very same headers."""
    headers = read_headers(block)
    kind = headers.get(":message-type")
    if kind == "exception":
        return _text(headers, ":exception-type"), True, headers
    if kind == "error":
        return _text(headers, ":error-code"), True, headers
    return _text(headers, ":event-type"), False, headers


def _text(headers: Mapping[str, Any], name: str) -> str | None:
    value = headers.get(name)
    return value if isinstance(value, str) else None


def read_headers(block: bytes) -> Mapping[str, Any]:
    """Headers by name: bool, int, bytes, str, datetime (UTC) or UUID. Raises `UpstreamMalformed`."""
    headers: dict[str, Any] = {}
    at = 0
    try:
        while at < len(block):
            name_end = at + 1 + block[at]
            name = block[at + 1 : name_end].decode()
            headers[name], at = _value(block, name_end + 1, block[name_end])
    except (IndexError, struct.error, UnicodeDecodeError, ValueError, OverflowError):
        raise UpstreamMalformed("The provider sent a message whose headers cannot be read.") from None
    return MappingProxyType(headers)


_INTEGERS = {2: struct.Struct("!b"), 3: struct.Struct("!h"), 4: struct.Struct("!i"), 5: struct.Struct("!q")}


def _value(block: bytes, at: int, kind: int) -> tuple[Any, int]:
    """The value of type `kind` that begins at `at`, and where it ends."""
    if kind in (0, 1):
        return kind == 0, at  # the type is the value: 0 is true
    if kind in _INTEGERS:
        integer = _INTEGERS[kind]
        return integer.unpack_from(block, at)[0], at + integer.size
    if kind in (6, 7):
        start = at + 2
        end = start + struct.unpack_from("!H", block, at)[0]
        if end > len(block):
            raise ValueError
        return (block[start:end] if kind == 6 else block[start:end].decode()), end
    if kind == 8:
        return _EPOCH + timedelta(milliseconds=struct.unpack_from("!q", block, at)[0]), at + 8
    if kind == 9:
        return UUID(bytes=block[at : at + 16]), at + 16
    raise ValueError
