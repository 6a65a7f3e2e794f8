"""Images, audio, video and documents of Chat Completions as Gemini's `inlineData` and `fileData`.

Sources: https://ai.google.dev/api/caching#Blob, https://ai.google.dev/api/caching#FileData,
https://ai.google.dev/api/caching#FunctionResponsePart (`inlineData` alone in tools' results; at Vertex `fileData` too),
https://ai.google.dev/gemini-api/docs/generate-content/file-input-methods (https URLs, signed ones too),
https://cloud.google.com/vertex-ai/generative-ai/docs/model-reference/inference#filedata (`mimeType` is required there)
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from llm_gateway.errors import InvalidRequest

_DATA_URI = re.compile(r"data:(?P<type>[^;,]*)(?:;[^;,]*)*?;base64,(?P<data>.*)", re.DOTALL)
_FILES_API = "https://generativelanguage.googleapis.com/"
_HOSTED = ("gs://", _FILES_API, "https://www.youtube.com/", "https://youtube.com/", "https://youtu.be/")
"""What Gemini has at hand itself, so that every model can read it."""

_TYPES = {
    "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp", "gif": "image/gif",
    "heic": "image/heic", "heif": "image/heif", "bmp": "image/bmp", "pdf": "application/pdf", "txt": "text/plain",
    "html": "text/html", "csv": "text/csv", "md": "text/markdown", "json": "application/json", "mp4": "video/mp4",
    "mov": "video/quicktime", "webm": "video/webm", "mpeg": "video/mpeg", "mpg": "video/mpeg", "avi": "video/x-msvideo",
    "wav": "audio/wav", "mp3": "audio/mp3", "flac": "audio/flac", "aac": "audio/aac", "ogg": "audio/ogg",
    "aiff": "audio/aiff", "m4a": "audio/m4a", "opus": "audio/opus",
}  # fmt: skip
"""https://ai.google.dev/gemini-api/docs/generate-content/file-input-methods lists those that are taken."""

_RIGHT_TYPES = {"image/jpg": "image/jpeg"}
"""Of types that people write and nobody registered: Gemini answers `Unsupported MIME type`."""


@dataclass(frozen=True, slots=True)
class MediaRules:
    """What may stand in `fileData`. `needs_type`: Vertex wants to be told what is behind a URL. `in_results`: it may
    stand in a tool's result too."""

    external_urls: bool = True
    needs_type: bool = False
    in_results: bool = False


def media_part(media: Any, rules: MediaRules, param: str, kind: str) -> dict[str, Any]:
    """`media` is `{"url": …}`, or the URL itself; `format` may name its type. Raises `InvalidRequest`."""
    media = {"url": media} if isinstance(media, str) else media
    url = media.get("url") if isinstance(media, dict) else None
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f"An {kind} needs a URL.", param=f"{param}.url")
    named = _named_type(media, param)
    if url.startswith("data:"):
        return _inline(url, named, f"{param}.url")
    return _by_reference(url, named, rules, f"{param}.url", kind)


def result_image(image: Any, rules: MediaRules, param: str) -> dict[str, Any]:
    """`media_part` for an image that a tool answers with. Raises `InvalidRequest`."""
    part = media_part(image, rules, param, "image")
    if "fileData" in part and not rules.in_results:
        raise InvalidRequest("In a tool's result the Gemini API takes images as data URIs alone.", param=f"{param}.url")
    return part


def audio_part(audio: Any, param: str) -> dict[str, Any]:
    """`audio` is `{"data": base64, "format": "wav"}`."""
    data = audio.get("data") if isinstance(audio, dict) else None
    if not isinstance(data, str) or not data:
        raise InvalidRequest("Audio needs its data, in base64.", param=f"{param}.data")
    if data.startswith("data:"):
        return _inline(data, None, f"{param}.data")
    name = str(audio.get("format") or "wav")
    return {"inlineData": {"mimeType": _TYPES.get(name, name if "/" in name else f"audio/{name}"), "data": data}}


def file_part(file: Any, rules: MediaRules, param: str) -> dict[str, Any]:
    """`file` is `{"file_data": data URI or base64, "filename"}`, or `{"file_id": a URI that Google can read}`."""
    given = file if isinstance(file, dict) else {}
    data, identity = given.get("file_data"), given.get("file_id")
    named = _named_type(given, param)
    if isinstance(data, str) and data:
        if data.startswith("data:"):
            return _inline(data, named, f"{param}.file_data")
        if data.startswith(("https://", "gs://")):
            return _by_reference(data, named, rules, f"{param}.file_data", "file")
        kind = named or _type_of(str(given.get("filename") or "")) or "application/pdf"
        return {"inlineData": {"mimeType": kind, "data": data}}
    if isinstance(identity, str) and identity.startswith(("https://", "gs://")):
        return _by_reference(identity, named, rules, f"{param}.file_id", "file")
    raise InvalidRequest(
        "Gemini takes a file as `file_data`, or as a `file_id` that is a URI of its Files API or of Cloud Storage.",
        param=param,
    )


def _named_type(media: Mapping[str, Any], param: str) -> str | None:
    """The type that the caller names beside the data. Raises `InvalidRequest` for one that is no text."""
    for name in ("format", "mime_type"):
        if not (named := media.get(name)):
            continue
        if not isinstance(named, str):
            raise InvalidRequest(f"`{param}.{name}` must be a media type, such as image/png.", param=f"{param}.{name}")
        return _right_type(named)
    return None


def _right_type(kind: str) -> str:
    """Media types are the same in any case: https://www.rfc-editor.org/rfc/rfc6838#section-4.2"""
    return _RIGHT_TYPES.get(kind.lower(), kind.lower())


def _inline(uri: str, named: str | None, param: str) -> dict[str, Any]:
    found = _DATA_URI.fullmatch(uri)
    if found is None:
        raise InvalidRequest("A data URI must be `data:<type>;base64,<data>`.", param=param)
    kind = _right_type(found["type"]) or named
    if not kind:
        raise InvalidRequest("The data URI does not say of what type its data is.", param=param)
    return {"inlineData": {"mimeType": kind, "data": found["data"]}}


def _by_reference(url: str, named: str | None, rules: MediaRules, param: str, kind: str) -> dict[str, Any]:
    if not url.startswith(("https://", "gs://")):
        raise InvalidRequest("Gemini reads https and gs URLs only; send a data URI instead.", param=param)
    if not rules.external_urls and not url.startswith(_HOSTED):
        raise InvalidRequest(f"This model cannot fetch URLs; send the {kind} as a data URI.", param=param)
    mime = named or _type_of(urlsplit(url).path)
    if not mime and rules.needs_type:
        raise InvalidRequest(
            f"Vertex AI must be told the type of the {kind}: name it as `format`, or send a data URI.", param=param
        )
    return {"fileData": {"fileUri": url, **({"mimeType": mime} if mime else {})}}


def _type_of(path: str) -> str | None:
    return _TYPES.get(path.rpartition(".")[2].lower()) if "." in path else None
