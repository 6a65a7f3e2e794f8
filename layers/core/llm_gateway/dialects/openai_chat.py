"""Chat Completions and embeddings, as OpenAI and everyone compatible speaks them; `moderations` beside it is the third.

The caller's wire is the provider's, so bytes pass through both ways. The only edits are the model's name,
`stream_options.include_usage` and the vendor's quirks on the way up, and the usage chunk that a caller did not ask for
on the way down.
Sources: https://platform.openai.com/docs/api-reference/chat, https://platform.openai.com/docs/api-reference/chat-streaming,
https://platform.openai.com/docs/api-reference/embeddings
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import orjson

from llm_gateway.dialects.dialect import DecodedAnswer, EncodedRequest, Endpoint, SplitEvents, members_of
from llm_gateway.dialects.openai_chat_stream import OpenAIStream, written_in
from llm_gateway.dialects.openai_errors import decode_openai_error, error_inside
from llm_gateway.dialects.openai_quirks import adapt
from llm_gateway.dialects.openai_usage import read_usage
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamCut, UpstreamError, UpstreamMalformed
from llm_gateway.schemas.json_splice import (
    add_member,
    remove_member,
    set_member,
    set_string_member,
    value_of,
)
from llm_gateway.schemas.json_text import parse_json
from llm_gateway.schemas.openai_chat import ModelRequest

_PATHS: dict[Endpoint, str] = {"chat.completions": "/chat/completions", "embeddings": "/embeddings"}
_ASK_FOR_USAGE = b'{"include_usage":true}'


class OpenAIChat:
    """The `openai_chat` dialect. Stateless: one serves all requests."""

    name = "openai_chat"

    def inputs_per_call(self, model: str, provider: Provider) -> int | None:
        return None

    def encode(self, endpoint: Endpoint, request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
        if endpoint == "moderations":
            from llm_gateway.dialects.moderations import encode_moderation  # noqa: PLC0415 - few processes need it

            return encode_moderation(request, model, provider)
        body = request.body
        if request.fields.get("model") is None:
            body = set_member(body, "model", orjson.dumps(model))
        elif request.fields["model"] != model or body.count(b'"model"') > 1:
            body = set_string_member(body, "model", model)
        untold: tuple[str, ...] = ()
        if provider.quirks.stream_usage != "ask":
            if "stream_options" in request.fields:
                body = remove_member(body, "stream_options")  # these vendors refuse what they do not know
            if request.include_usage and provider.quirks.stream_usage == "never":
                untold = (f"stream_options is not supported by {provider.name} and was left out",)
        elif request.stream and not request.include_usage:
            body = _ask_for_usage(body, request.fields)
        body, warnings = adapt(body, request.fields, provider)
        path = _PATHS[endpoint]
        if provider.quirks.model_in_path:
            path = f"/openai/deployments/{quote(model, safe='')}{path}"
        return EncodedRequest(path, body, warnings=untold + warnings)

    def decode(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        model: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> DecodedAnswer:
        if endpoint == "moderations":
            from llm_gateway.dialects.moderations import decode_moderation  # noqa: PLC0415 - as above

            return decode_moderation(body)
        try:
            answer = parse_json(body)
        except orjson.JSONDecodeError:
            raise UpstreamMalformed("The provider's answer is not JSON.") from None
        if not isinstance(answer, dict):
            raise UpstreamMalformed("The provider's answer is not a JSON object.")
        if inside := error_inside(answer):
            raise inside
        answered = answer.get("model")
        usage = read_usage(answer.get("usage"), answer.get("service_tier"))
        listed = answer.get("choices" if endpoint == "chat.completions" else "data")
        if not isinstance(listed, list) or not listed or not all(isinstance(item, dict) for item in listed):
            raise UpstreamMalformed("The provider's answer holds no result.")
        finish_reason = None
        if endpoint == "chat.completions":
            finish_reason = _finish_reason(listed)
        return DecodedAnswer(
            body, answered if isinstance(answered, str) else None, finish_reason, usage, lambda: _written(listed)
        )

    def told_usage(self, model: str, body: bytes) -> Usage | None:
        answer = members_of(body)
        return read_usage(answer.get("usage"), answer.get("service_tier"))

    def translator(self, request: ModelRequest, model: str, split_events: SplitEvents) -> OpenAIStream:
        return OpenAIStream(
            hide_usage=not request.include_usage, choices=request.fields.get("n") or 1, split_events=split_events
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_openai_error(status, headers, body)


def _ask_for_usage(body: bytes, fields: Mapping[str, Any]) -> bytes:
    if "stream_options" not in fields:
        return add_member(body, "stream_options", _ASK_FOR_USAGE)
    options = value_of(body, "stream_options")
    if options is None or not fields["stream_options"]:
        return set_member(body, "stream_options", _ASK_FOR_USAGE)
    return set_member(body, "stream_options", set_member(options, "include_usage", b"true"))


def _finish_reason(choices: list[dict[str, Any]]) -> str | None:
    """The first choice's reason. A choice that holds an error of its own (OpenRouter) is the provider's error."""
    for choice in choices:
        if inside := error_inside(choice):
            raise inside
        if not isinstance(choice.get("message"), dict):
            raise UpstreamMalformed("A choice of the provider's answer has no message.")
        if choice.get("finish_reason", "") is None:
            # Some vendors have no reasons at all; one that has says null of what is not whole.
            raise UpstreamCut("The provider's answer says that it is not finished.")
    reason = choices[0].get("finish_reason")
    return reason if isinstance(reason, str) else None


def _written(listed: list[dict[str, Any]]) -> str:
    parts: list[str] = []
    for item in listed:
        message = item.get("message")
        if isinstance(message, dict):
            parts.extend(written_in(message))
    return "".join(parts)
