"""Specifies the echo provider's embeddings: the words alone make the vector, and the `openai` SDK can parse it."""

import base64
import math
import struct
from typing import Any

import orjson
import pytest
from openai.types import CreateEmbeddingResponse

from tests.unit.echo_calls import call, refusal


class TestEmbeddings:
    async def embed(self, **fields: Any) -> CreateEmbeddingResponse:
        response = await call("/embeddings", {"model": "echo", "encoding_format": "float"} | fields)
        return CreateEmbeddingResponse.model_validate_json(await response.read(1 << 22), strict=True)

    async def test_unit_vectors_that_depend_on_the_words_alone(self) -> None:
        answer = await self.embed(
            input=["the cat sat", "The cat  sat", "a cat sat", "stock prices fell"], dimensions=512
        )
        first, same, near, far = [row.embedding for row in answer.data]
        assert len(first) == 512
        assert math.isclose(math.sqrt(sum(x * x for x in first)), 1, rel_tol=1e-5)
        assert first == same

        def cosine(a: list[float], b: list[float]) -> float:
            return sum(x * y for x, y in zip(a, b, strict=True))

        assert cosine(first, near) > 0.5
        assert abs(cosine(first, far)) < 0.2
        assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (12, 12)

    async def test_base64_is_the_same_vector(self) -> None:
        plain = (await self.embed(input="hello")).data[0].embedding
        body = {"model": "echo", "input": "hello", "encoding_format": "base64"}
        row = orjson.loads(await (await call("/embeddings", body)).read(1 << 20))["data"][0]
        assert list(struct.unpack("<256f", base64.b64decode(row["embedding"]))) == plain

    @pytest.mark.parametrize(
        ("given", "count", "tokens"),
        [("a b", 1, 2), (["a", "b c"], 2, 3), ([1, 2, 3], 1, 3), ([[1, 2], [3]], 2, 3), (" ", 1, 1)],
    )
    async def test_inputs(self, given: Any, count: int, tokens: int) -> None:
        answer = await self.embed(input=given, dimensions=None, user="x")
        assert [row.index for row in answer.data] == list(range(count))
        assert answer.usage.prompt_tokens == tokens

    @pytest.mark.parametrize(
        ("fields", "param"),
        [({}, "input"), ({"input": ""}, "input[0]"), ({"input": []}, "input"), ({"input": ["a", ""]}, "input[1]"),
         ({"input": 5}, "input"), ({"input": "a", "dimensions": 0}, "dimensions"),
         ({"input": "a", "dimensions": 10**6}, "dimensions"),
         ({"input": "a", "encoding_format": "x"}, "encoding_format")],
    )  # fmt: skip
    async def test_refusals(self, fields: dict[str, Any], param: str) -> None:
        assert (await refusal({"model": "echo"} | fields, "/embeddings"))["param"] == param
