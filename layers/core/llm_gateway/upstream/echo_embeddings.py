"""The echo provider's embeddings: unit vectors made from a hash of each word, so that texts that share words are near.

Source of the wire: https://platform.openai.com/docs/api-reference/embeddings
"""

import base64
import hashlib
import math
import sys
from array import array
from typing import Any

from llm_gateway.upstream.echo_chat import Refused

DIMENSIONS = 256
"""Where the request does not say."""
MAX_DIMENSIONS = 4096
MAX_INPUTS = 2048


def embeddings(body: dict[str, Any]) -> dict[str, Any]:
    """The answer's body. `usage` counts words, or the tokens where the input is given as tokens. Raises `Refused`."""
    words = [_words(each, at) for at, each in enumerate(_inputs(body.get("input")))]
    dimensions = body.get("dimensions")
    dimensions = DIMENSIONS if dimensions is None else dimensions
    if isinstance(dimensions, bool) or not isinstance(dimensions, int) or not 1 <= dimensions <= MAX_DIMENSIONS:
        raise Refused(f"Invalid 'dimensions': expected an integer from 1 to {MAX_DIMENSIONS}.", "dimensions")
    wanted = body.get("encoding_format") or "float"
    if wanted not in ("float", "base64"):
        raise Refused("Invalid 'encoding_format': expected 'float' or 'base64'.", "encoding_format")
    data = []
    for index, each in enumerate(words):
        vector = _vector(each, dimensions)
        encoded = _base64(vector) if wanted == "base64" else vector.tolist()
        data.append({"object": "embedding", "index": index, "embedding": encoded})
    tokens = sum(map(len, words))
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return {"object": "list", "data": data, "model": body["model"], "usage": usage}


def _inputs(given: Any) -> list[Any]:
    """One text, several, one list of tokens, or several."""
    if given is None:
        raise Refused("Missing required parameter: 'input'.", "input")
    if isinstance(given, str):
        given = [given]
    if not isinstance(given, list) or not 1 <= len(given) <= MAX_INPUTS:
        raise Refused(f"Invalid 'input': expected a string or an array of 1 to {MAX_INPUTS}.", "input")
    return [given] if all(isinstance(each, int) for each in given) else given


def _words(given: Any, at: int) -> list[str]:
    if isinstance(given, str) and given:
        return given.split() or [given]
    if isinstance(given, list) and given and all(isinstance(each, int) for each in given):
        return [str(each) for each in given]
    raise Refused("Invalid 'input': expected texts that are not empty, or arrays of tokens.", f"input[{at}]")


def _vector(words: list[str], dimensions: int) -> "array[float]":
    """The normalised sum of the words' own vectors, as 32-bit floats."""
    total = [0.0] * dimensions
    for word in words:
        numbers = array("h", hashlib.shake_256(word.lower().encode("utf-8", "surrogatepass")).digest(2 * dimensions))
        if sys.byteorder == "big":
            numbers.byteswap()
        total = [held + number for held, number in zip(total, numbers, strict=True)]
    length = math.sqrt(math.fsum(each * each for each in total)) or 1.0
    return array("f", [each / length for each in total])


def _base64(vector: "array[float]") -> str:
    """Little-endian 32-bit floats, as OpenAI's SDKs decode them."""
    if sys.byteorder == "big":
        vector = array("f", vector)
        vector.byteswap()
    return base64.b64encode(vector.tobytes()).decode()
