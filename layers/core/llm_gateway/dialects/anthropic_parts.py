"""Parts of a message's content as Claude's content blocks.

Besides OpenAI's parts, blocks of Anthropic's own (`document`, `image`, `search_result`, …) pass as they are. A part's
`cache_control` is kept. Text that is empty or all white space is left out: the API refuses it.
Sources: https://platform.openai.com/docs/api-reference/chat/create (content parts),
https://platform.claude.com/docs/en/build-with-claude/vision, https://platform.claude.com/docs/en/build-with-claude/pdf-support,
https://platform.claude.com/docs/en/build-with-claude/prompt-caching
"""

import binascii
import re
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from llm_gateway.dialects.parameters import unknown_part
from llm_gateway.errors import InvalidRequest

Block = dict[str, Any]

_DATA_URI = re.compile(r"data:([^;,]*)((?:;[^;,]*)*),", re.IGNORECASE)
_MEDIA_TYPES = {"image/jpg": "image/jpeg"}
"""Wrong names that many clients send, and the API's own."""
_ANTHROPICS_OWN = frozenset({"image", "document", "search_result", "container_upload"})


def blocks_of(content: Any, param: str) -> list[Block]:
    """The blocks of a message's content: text, or a list of parts. Raises `InvalidRequest` naming `param`."""
    if content is None:
        return []
    if isinstance(content, str):
        return [text_block(content)] if content.strip() else []
    if not isinstance(content, list):
        raise InvalidRequest(f"`{param}` must be a string or an array of parts.", param=param)
    blocks = []
    for index, part in enumerate(content):
        place = f"{param}[{index}]"
        if not isinstance(part, dict):
            raise InvalidRequest(f"`{place}` must be an object.", param=place)
        block = _block(part, place)
        if block is not None:
            blocks.append(with_cache_control(block, part))
    return blocks


def text_block(text: str) -> Block:
    return {"type": "text", "text": text}


def with_cache_control(block: Block, marked: Mapping[str, Any]) -> Block:
    """`block` with the `cache_control` of the part, tool or message that it was made of."""
    marker = marked.get("cache_control")
    return block if marker is None else {**block, "cache_control": marker}


def _block(part: Mapping[str, Any], place: str) -> Block | None:
    kind = part.get("type")
    if kind in ("text", "refusal"):
        text = part.get(kind)
        if not isinstance(text, str):
            raise InvalidRequest(f"`{place}.{kind}` must be a string.", param=f"{place}.{kind}")
        return text_block(text) if text.strip() else None
    if kind == "image_url":
        return _image(part.get("image_url"), f"{place}.image_url")
    if kind == "file":
        return _document(part.get("file"), f"{place}.file")
    if isinstance(kind, str) and kind in _ANTHROPICS_OWN:
        return dict(part)
    raise unknown_part("Claude", part, place)


def _image(image: Any, place: str) -> Block:
    url = image.get("url") if isinstance(image, dict) else image
    if not isinstance(url, str) or not url:
        raise InvalidRequest(f"`{place}.url` must be a string.", param=f"{place}.url")
    if url[:5].lower() != "data:":
        return {"type": "image", "source": {"type": "url", "url": url}}
    media_type, data = _data_uri(url, f"{place}.url")
    return {"type": "image", "source": {"type": "base64", "media_type": media_type, "data": data}}


def _document(file: Any, place: str) -> Block:
    """A `file` part: an uploaded file's id, a URL, or data: a PDF, or plain text."""
    if not isinstance(file, dict):
        raise InvalidRequest(f"`{place}` must be an object.", param=place)
    given, file_id, name = file.get("file_data"), file.get("file_id"), file.get("filename")
    if isinstance(given, str) and given:
        source = _document_source(given, f"{place}.file_data")
    elif isinstance(file_id, str) and file_id:
        source = {"type": "file", "file_id": file_id}
    else:
        raise InvalidRequest(f"`{place}` needs `file_data` or `file_id`.", param=place)
    block: Block = {"type": "document", "source": source}
    return {**block, "title": name} if isinstance(name, str) and name else block


def _document_source(given: str, place: str) -> Block:
    if given.startswith(("https://", "http://")):
        return {"type": "url", "url": given}
    if given[:5].lower() != "data:":
        return {"type": "base64", "media_type": "application/pdf", "data": given}
    media_type, data = _data_uri(given, place)
    if not media_type.startswith("text/"):
        return {"type": "base64", "media_type": media_type, "data": data}
    try:
        text = b64decode(data, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidRequest(f"`{place}` is not base64 of UTF-8 text.", param=place) from None
    return {"type": "text", "media_type": "text/plain", "data": text}


def _data_uri(uri: str, place: str) -> tuple[str, str]:
    """Media type and base64 of a data URI: https://www.rfc-editor.org/rfc/rfc2397"""
    head = _DATA_URI.match(uri)
    if head is None or not head[2].lower().endswith(";base64"):
        raise InvalidRequest(f"`{place}` must be a URL, or a data URI in base64.", param=place)
    named = head[1].lower()
    return _MEDIA_TYPES.get(named, named), uri[head.end() :]
