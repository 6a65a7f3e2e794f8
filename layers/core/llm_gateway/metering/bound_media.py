"""The most tokens that an image or a piece of audio can count.

What a model counts for an image is a fact of the model (`catalog/capabilities/limits.toml`), whatever the image's size.
Audio counts by the second, so a bound needs the longest that so many bytes can last.
"""

from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from llm_gateway.metering.estimate import AUDIO_CHARACTERS_A_TOKEN

_LEAST_MP3_BYTES_A_SECOND = 1000
"""8 kbit/s, the lowest bit rate of MPEG-2 and MPEG-2.5 Layer III: ISO/IEC 13818-3, 2.4.2.3"""
_WAV_HEADER = 36
"""Bytes from `RIFF` to the end of the `fmt ` chunk's 16 bytes: http://soundfile.sapp.org/doc/WaveFormat/"""
_PCM = 1


def image_tokens(part: Mapping[str, Any], facts: Mapping[str, Any], *, reads_urls_of_any_type: bool) -> int | None:
    """Tokens of an `image_url` or `image` part at most; None where nothing but the context window bounds them.

    `reads_urls_of_any_type`: the provider takes what it finds at a URL for what it is, such as a film.
    """
    inner = part.get("image_url")
    url = inner.get("url") if isinstance(inner, dict) else inner
    if isinstance(url, str):
        is_data = url[:5].lower() == "data:"
        if reads_urls_of_any_type and not (is_data and url[5:11].lower() == "image/"):
            return None
        if is_data and url[5:11].lower() != "image/":
            return None
    detail = inner.get("detail") if isinstance(inner, dict) else None
    if detail in ("low", "high"):
        named: int | None = facts.get(f"image_tokens_{detail}")
        if named is not None:
            return named
    found: int | None = facts.get("image_tokens")
    return found


def audio_tokens(audio: Any, facts: Mapping[str, Any]) -> int | None:
    """Tokens of `{"data": base64, "format": "wav" | "mp3"}` at most; None where its bytes say nothing of its length."""
    a_second = facts.get("audio_tokens_per_s")
    data = audio.get("data") if isinstance(audio, dict) else None
    if a_second is None or not isinstance(data, str):
        return None
    size = len(data) * 3 // 4
    rate = _bytes_a_second(audio.get("format"), data)
    if rate is None:
        return None
    # An estimate is billed where a provider counts nothing, and knows nothing of rates.
    longest: int = -(-size * a_second // rate) + a_second
    return max(longest, len(data) // AUDIO_CHARACTERS_A_TOKEN + 1)


def _bytes_a_second(kind: Any, data: str) -> int | None:
    """The fewest bytes that a second can take. Other formats than these two compress silence to nothing."""
    if kind == "mp3":
        return _LEAST_MP3_BYTES_A_SECOND
    return _wav_bytes_a_second(data) if kind == "wav" else None


def _wav_bytes_a_second(data: str) -> int | None:
    """Sample rate times the bytes of a sample, of plain PCM; None for another coding or a header of another order."""
    try:
        head = b64decode(data[: _WAV_HEADER * 4 // 3], validate=True)
    except ValueError:  # also what is not ASCII
        return None
    if head[:4] != b"RIFF" or head[8:16] != b"WAVEfmt " or int.from_bytes(head[20:22], "little") != _PCM:
        return None
    channels = int.from_bytes(head[22:24], "little")
    samples = int.from_bytes(head[24:28], "little")
    bits = int.from_bytes(head[34:36], "little")
    return samples * channels * (bits // 8) or None
