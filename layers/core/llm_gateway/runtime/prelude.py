"""Status and headers of an answer -> the metadata that stands before a streamed body: JSON, then eight NUL bytes.

`{"statusCode": 200, "headers": {name: value}, "multiValueHeaders": {name: [value, …]}, "cookies": ["a=1", …]}`

Source: https://docs.aws.amazon.com/apigateway/latest/developerguide/response-transfer-mode-lambda.html, which bounds it
too: API Gateway must find the delimiter in the first 16 KB. Function URLs know no `multiValueHeaders`.
"""

from collections.abc import Iterable

import orjson

DELIMITER = b"\x00" * 8
MAX_PRELUDE = 16 * 1024

# They belong to one connection (RFC 9110, section 7.6.1); API Gateway has its own with the caller.
_HOP_BY_HOP = frozenset(
    ("connection", "keep-alive", "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
)


class PreludeTooLarge(ValueError):
    """The headers do not fit where API Gateway looks for them."""


def encode_prelude(
    status: int, headers: Iterable[tuple[bytes, bytes]], *, multi_value: bool, has_body: bool = True
) -> bytes:
    """The metadata and its delimiter. `multi_value`: repeated headers as lists (REST API), else joined by commas.

    Raises `PreludeTooLarge`.
    """
    single: dict[str, str] = {}
    repeated: dict[str, list[str]] = {}
    cookies: list[str] = []
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        if name in _HOP_BY_HOP:
            continue
        if name == "set-cookie":
            cookies.append(value)
        elif name not in single:
            single[name] = value
        else:
            repeated.setdefault(name, [single[name]]).append(value)
    if has_body and "content-type" not in single:
        # As AWS's own runtimes do; else the front end would guess.
        single["content-type"] = "application/octet-stream"
    metadata: dict[str, object] = {"statusCode": status, "headers": single}
    if repeated and multi_value:
        metadata["multiValueHeaders"] = repeated
        for name in repeated:
            del single[name]
    elif repeated:
        single.update({name: ", ".join(values) for name, values in repeated.items()})
    if cookies:
        metadata["cookies"] = cookies
    prelude = orjson.dumps(metadata) + DELIMITER
    if len(prelude) > MAX_PRELUDE:
        raise PreludeTooLarge(f"the headers take {len(prelude)} bytes of {MAX_PRELUDE}")
    return prelude
