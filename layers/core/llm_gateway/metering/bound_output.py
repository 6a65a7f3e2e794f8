"""The most tokens that an answer can have, and what they can be billed as.

The caller's own maximum bounds them, where the provider holds all that it writes to it. Some things it does not: then
the longest answer of the model counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from llm_gateway.metering.bound_fields import unbounded
from llm_gateway.metering.bound_input import text_tokens

_IMAGES_UNPRICED = (
    "it writes images, and no price of theirs is known (an operator can give one as `image_output` under "
    '[prices."provider:model"])'
)
_LONGEST_UNKNOWN = (
    "it sets the request's own maximum aside, and the model's longest answer is not known (`max_output_tokens` in "
    "catalog/capabilities/limits.toml is where an operator says it)"
)


@dataclass(frozen=True, slots=True)
class Written:
    """What all answers of a request can come to."""

    tokens: int | None
    """None where the caller gave no maximum."""
    answers: int
    predicted_tokens: int
    kinds: frozenset[str]
    """`audio_output` where they may speak."""


def read_output(
    fields: Mapping[str, Any], facts: Mapping[str, Any], most: int | None, *, prices_images: bool, calls: bool
) -> Written:
    """The output of a chat completion. `facts` are the model's, of `limits.toml`, `most` its longest answer.

    `prices_images`: the answer's images have a price of their own; `calls`: the model may call tools. Raises
    `InvalidRequest`, code `unbounded_cost`.
    """
    answers = fields.get("n") or 1
    listed = _modalities(fields)
    given = [fields[name] for name in ("max_tokens", "max_completion_tokens") if fields.get(name) is not None]
    if 0 in given:
        raise unbounded("max_tokens", "some providers take 0 for no maximum")
    aside = _sets_maximum_aside(fields, facts, "image" in listed, prices_images=prices_images, calls=calls)
    if aside is not None:
        if most is None:
            raise unbounded(aside, _LONGEST_UNKNOWN)
        given.append(most)
    speaks = "audio" in listed or fields.get("audio") is not None
    return Written(
        # Both maxima may be there; which one counts is the provider's choice.
        max(given) * answers if given else None,
        answers,
        _predicted(fields) * answers,
        frozenset({"audio_output"} if speaks else ()),
    )


def _sets_maximum_aside(
    fields: Mapping[str, Any], facts: Mapping[str, Any], asks_images: bool, *, prices_images: bool, calls: bool
) -> str | None:
    """The field for which the caller's maximum does not hold; None where it does.

    A prediction sets it aside (https://platform.openai.com/docs/guides/predicted-outputs). An image is made whole
    whatever it is, and a model that can draw does so unasked. Some models hold only their text to it (`maximum_of`).
    """
    draws = "modalities" if asks_images else "model" if facts.get("writes_images") else None
    if draws is not None and not prices_images:
        raise unbounded(draws, _IMAGES_UNPRICED)
    if fields.get("prediction") is not None:
        return "prediction"
    maximum_of = facts.get("maximum_of")
    beyond = maximum_of == "text" or (maximum_of == "text_and_reasoning" and calls)
    return draws or ("model" if prices_images or beyond else None)


def _modalities(fields: Mapping[str, Any]) -> list[Any]:
    given = fields.get("modalities")
    return given if isinstance(given, list) else []


def _predicted(fields: Mapping[str, Any]) -> int:
    prediction = fields.get("prediction")
    content = prediction.get("content") if isinstance(prediction, dict) else prediction
    parts = content if isinstance(content, list) else [content]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    return sum(text_tokens(text) for text in texts if isinstance(text, str))
