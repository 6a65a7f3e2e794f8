"""The `bedrock_converse` dialect: Converse, ConverseStream, and InvokeModel for embeddings.

`{base}/model/{id}/converse[-stream]`, where the id may be a model's, an inference profile's or an ARN, escaped.
Sources: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_ConverseStream.html,
https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_InvokeModel.html
"""

import time
import uuid
from collections.abc import Callable, Mapping
from urllib.parse import quote

from llm_gateway.dialects.bedrock_answer import decode_converse
from llm_gateway.dialects.bedrock_embeddings import decode_embeddings, encode_embeddings, inputs_per_call
from llm_gateway.dialects.bedrock_errors import decode_bedrock_error
from llm_gateway.dialects.bedrock_request import encode_converse
from llm_gateway.dialects.bedrock_stream import BedrockStream
from llm_gateway.dialects.bedrock_usage import read_converse_usage
from llm_gateway.dialects.dialect import DecodedAnswer, EncodedRequest, Endpoint, SplitEvents, members_of
from llm_gateway.dialects.moderations import no_moderations
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import UpstreamError
from llm_gateway.schemas.openai_chat import ModelRequest


def _new_id() -> str:
    return f"chatcmpl-{uuid.uuid4().hex}"


class BedrockConverse:
    """Stateless: one serves all requests. `new_id` and `now` (Unix seconds) make what Converse does not tell."""

    name = "bedrock_converse"

    def __init__(self, new_id: Callable[[], str] = _new_id, now: Callable[[], float] = time.time) -> None:
        self._new_id = new_id
        self._now = now

    def inputs_per_call(self, model: str, provider: Provider) -> int | None:
        return inputs_per_call(model)

    def encode(self, endpoint: Endpoint, request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
        if endpoint == "moderations":
            raise no_moderations(provider)
        path = f"/model/{quote(model, safe='')}"
        if endpoint == "embeddings":
            return EncodedRequest(f"{path}/invoke", encode_embeddings(request.fields, model))
        body, warnings = encode_converse(request.fields, model)
        if request.stream:
            return EncodedRequest(f"{path}/converse-stream", body, framing="aws_event_stream", warnings=warnings)
        return EncodedRequest(f"{path}/converse", body, warnings=warnings)

    def decode(
        self,
        endpoint: Endpoint,
        request: ModelRequest,
        model: str,
        body: bytes,
        headers: Mapping[str, str] | None = None,
    ) -> DecodedAnswer:
        """`headers` (names in lower case) are optional: Cohere's embeddings are counted there alone."""
        if endpoint == "embeddings":
            return decode_embeddings(request.fields, model, body, headers)
        return decode_converse(body, model, self._new_id(), int(self._now()))

    def told_usage(self, model: str, body: bytes) -> Usage | None:
        answer = members_of(body)
        return read_converse_usage(answer.get("usage"), answer.get("serviceTier"))

    def translator(self, request: ModelRequest, model: str, split_events: SplitEvents) -> BedrockStream:
        return BedrockStream(
            model,
            include_usage=request.include_usage,
            split_events=split_events,
            answer_id=self._new_id(),
            created=int(self._now()),
        )

    def decode_error(self, status: int, headers: Mapping[str, str], body: bytes) -> UpstreamError:
        return decode_bedrock_error(status, headers, body)
