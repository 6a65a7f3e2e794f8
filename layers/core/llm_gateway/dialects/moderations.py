"""Moderation: OpenAI's wire, and Mistral's, which is put into OpenAI's shape.

A request is `{input, model}`. OpenAI's `input` is a text, texts, or the parts of one (`text`, `image_url`). Mistral's
is a text or texts, and at `/chat/moderations` a conversation (messages with a `role`) whose last turn is judged.
Both answer `{id, model, results: [{categories, category_scores}]}`; OpenAI's results also say `flagged` and
`category_applied_input_types`. Mistral's become `flagged` where any of its categories is true, and have its verdicts
under its own names and, where OpenAI has a category of that meaning, under OpenAI's too. What Mistral does not judge is
absent.

Sources: https://platform.openai.com/docs/api-reference/moderations, https://docs.mistral.ai/capabilities/guardrailing
(both endpoints, the names of 2411 and 2603) and https://docs.mistral.ai/api/#tag/classifiers (`model` and `input`)
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import orjson

from llm_gateway.dialects.dialect import DecodedAnswer, EncodedRequest
from llm_gateway.dialects.openai_errors import error_inside
from llm_gateway.dialects.openai_usage import read_usage
from llm_gateway.domain.catalog import Provider
from llm_gateway.domain.usage import Usage
from llm_gateway.errors import InvalidRequest, UpstreamMalformed
from llm_gateway.schemas.json_splice import set_member, set_string_member
from llm_gateway.schemas.openai_chat import ModelRequest

DEFAULT_MODELS: Final = {"openai": "omni-moderation-latest", "mistral": "mistral-moderation-latest"}
"""By wire: what is asked where a caller names no model."""

_OPENAI_NAMES: Final = {
    "hate_and_discrimination": "hate",
    "violence_and_threats": "violence",
    "selfharm": "self-harm",
    "criminal": "illicit",
    "dangerous_and_criminal_content": "illicit",
}
"""Mistral's categories that OpenAI has under another name; `sexual` is called so by both."""


def no_moderations(provider: Provider) -> InvalidRequest:
    return InvalidRequest(
        f"Provider `{provider.name}` has no moderations. Use a model of one that has, such as"
        " `openai:omni-moderation-latest` or `mistral:mistral-moderation-latest`.",
        param="model",
    )


def encode_moderation(request: ModelRequest, model: str, provider: Provider) -> EncodedRequest:
    """Raises `InvalidRequest` where the provider has no moderations, or none of images."""
    wire = provider.quirks.moderations
    if wire is None:
        raise no_moderations(provider)
    body = request.body
    if request.fields.get("model") is None:
        body = set_member(body, "model", orjson.dumps(model))
    elif request.fields["model"] != model or body.count(b'"model"') > 1:
        body = set_string_member(body, "model", model)
    given = request.fields["input"]
    if wire == "openai" or isinstance(given, str) or all(isinstance(each, str) for each in given):
        return EncodedRequest("/moderations", body)
    if _is_conversation(given):
        return EncodedRequest("/chat/moderations", body)
    return EncodedRequest("/moderations", set_member(body, "input", orjson.dumps(_one_text(given))))


def decode_moderation(body: bytes) -> DecodedAnswer:
    """The answer in OpenAI's shape; OpenAI's own is not changed by a byte.

    Raises `UpstreamMalformed` for what is no verdict: one that is missing is never taken for "not flagged".
    """
    answer = _parsed(body)
    results = answer.get("results")
    if not isinstance(results, list) or not results or not all(isinstance(each, dict) for each in results):
        raise UpstreamMalformed("The provider's answer holds no result.")
    if not all(isinstance(each.get("flagged"), bool) for each in results):
        body = orjson.dumps({**answer, "results": [_flagged(each) for each in results]})
    model = answer.get("model")
    return DecodedAnswer(body, model if isinstance(model, str) else None, None, _usage(answer.get("usage")), lambda: "")


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise UpstreamMalformed("The provider's answer is not JSON.") from None
    if not isinstance(answer, dict):
        raise UpstreamMalformed("The provider's answer is not a JSON object.")
    if inside := error_inside(answer):
        raise inside
    return answer


def _is_conversation(given: Sequence[Any]) -> bool:
    """Messages, or several lists of them."""
    flat = [each for item in given for each in (item if isinstance(item, list) else (item,))]
    return bool(flat) and all(isinstance(each, dict) and "role" in each for each in flat)


def _one_text(parts: Sequence[Any]) -> str:
    """OpenAI's parts are one input together; Mistral takes it as one text."""
    texts = []
    for index, part in enumerate(parts):
        text = part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None
        if not isinstance(text, str):
            raise InvalidRequest("Mistral moderates text only.", param=f"input[{index}]")
        texts.append(text)
    return "\n".join(texts)


def _flagged(result: Mapping[str, Any]) -> dict[str, Any]:
    categories = result.get("categories")
    if not isinstance(categories, dict) or not categories:
        raise UpstreamMalformed("A result of the provider's answer holds no verdict.")
    if not all(isinstance(verdict, bool) for verdict in categories.values()):
        raise UpstreamMalformed("A verdict of the provider's answer is neither true nor false.")
    made = {**result, "flagged": any(categories.values()), "categories": _with_openai_names(categories)}
    if isinstance(scores := result.get("category_scores"), dict):
        made["category_scores"] = _with_openai_names(scores)
    return made


def _with_openai_names(verdicts: Mapping[str, Any]) -> dict[str, Any]:
    known = {_OPENAI_NAMES[name]: verdict for name, verdict in verdicts.items() if name in _OPENAI_NAMES}
    return {**known, **verdicts}


def _usage(counts: Any) -> Usage | None:
    """Mistral's `total_tokens` counts its classifier's own prompt too, which is nobody's output."""
    if not isinstance(counts, dict):
        return None
    return read_usage({name: counts.get(name) for name in ("prompt_tokens", "completion_tokens")})
