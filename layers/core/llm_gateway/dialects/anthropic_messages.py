"""The `anthropic_messages` dialect: Claude on Anthropic's API, on Amazon Bedrock and on Google's Vertex AI.

The body is the same everywhere; `quirks.envelope` says how it travels:

| envelope | path after the base URL | in the body | stream |
|---|---|---|---|
| native | /messages | model, stream | SSE; `anthropic-version` is a header |
| bedrock | /model/{id}/invoke, …/invoke-with-response-stream | anthropic_version, anthropic_beta | AWS event stream |
| vertex | /models/{id}:rawPredict, …:streamRawPredict | anthropic_version, stream | SSE |

API version 2023-06-01 is asked for and not 2026-10-21: the newer one takes a temperature for no model, and Bedrock
has it for Claude 4.7 and later only. Beta features: the header `anthropic-beta` of the provider's configuration, and
the field `anthropic_beta` of a request.
Sources: https://platform.claude.com/docs/en/api/messages/create, https://platform.claude.com/docs/en/api/versioning,
https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html,
https://platform.claude.com/docs/en/build-with-claude/claude-on-vertex-ai, https://platform.claude.com/docs/en/api/beta-headers
"""

import re
import time
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

import orjson

from llm_gateway.catalog.capabilities import capability
from llm_gateway.dialects.anthropic_answer import decode_answer
from llm_gateway.dialects.anthropic_errors import decode_anthropic_error
from llm_gateway.dialects.anthropic_request import encode_body
from llm_gateway.dialects.anthropic_stream import AnthropicStream
from llm_gateway.dialects.anthropic_usage import read_usage
from llm_gateway.dialects.dialect import DecodedAnswer, EncodedRequest, Endpoint, SplitEvents, members_of
from llm_gateway.dialects.moderations import no_moderations
from llm_gateway.dialects.unfit_requests import refuse_unfit
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamError
from llm_gateway.schemas.openai_chat import ModelRequest

VERSION = "2023-06-01"
BEDROCK_VERSION = "bedrock-2023-05-31"
VERTEX_VERSION = "vertex-2023-10-16"

_BETA_HEADER = "anthropic-beta"
_BETA = re.compile(r"[A-Za-z0-9_.\-]{1,128}")


class AnthropicMessages:
    """Stateless: one serves all requests. `now` gives Unix seconds."""

    name = "anthropic_messages"

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self._now = now

    def inputs_per_call(self, model: str, provider: Provider) -> int | None:
        return None

    def encode(self, endpoint: Endpoint, request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
        if endpoint == "moderations":
            raise no_moderations(provider)
        if endpoint != "chat.completions":
            raise InvalidRequest("Claude makes no embeddings.", param="model")
        envelope = provider.quirks.envelope
        facts = capability("anthropic", model.lower())
        refuse_unfit(request.fields, facts, model)
        body, warnings = encode_body(request.fields, facts, native=envelope == "native")
        betas = _betas(request.fields.get("anthropic_beta"))
        if envelope == "bedrock":
            return _for_bedrock(body, model, request.stream, betas + _configured_betas(provider), warnings)
        if request.stream:
            body = {"stream": True, **body}
        headers = _beta_header(betas, provider)
        if envelope == "vertex":
            method = "streamRawPredict" if request.stream else "rawPredict"
            path = f"/models/{quote(model, safe='@')}:{method}"
            return EncodedRequest(
                path, _json({"anthropic_version": VERTEX_VERSION, **body}), headers, "sse", tuple(warnings)
            )
        if not any(name.lower() == "anthropic-version" for name in provider.headers):
            headers["anthropic-version"] = VERSION
        return EncodedRequest("/messages", _json({"model": model, **body}), headers, "sse", tuple(warnings))

    def decode(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        model: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> DecodedAnswer:
        return decode_answer(body, int(self._now()))

    def told_usage(self, model: str, body: bytes) -> Usage | None:
        return read_usage(members_of(body).get("usage"))

    def translator(self, request: ModelRequest, model: str, split_events: SplitEvents) -> AnthropicStream:
        return AnthropicStream(include_usage=request.include_usage, created=int(self._now()), split_events=split_events)

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_anthropic_error(status, headers, body)


def _for_bedrock(
    body: Mapping[str, Any], model: str, stream: bool, betas: list[str], warnings: list[str]
) -> EncodedRequest:
    """`model` may be an ARN, hence the escapes."""
    head: dict[str, Any] = {"anthropic_version": BEDROCK_VERSION}
    if betas:
        head["anthropic_beta"] = list(dict.fromkeys(betas))
    path = f"/model/{quote(model, safe='')}/{'invoke-with-response-stream' if stream else 'invoke'}"
    return EncodedRequest(
        path, _json({**head, **body}), framing="aws_event_stream" if stream else "sse", warnings=tuple(warnings)
    )


def _betas(given: Any) -> list[str]:
    listed = [given] if isinstance(given, str) else given or []
    if not isinstance(listed, list) or not all(isinstance(beta, str) and _BETA.fullmatch(beta) for beta in listed):
        raise InvalidRequest("`anthropic_beta` must be an array of the names of beta features.", param="anthropic_beta")
    return listed


def _configured_betas(provider: Provider) -> list[str]:
    values = [value for name, value in provider.headers.items() if name.lower() == _BETA_HEADER]
    return [beta.strip() for value in values for beta in value.split(",") if beta.strip()]


def _beta_header(betas: list[str], provider: Provider) -> dict[str, str]:
    """The request's beta features with the configured ones, under the very name that is configured, to replace it."""
    if not betas:
        return {}
    name = next((name for name in provider.headers if name.lower() == _BETA_HEADER), _BETA_HEADER)
    return {name: ",".join(dict.fromkeys([*_configured_betas(provider), *betas]))}


def _json(body: Mapping[str, Any]) -> bytes:
    try:
        return orjson.dumps(body)
    except orjson.JSONEncodeError as error:  # a parser takes deeper nesting than the writer
        raise InvalidRequest(f"The request cannot be passed on: {error}.") from None
