"""What a model is known not to take, refused before the provider would: `takes_no` of the capability files.

Nothing is refused of a model that nothing is said of, nor what its provider would accept: it judges everything else.
"""

from collections.abc import Mapping
from typing import Any

from llm_gateway.errors import InvalidRequest

_KINDS = {"image_url": "images", "file": "documents", "input_audio": "audio", "video_url": "video"}
"""Content parts of Chat Completions, as `takes_no` names what is in them."""


def refuse_unfit(fields: Mapping[str, Any], facts: Mapping[str, Any], model: str) -> None:
    """Raises `InvalidRequest`, with the `param` at fault.

    `takes_no`: images, documents, audio, video, tools, `images in tool results` (there alone).
    """
    lacks = facts.get("takes_no")
    if not lacks:
        return
    # With the choice `none` no tool goes up.
    if "tools" in lacks and fields.get("tools") and fields.get("tool_choice") != "none":
        raise InvalidRequest(f"The model `{model}` takes no tools.", param="tools", code="unsupported_parameter")
    for at, message in enumerate(fields["messages"]):
        content = message.get("content")
        for index, part in enumerate(content if isinstance(content, list) else ()):
            kind = _KINDS.get(str(part.get("type"))) if isinstance(part, dict) else None
            if message["role"] == "tool" and f"{kind} in tool results" in lacks:
                kind = f"{kind} in tool results"
            if kind in lacks:
                raise InvalidRequest(
                    f"The model `{model}` takes no {kind}.",
                    param=f"messages[{at}].content[{index}]",
                    code="unsupported_content",
                )
