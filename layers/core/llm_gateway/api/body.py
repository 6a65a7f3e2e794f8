"""The request's body, bounded by what fits through Lambda, so that a laptop refuses what the deployment would.

A Lambda event may hold 6 MB: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html.
The body travels in it as a JSON string, in which quotes, backslashes and line breaks take two bytes.
"""

from starlette.types import Message, Receive

from llm_gateway.errors import BodyTooLarge, GatewayError, InvalidRequest

LARGEST_EVENT = 6 * 1024 * 1024
ROOM_FOR_THE_REST = 64 * 1024
"""What headers and the request's context take of an event."""
LARGEST_BODY = LARGEST_EVENT - ROOM_FOR_THE_REST


class ClientGone(GatewayError):
    """The caller left while sending; nobody will read this."""

    status = 499
    code = "client_disconnected"


async def read_body(receive: Receive, declared: str | None) -> bytes:
    """Raises `BodyTooLarge` as soon as that is known, `InvalidRequest` for a broken Content-Length, `ClientGone`."""
    if declared is not None:
        if not declared.isdecimal():
            raise InvalidRequest("The Content-Length header is not a number.")
        if int(declared) > LARGEST_BODY:
            raise _too_large()
    parts: list[bytes] = []
    size = 0
    while True:
        message: Message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGone("The caller left before its request was complete.")
        part = message.get("body", b"")
        size += len(part)
        if size > LARGEST_BODY:
            raise _too_large()
        parts.append(part)
        if not message.get("more_body", False):
            break
    body = parts[0] if len(parts) == 1 else b"".join(parts)
    if size * 2 > LARGEST_BODY and size_in_event(body) > LARGEST_BODY:
        raise _too_large()
    return body


def size_in_event(body: bytes) -> int:
    """Bytes that the body takes as a JSON string."""
    return len(body) + sum(body.count(character) for character in (b'"', b"\\", b"\n", b"\r", b"\t"))


def _too_large() -> BodyTooLarge:
    return BodyTooLarge(
        f"The request is too large: its body may take {LARGEST_BODY} bytes, counted as a JSON string"
        " (a quote takes two)."
    )
