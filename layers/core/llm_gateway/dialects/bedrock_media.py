"""Images, documents, video and audio of Chat Completions as Converse's blocks.

Converse takes bytes (base64 in JSON) or an object in S3, and no address on the web: one is refused, since nothing here
may fetch it.
Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ContentBlock.html
"""

import re
from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

_DATA_URI = re.compile(r"data:(?P<type>[\w.+-]+/[\w.+-]+)?(?:;[\w-]+=[^;,]*)*;base64,", re.IGNORECASE)
_NOT_IN_A_NAME = re.compile(r"[^A-Za-z0-9\-()\[\] ]+")
_LONGEST_NAME = 200
_IMAGES = {"png", "jpeg", "gif", "webp"}
_VIDEOS = {"mkv", "mov", "mp4", "webm", "flv", "mpeg", "mpg", "wmv", "three_gp"}
_DOCUMENTS = {"pdf", "csv", "doc", "docx", "xls", "xlsx", "html", "txt", "md"}
_AUDIO = {
    "mp3",
    "opus",
    "wav",
    "aac",
    "flac",
    "mp4",
    "ogg",
    "mkv",
    "mka",
    "x-aac",
    "m4a",
    "mpeg",
    "mpga",
    "pcm",
    "webm",
}
_FORMAT_OF_TYPE = {
    "image/jpg": "jpeg",
    "video/quicktime": "mov",
    "video/x-matroska": "mkv",
    "video/x-flv": "flv",
    "video/x-ms-wmv": "wmv",
    "video/3gpp": "three_gp",
    "audio/mpeg": "mp3",
    "audio/x-wav": "wav",
    "text/plain": "txt",
    "text/markdown": "md",
    "application/msword": "doc",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
}


def image_block(part: Mapping[str, Any], param: str) -> dict[str, Any]:
    """`{"type": "image_url", "image_url": {"url": "data:…" | "s3://…"}}`. Raises `InvalidRequest`."""
    return {"image": _block(_url(part, "image_url", param), _IMAGES, "image", param)}


def video_block(part: Mapping[str, Any], param: str) -> dict[str, Any]:
    """`{"type": "video_url", "video_url": {"url": "data:…" | "s3://…"}}`. Raises `InvalidRequest`."""
    return {"video": _block(_url(part, "video_url", param), _VIDEOS, "video", param)}


def audio_block(part: Mapping[str, Any], param: str) -> dict[str, Any]:
    """`{"type": "input_audio", "input_audio": {"data": base64, "format": "wav"}}`. Raises `InvalidRequest`."""
    given = part.get("input_audio")
    data, kind = (given.get("data"), given.get("format")) if isinstance(given, dict) else (None, None)
    if not isinstance(data, str) or not data or kind not in _AUDIO:
        raise InvalidRequest(f"`{param}.input_audio` must hold base64 `data` and its `format`.", param=param)
    return {"audio": {"format": kind, "source": {"bytes": data}}}


def document_block(part: Mapping[str, Any], param: str, taken: set[str]) -> dict[str, Any]:
    """`{"type": "file", "file": {"file_data": "data:…" | "s3://…", "filename": …}}`. Raises `InvalidRequest`.

    A name may hold letters, digits, single spaces, hyphens, parentheses and brackets; one that is left without any is
    `document N`. No two of a request may be alike: `taken` has those before in small letters, and gets this one's.
    """
    file = part.get("file")
    data = file.get("file_data") if isinstance(file, dict) else None
    if not isinstance(data, str) or not data or not isinstance(file, dict):
        raise InvalidRequest(
            f"`{param}.file` must hold `file_data`: Bedrock knows no uploaded files.", param=f"{param}.file"
        )
    filename = file.get("filename") if isinstance(file.get("filename"), str) else ""
    stem, _, suffix = str(filename).rpartition(".")
    suffix = {"htm": "html", "jpeg": "jpeg", "text": "txt"}.get(suffix.lower(), suffix.lower())
    block = _block(data, _DOCUMENTS, "document", param, fallback=suffix if suffix in _DOCUMENTS else None)
    name = " ".join(_NOT_IN_A_NAME.sub(" ", stem or str(filename)).split())[:_LONGEST_NAME]
    name = _untaken(name or f"document {len(taken) + 1}", taken)
    return {"document": {"format": block["format"], "name": name, "source": block["source"]}}


def _untaken(name: str, taken: set[str]) -> str:
    free, number = name, 1
    while free.casefold() in taken:
        number += 1
        free = f"{name[: _LONGEST_NAME - len(str(number)) - 1].rstrip()} {number}"
    taken.add(free.casefold())
    return free


def _url(part: Mapping[str, Any], name: str, param: str) -> str:
    given = part.get(name)
    url = given.get("url") if isinstance(given, dict) else given
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f"`{param}.{name}.url` must be a string.", param=f"{param}.{name}")
    return url


def _block(url: str, formats: set[str], what: str, param: str, fallback: str | None = None) -> dict[str, Any]:
    if url.startswith("s3://"):
        kind = _format(None, url.rpartition(".")[2].lower(), formats) or fallback
        source: dict[str, Any] = {"s3Location": {"uri": url}}
    elif found := _DATA_URI.match(url):
        kind = _format(found["type"], "", formats) or fallback
        source = {"bytes": url[found.end() :]}
    else:
        raise InvalidRequest(
            f"Bedrock takes no web address for {_an(what)}: send it as a data URI (`data:…;base64,…`) or as `s3://…`.",
            param=param,
            code="unsupported_url",
        )
    if kind is None:
        raise InvalidRequest(f"Bedrock takes {_an(what)} as one of: {', '.join(sorted(formats))}.", param=param)
    return {"format": kind, "source": source}


def _format(media_type: str | None, suffix: str, formats: set[str]) -> str | None:
    media_type = (media_type or "").lower()
    for kind in (_FORMAT_OF_TYPE.get(media_type), media_type.partition("/")[2], {"jpg": "jpeg"}.get(suffix, suffix)):
        if kind in formats:
            return kind
    return None


def _an(what: str) -> str:
    return f"an {what}" if what[0] in "aeiou" else f"a {what}"
