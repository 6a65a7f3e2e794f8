"""Messages of Chat Completions as Gemini's `contents` and `systemInstruction`.

Sources: https://ai.google.dev/api/caching#Content (Content, Part, FunctionCall, FunctionResponse, FileData),
https://ai.google.dev/gemini-api/docs/function-calling, https://ai.google.dev/gemini-api/docs/thought-signatures
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from llm_gateway.dialects.gemini_media import MediaRules, audio_part, file_part, media_part, result_image
from llm_gateway.dialects.gemini_reasoning import is_geminis, split_by_signatures
from llm_gateway.dialects.parameters import unknown_part
from llm_gateway.errors import InvalidRequest

MADE_UP = "gwcall_"
"""Begins the ids that the gateway gives to calls that came without; Gemini never gets to see them."""

NO_SIGNATURE = "skip_thought_signature_validator"
"""Stands for a signature where a call comes from elsewhere (another provider, a caller's own making):
https://ai.google.dev/gemini-api/docs/thought-signatures#faqs"""

Part = dict[str, Any]


@dataclass(slots=True)
class Contents:
    """`system` is the text of every system and developer message."""

    system: list[Part] = field(default_factory=list)
    contents: list[dict[str, Any]] = field(default_factory=list)


def encode_messages(messages: list[dict[str, Any]], rules: MediaRules, *, strict_signatures: bool) -> Contents:
    """Raises `InvalidRequest` with the `param` of the message that cannot be said."""
    encoded = Contents()
    names: dict[str, str] = {}
    for at, message in enumerate(messages):
        param = f"messages[{at}]"
        match message["role"]:
            case "system" | "developer":
                encoded.system += list(_texts(message.get("content"), param))
            case "user":
                _append(encoded, "user", list(_user_parts(message.get("content"), rules, param)))
            case "assistant":
                _append(encoded, "model", _assistant_parts(message, rules, names, strict_signatures, param))
            case "tool":
                part = _tool_result(message, names, rules, param)
                _append(encoded, "user", [part], with_results=True)
            case role:
                raise InvalidRequest(f"Gemini has no role `{role}`.", param=f"{param}.role")
    if not encoded.contents:
        # Gemini takes no request without contents; alone, an instruction is what there is to answer.
        encoded.contents, encoded.system = [{"role": "user", "parts": encoded.system}], []
    if not encoded.contents[0]["parts"]:
        raise InvalidRequest("The messages hold nothing to answer.", param="messages")
    return encoded


def listed(value: Any, param: str) -> list[Any]:
    """An array that may be left out. Raises `InvalidRequest` for what is none."""
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidRequest(f"`{param}` must be an array.", param=param)
    return value


def _append(encoded: Contents, role: str, parts: list[Part], *, with_results: bool = False) -> None:
    """Adds a turn; results of parallel calls share one, as their calls did."""
    if not parts:
        return
    last = encoded.contents[-1] if encoded.contents else None
    if with_results and last and last["role"] == role and "functionResponse" in last["parts"][-1]:
        last["parts"] += parts
    else:
        encoded.contents.append({"role": role, "parts": parts})


def _texts(content: Any, param: str) -> Iterator[Part]:
    """The text of a message that can hold nothing else. Empty texts are not sent: the wire refuses them."""
    if isinstance(content, str):
        content = [{"type": "text", "text": content}]
    for at, part in enumerate(listed(content, f"{param}.content")):
        if text := _text_of(part, f"{param}.content[{at}]"):
            yield {"text": text}


def _text_of(part: Any, param: str) -> str:
    text = part if isinstance(part, str) else part.get("text", part.get("refusal")) if _is_part(part) else None
    if not isinstance(text, str):
        raise InvalidRequest("Only text can stand here.", param=param)
    return text


def _is_part(part: Any) -> bool:
    return isinstance(part, dict) and part.get("type") in ("text", "refusal", "input_text", "output_text")


def _user_parts(content: Any, rules: MediaRules, param: str) -> Iterator[Part]:
    if isinstance(content, str):
        yield from _texts(content, param)
        return
    for at, part in enumerate(listed(content, f"{param}.content")):
        where = f"{param}.content[{at}]"
        kind = part.get("type") if isinstance(part, dict) else None
        inner = part.get(kind) if isinstance(part, dict) and isinstance(kind, str) else None
        match kind:
            case "text" | "input_text":
                yield from _texts([part], where)
            case "image_url" | "video_url" | "audio_url":
                yield media_part(inner, rules, f"{where}.{kind}", kind.removesuffix("_url"))
            case "input_audio":
                yield audio_part(inner, f"{where}.input_audio")
            case "file":
                yield file_part(inner, rules, f"{where}.file")
            case _:
                raise unknown_part("Gemini", part, where)


def _assistant_parts(
    message: Mapping[str, Any], rules: MediaRules, names: dict[str, str], strict_signatures: bool, param: str
) -> list[Part]:
    """Thoughts, then text, then images, then calls, each with the signature it came with."""
    details = [
        detail
        for detail in listed(message.get("reasoning_details"), f"{param}.reasoning_details")
        if isinstance(detail, dict) and is_geminis(detail)
    ]
    details.sort(key=lambda detail: detail["index"] if isinstance(detail.get("index"), int) else 0)
    parts: list[Part] = []
    for detail in details:
        text, signature = detail.get("text") or "", detail.get("signature")
        if detail.get("type") == "reasoning.text" and isinstance(text, str) and (text or signature):
            parts.append({"text": text, "thought": True, **({"thoughtSignature": signature} if signature else {})})
    text = "".join(part["text"] for part in _texts(message.get("content"), param))
    refusal = message.get("refusal")
    text += refusal if isinstance(refusal, str) else ""
    encrypted = [
        detail
        for detail in details
        if detail.get("type") == "reasoning.encrypted" and isinstance(detail.get("data"), str)
    ]
    calls = listed(message.get("tool_calls"), f"{param}.tool_calls")
    # A call carries its signature itself; the details repeat it for clients that drop what they do not know of a call.
    carried = any(isinstance(call, dict) and _google_signature(call.get("extra_content")) for call in calls)
    by_call = (
        {} if carried else {detail["id"]: detail["data"] for detail in encrypted if isinstance(detail.get("id"), str)}
    )
    parts += split_by_signatures(text, [detail for detail in encrypted if not detail.get("id")])
    for at, image in enumerate(listed(message.get("images"), f"{param}.images")):
        where = f"{param}.images[{at}]"
        given = image if isinstance(image, dict) else {}
        part = media_part(given.get("image_url"), rules, where, "image")
        signature = _google_signature(given.get("extra_content"))
        parts.append({**part, "thoughtSignature": signature} if signature else part)
    called = [_call_part(call, names, by_call, f"{param}.tool_calls[{at}]") for at, call in enumerate(calls)]
    if called and strict_signatures and not any("thoughtSignature" in part for part in called):
        called[0]["thoughtSignature"] = NO_SIGNATURE
    return parts + called


def _call_part(call: Any, names: dict[str, str], signatures: Mapping[str, str], param: str) -> Part:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        raise InvalidRequest("A tool call needs a function with a name.", param=param)
    call_id = call.get("id")
    part: Part = {"functionCall": {"name": function["name"], "args": _arguments(function.get("arguments"), param)}}
    signature = _google_signature(call.get("extra_content"))
    if isinstance(call_id, str):
        names[call_id] = function["name"]
        signature = signature or signatures.get(call_id)
        if call_id and not call_id.startswith(MADE_UP):
            part["functionCall"]["id"] = call_id
    if signature:
        part["thoughtSignature"] = signature
    return part


def _arguments(text: Any, param: str) -> orjson.Fragment:
    """The caller's own bytes: integers past 64 bits stay exact."""
    text = text or "{}"
    try:
        parsed = orjson.loads(text)
    except (orjson.JSONDecodeError, TypeError):
        parsed = None
    if not isinstance(parsed, dict):
        raise InvalidRequest("The arguments must be the text of a JSON object.", param=f"{param}.function.arguments")
    return orjson.Fragment(text)


def _google_signature(extra: Any) -> str | None:
    google = extra.get("google") if isinstance(extra, dict) else None
    signature = google.get("thought_signature") if isinstance(google, dict) else None
    return signature if isinstance(signature, str) and signature else None


def _tool_result(message: Mapping[str, Any], names: Mapping[str, str], rules: MediaRules, param: str) -> Part:
    """A result goes by its function's name, which Chat Completions tells only in the call that it answers."""
    call_id = message.get("tool_call_id")
    name = names.get(call_id) if isinstance(call_id, str) else None
    name = name or message.get("name")
    if not isinstance(name, str) or not name:
        raise InvalidRequest(
            f"No message before this one calls a tool with the id `{call_id}`.", param=f"{param}.tool_call_id"
        )
    text, media = _result_parts(message.get("content"), rules, f"{param}.content")
    result: dict[str, Any] = {"name": name, "response": _response(text, failed=bool(message.get("is_error")))}
    if isinstance(call_id, str) and call_id and not call_id.startswith(MADE_UP):
        result["id"] = call_id
    if media:
        result["parts"] = media
    return {"functionResponse": result}


def _result_parts(content: Any, rules: MediaRules, param: str) -> tuple[str, list[Part]]:
    """The text of a tool's result, and its images, which go beside the response."""
    if content is None or isinstance(content, str):
        return content or "", []
    if not isinstance(content, list):
        raise InvalidRequest("A tool's result must be a string, or an array of parts.", param=param)
    texts, media = [], []
    for at, part in enumerate(content):
        where = f"{param}[{at}]"
        if isinstance(part, dict) and part.get("type") == "image_url":
            media.append(result_image(part.get("image_url"), rules, f"{where}.image_url"))
        else:
            texts.append(_text_of(part, where))
    return "".join(texts), media


def _response(content: str, *, failed: bool) -> Any:
    """An object stays itself, byte for byte; anything else is the `output`, or the `error`, of one."""
    if failed:
        return {"error": content}
    if content.lstrip().startswith("{"):
        try:
            if isinstance(orjson.loads(content), dict):
                return orjson.Fragment(content)
        except orjson.JSONDecodeError:
            pass  # text that begins with a brace
    return {"output": content}
