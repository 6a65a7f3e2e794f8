"""Undoes a body's `content-encoding`, piece by piece, for providers that compress though nobody asked.

The gateway asks for `accept-encoding: identity`. gzip and deflate are understood all the same; br and zstd, which
need a library, are not, and a provider that sends them unasked breaks HTTP.

Source: https://www.rfc-editor.org/rfc/rfc9110#name-content-codings
"""

import zlib
from collections.abc import Iterator

from llm_gateway.errors import UpstreamCut, UpstreamMalformed

_PIECE = 1 << 20
"""Bytes that one step may yield at most, so that a small input cannot fill the memory before a limit is checked."""
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


class Inflater:
    """Decodes one body: `feed` what came, in order, then `finish`."""

    def __init__(self, host: str) -> None:
        self._host = host
        self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What `data` decodes to, in pieces that are never empty. Raises `UpstreamMalformed`."""
        while data:
            if self._decoder.eof:
                # gzip allows several members one after the other (RFC 1952, section 2.2).
                self._decoder = zlib.decompressobj(_GZIP_OR_ZLIB)
                self._begun = False
            try:
                piece = self._decoder.decompress(data, _PIECE)
            except zlib.error as error:
                piece = self._raw_deflate(data, error)
            self._begun = True
            data = self._decoder.unconsumed_tail or self._decoder.unused_data
            if piece:
                yield piece

    def _raw_deflate(self, data: bytes, error: zlib.error) -> bytes:
        """Some servers send `deflate` without the zlib wrapper that the standard demands."""
        if not self._begun:
            self._decoder = zlib.decompressobj(-zlib.MAX_WBITS)
            try:
                return self._decoder.decompress(data, _PIECE)
            except zlib.error:
                pass  # Neither form: the first error is the one to tell.
        raise UpstreamMalformed(f"{self._host} sent a compressed body that cannot be read: {error}") from error

    def finish(self) -> None:
        """Raises `UpstreamCut` where the compressed stream has not come to its own end."""
        if self._begun and not self._decoder.eof:
            raise UpstreamCut(f"{self._host} ended a compressed body in its middle")


def open_inflater(coding: str, host: str) -> Inflater | None:
    """None where nothing is encoded. Raises `UpstreamMalformed` for a coding that is not known."""
    name = coding.strip().lower()
    if name in ("", "identity"):
        return None
    if name in ("gzip", "x-gzip", "deflate"):
        return Inflater(host)
    raise UpstreamMalformed(f"{host} answered with the content encoding {coding[:40]!r}, which was not asked for")
