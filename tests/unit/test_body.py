"""The bound of a request's body: what fits through Lambda's event, on a laptop too."""

from collections.abc import Iterable

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.types import Message, Receive

from llm_gateway.api.body import LARGEST_BODY, ClientGone, read_body, size_in_event
from llm_gateway.errors import BodyTooLarge, InvalidRequest


def receiving(parts: Iterable[bytes], *, leaves: bool = False) -> Receive:
    messages: list[Message] = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.disconnect"} if leaves else {"type": "http.request", "body": b""})

    async def receive() -> Message:
        return messages.pop(0)

    return receive


@given(st.text())
def test_size_in_event_is_that_of_a_json_string(text: str) -> None:
    text = "".join(character for character in text if character >= " " or character in "\n\r\t")
    text = text.encode("utf-8", "replace").decode()
    assert size_in_event(text.encode()) == len(orjson.dumps(text)) - 2


async def test_a_body_in_parts_is_put_together() -> None:
    assert await read_body(receiving([b"ab", b"", b"c"]), None) == b"abc"
    assert await read_body(receiving([]), "0") == b""


@pytest.mark.parametrize(
    ("parts", "declared"),
    [
        ([], str(LARGEST_BODY + 1)),
        ([b"x" * 1_000_000] * 7, None),
        ([b'"' * (LARGEST_BODY // 2 + 1)], None),
    ],
)
async def test_too_large_is_413(parts: list[bytes], declared: str | None) -> None:
    with pytest.raises(BodyTooLarge) as caught:
        await read_body(receiving(parts), declared)
    assert caught.value.http_status == 413


async def test_what_just_fits_is_read() -> None:
    body = b"x" * LARGEST_BODY
    assert len(await read_body(receiving([body]), str(len(body)))) == LARGEST_BODY


@pytest.mark.parametrize("declared", ["many", "-1", "1e3", ""])
async def test_a_broken_length_is_400(declared: str) -> None:
    with pytest.raises(InvalidRequest):
        await read_body(receiving([b"x"]), declared)


async def test_a_caller_who_leaves_while_sending() -> None:
    with pytest.raises(ClientGone):
        await read_body(receiving([b"x"], leaves=True), None)
