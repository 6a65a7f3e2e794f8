"""The echo provider's chat completions: what it says, and how that looks on OpenAI's wire.

What it says is decided once, in `answer`; the buffered body and the stream are two renderings of it.

- Text: `echo: ` and the text of the last user or tool message; an image part reads `[image]`, a file `[file]`.
- Tools: calls the first offered tool (or the one `tool_choice` names) if `tool_choice` is `required` or names one, and,
  left to choose (`auto`), if the last message is the user's and holds the word "call". Arguments are the smallest
  instance of the tool's schema. After a tool's result it answers with text again.
- `response_format`: `{"echo": text}` for `json_object`, the smallest instance of the schema for `json_schema`.
- Tokens: a word is a token. The prompt's are the words of all messages, an image is one; the answer's are its words,
  for a tool call those of its name and arguments. `max_tokens` and `stop` are respected, `n` repeats the answer.

Source of the wire: https://platform.openai.com/docs/api-reference/chat
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import orjson

from llm_gateway.upstream.echo_schema import make_instance

_WORD = re.compile(r"\s*\S+")
_CALL = re.compile(r"\bcall\b", re.IGNORECASE)
_ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function"))
_PARTS = {"text": "text", "refusal": "refusal"}
_PLACEHOLDERS = {"image_url": "[image]", "input_audio": "[audio]", "file": "[file]"}
_ARGUMENT_PIECE = 12
"""Characters of a tool call's arguments to a chunk."""
MAX_CHOICES = 128


class Refused(Exception):
    """A request OpenAI would answer with 400. `param` is the field's path."""

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param


@dataclass(frozen=True, slots=True)
class Call:
    """A call of a tool: a function with JSON `arguments`, or a custom tool with text."""

    kind: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Answer:
    """What the provider says, before it is put on the wire. `words` joined are the text."""

    words: tuple[str, ...]
    call: Call | None
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    choices: int
    logprobs: bool


@dataclass(frozen=True, slots=True)
class Envelope:
    """What every object of one answer repeats."""

    id: str
    created: int
    model: str


def answer(body: dict[str, Any]) -> Answer:
    """Decides what to say. Raises `Refused`."""
    messages = _check(body)
    texts = [_text_of(message) for message in messages]
    call = _choose_call(body, messages, texts)
    choices = body.get("n") or 1
    prompt = sum(len(_WORD.findall(text)) for text in texts)
    if call is not None:
        tokens = len(_WORD.findall(f"{call.name} {call.arguments}"))
        return Answer((), call, "tool_calls", prompt, tokens * choices, choices, logprobs=False)
    text, finish_reason = _stop_at(_compose(body, _last_heard(messages, texts)), body.get("stop"))
    words = tuple(_WORD.findall(text))
    limit = body.get("max_completion_tokens") or body.get("max_tokens")
    if limit is not None and len(words) > limit:
        words, finish_reason = words[:limit], "length"
    logprobs = body.get("logprobs") is True
    return Answer(words, None, finish_reason, prompt, len(words) * choices, choices, logprobs)


def usage(said: Answer) -> dict[str, Any]:
    return {
        "prompt_tokens": said.prompt_tokens,
        "completion_tokens": said.completion_tokens,
        "total_tokens": said.prompt_tokens + said.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def completion(said: Answer, envelope: Envelope, *, with_usage: bool = True) -> dict[str, Any]:
    """The body of a buffered answer: a `chat.completion`."""
    message: dict[str, Any] = {"role": "assistant", "content": "".join(said.words), "refusal": None}
    if said.call is not None:
        message |= {"content": None, "tool_calls": [_tool_call(said.call)]}
    choice = {"message": message, "logprobs": _logprobs(said.words, said), "finish_reason": said.finish_reason}
    if said.call is not None and said.choices > 1:
        choices = [
            {"index": index, **choice, "message": {**message, "tool_calls": [_tool_call(said.call, index)]}}
            for index in range(said.choices)
        ]
    else:
        choices = [{"index": index, **choice} for index in range(said.choices)]
    body = {**_head(envelope, "chat.completion"), "choices": choices}
    return {**body, "usage": usage(said)} if with_usage else body


def chunks(said: Answer, envelope: Envelope, *, with_usage: bool) -> Iterator[dict[str, Any]]:
    """The stream's `chat.completion.chunk`s, without `[DONE]`: role, word by word, finish, and usage if asked for."""
    head = _head(envelope, "chat.completion.chunk")
    tail: dict[str, Any] = {"usage": None} if with_usage else {}

    def chunk(
        index: int, delta: dict[str, Any], finish: str | None = None, words: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        choice = {"index": index, "delta": delta, "logprobs": _logprobs(words, said), "finish_reason": finish}
        return {**head, "choices": [choice], **tail}

    every = range(said.choices)
    if said.call is None:
        yield from (chunk(index, {"role": "assistant", "content": "", "refusal": None}) for index in every)
        for word in said.words:
            yield from (chunk(index, {"content": word}, words=(word,)) for index in every)
    else:
        yield from (chunk(index, {"role": "assistant", "content": None, "refusal": None}) for index in every)
        for piece in _call_pieces(said.call):
            for index in every:
                tool_call = {**piece, "id": _call_id(index)} if "type" in piece else piece
                yield chunk(index, {"tool_calls": [tool_call]})
    yield from (chunk(index, {}, said.finish_reason) for index in every)
    if with_usage:
        yield {**head, "choices": [], "usage": usage(said)}


# -- the request ---------------------------------------------------------------------------------------------------


def _check(body: dict[str, Any]) -> list[dict[str, Any]]:
    """The messages. Null counts as absent throughout: SDKs send the nulls of their models."""
    messages = body.get("messages")
    if messages is None:
        raise Refused("Missing required parameter: 'messages'.", "messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("Invalid 'messages': expected an array with at least one message.", "messages")
    for index, message in enumerate(messages):
        _check_message(message, f"messages[{index}]")
    _check_whole(body, "n", 1, MAX_CHOICES)
    _check_whole(body, "max_tokens", 1, None)
    _check_whole(body, "max_completion_tokens", 1, None)
    for name, low, high in (("temperature", 0, 2), ("top_p", 0, 1)):
        value = body.get(name)
        if value is not None and (
            isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high
        ):
            raise Refused(f"Invalid '{name}': expected a number between {low} and {high}.", name)
    if body.get("stream_options") is not None and not body.get("stream"):
        raise Refused("The 'stream_options' parameter is only allowed when 'stream' is enabled.", "stream_options")
    return messages


def _check_message(message: Any, at: str) -> None:
    if not isinstance(message, dict):
        raise Refused(f"Invalid type for '{at}': expected an object.", at)
    role, content = message.get("role"), message.get("content")
    if not isinstance(role, str) or role not in _ROLES:
        raise Refused(f"Invalid value: {role!r}. Supported values are: {', '.join(sorted(_ROLES))}.", f"{at}.role")
    if role == "tool" and not isinstance(message.get("tool_call_id"), str):
        raise Refused(f"Missing required parameter: '{at}.tool_call_id'.", f"{at}.tool_call_id")
    if content is None:
        if role != "assistant":
            raise Refused("Invalid value for 'content': expected a string, got null.", f"{at}.content")
    elif isinstance(content, list):
        for index, part in enumerate(content):
            kind = str(_object(part).get("type"))
            if kind not in _PARTS and kind not in _PLACEHOLDERS:
                raise Refused(f"Invalid value: {kind!r}.", f"{at}.content[{index}].type")
            if kind in _PARTS and not isinstance(part.get(_PARTS[kind]), str):
                raise Refused(f"Missing required parameter: '{at}.content[{index}].{kind}'.", f"{at}.content[{index}]")
            if kind == "image_url" and not isinstance(_object(part.get("image_url")).get("url"), str):
                raise Refused(f"Missing required parameter: '{at}.content[{index}].image_url.url'.", f"{at}.content")
    elif not isinstance(content, str):
        raise Refused(f"Invalid type for '{at}.content': expected a string or an array.", f"{at}.content")


def _check_whole(body: dict[str, Any], name: str, low: int, high: int | None) -> None:
    value = body.get(name)
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(f"Invalid type for '{name}': expected an integer.", name)
    if value < low or (high is not None and value > high):
        bound = f"at least {low}" if value < low else f"at most {high}"
        raise Refused(f"Invalid '{name}': expected {bound}, got {value}.", name)


def _text_of(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, str):
        return content
    texts = [
        part[_PARTS[part["type"]]] if part["type"] in _PARTS else _PLACEHOLDERS[part["type"]] for part in content or ()
    ]
    return " ".join(texts)


def _last_heard(messages: list[dict[str, Any]], texts: list[str]) -> str:
    heard = [text for message, text in zip(messages, texts, strict=True) if message["role"] in ("user", "tool")]
    return heard[-1] if heard else texts[-1]


def _compose(body: dict[str, Any], heard: str) -> str:
    wanted = _object(body.get("response_format"))
    kind = wanted.get("type")
    if kind == "json_object":
        return orjson.dumps({"echo": heard}).decode()
    if kind == "json_schema":
        format_ = wanted.get("json_schema")
        if not isinstance(format_, dict) or not isinstance(format_.get("schema"), dict):
            raise Refused("Missing required parameter: 'response_format.json_schema.schema'.", "response_format")
        return _dump(make_instance(format_["schema"]))
    return f"echo: {heard}"


def _stop_at(text: str, stop: Any) -> tuple[str, str]:
    stops = [stop] if isinstance(stop, str) else stop or []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise Refused("Invalid type for 'stop': expected a string or an array of strings.", "stop")
    for each in stops:
        if each:
            text = text.partition(each)[0]
    return text, "stop"


def _choose_call(body: dict[str, Any], messages: list[dict[str, Any]], texts: list[str]) -> Call | None:
    tools = body.get("tools") or []
    choice = body.get("tool_choice")
    if not tools and isinstance(choice, dict | str) and choice not in ("none", "auto"):
        raise Refused("'tool_choice' is only allowed when 'tools' are specified.", "tool_choice")
    if not isinstance(tools, list) or not tools or choice == "none":
        return None
    by_name = {}
    for index, tool in enumerate(tools):
        kind = str(_object(tool).get("type"))
        inner = _object(_object(tool).get(kind))
        if not isinstance(inner.get("name"), str):
            raise Refused(f"Missing required parameter: 'tools[{index}].function.name'.", f"tools[{index}]")
        by_name[inner["name"]] = (kind, inner)
    forced = choice == "required"
    name = next(iter(by_name))
    if isinstance(choice, dict):
        forced, name = _named_choice(choice)
        if name not in by_name:
            raise Refused(f"Tool choice '{name}' not found in 'tools' parameter.", "tool_choice")
    asked = messages[-1]["role"] == "user" and _CALL.search(texts[-1]) is not None
    if not forced and not asked:
        return None
    kind, inner = by_name[name]
    if kind == "custom":
        return Call("custom", name, texts[-1])
    return Call("function", name, _dump(make_instance({"type": "object", **_object(inner.get("parameters"))})))


def _named_choice(choice: dict[str, Any]) -> tuple[bool, str]:
    """Whether a call is a must, and of which tool."""
    allowed = _object(choice.get("allowed_tools"))
    if not allowed:
        return True, str(_object(choice.get(str(choice.get("type")))).get("name"))
    tools = allowed.get("tools")
    first = _object(tools[0]) if isinstance(tools, list) and tools else {}
    return allowed.get("mode") == "required", str(_object(first.get(str(first.get("type")))).get("name"))


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _dump(value: Any) -> str:
    return orjson.dumps(value).decode()


# -- the wire ------------------------------------------------------------------------------------------------------


def _head(envelope: Envelope, kind: str) -> dict[str, Any]:
    return {
        "id": envelope.id,
        "object": kind,
        "created": envelope.created,
        "model": envelope.model,
        "system_fingerprint": "fp_echo",
    }


def _call_id(index: int) -> str:
    return f"call_echo_{index}"


def _tool_call(call: Call, index: int = 0) -> dict[str, Any]:
    inner = {"name": call.name, "arguments" if call.kind == "function" else "input": call.arguments}
    return {"id": _call_id(index), "type": call.kind, call.kind: inner}


def _call_pieces(call: Call) -> Iterator[dict[str, Any]]:
    """The deltas of one call: first its name, then its arguments bit by bit. Ids are the choice's."""
    key = "arguments" if call.kind == "function" else "input"
    yield {"index": 0, "type": call.kind, call.kind: {"name": call.name, key: ""}}
    for start in range(0, len(call.arguments), _ARGUMENT_PIECE):
        yield {"index": 0, call.kind: {key: call.arguments[start : start + _ARGUMENT_PIECE]}}


def _logprobs(words: tuple[str, ...], said: Answer) -> dict[str, Any] | None:
    if not said.logprobs:
        return None
    content = [{"token": word, "logprob": 0.0, "bytes": list(word.encode()), "top_logprobs": []} for word in words]
    return {"content": content, "refusal": None}
