"""Bodies that two parsers read differently: JSON objects in which a member's name comes more than once.

RFC 8259, section 4: "When the names within an object are not unique, the behavior of software that receives such an
object is unpredictable. Many implementations report the last name/value pair only." The gateway reads the last one; a
provider that reads the first would be asked for something else than what was reserved.
"""

import json
from typing import Any

from llm_gateway.errors import InvalidRequest

_LONGEST_SHOWN = 64


def refuse_duplicates(body: bytes) -> None:
    """Raises `InvalidRequest`, code `duplicate_member`, `param` the name, for a member that comes twice at any depth.

    `body` is JSON that has been parsed before. Names are compared as they are read, escapes resolved.
    """
    try:
        # Numbers are not looked at: as floats they have no limit to their digits, as `int` has.
        _DECODER.decode(body.decode())
    except RecursionError:
        raise InvalidRequest("The body of the request is nested too deep.", code="invalid_json") from None


def _check(members: list[tuple[str, Any]]) -> None:
    if len(dict(members)) == len(members):
        return
    seen: set[str] = set()
    for name, _ in members:
        if name in seen:
            raise _duplicate(name)
        seen.add(name)


def _duplicate(name: str) -> InvalidRequest:
    # The name is the caller's, and goes into a message and a log.
    shown = ascii(name)[1:-1][:_LONGEST_SHOWN]
    return InvalidRequest(
        f"`{shown}` is in an object of the body more than once: under a hard budget a provider must not read another "
        "value than the gateway did. Say it once.",
        param=shown,
        code="duplicate_member",
    )


_DECODER = json.JSONDecoder(object_pairs_hook=_check, parse_int=float)
