"""Tags: a caller's own words on a request, kept in its ledger entry and totalled. One rule, whoever says them."""

import re
from collections.abc import Mapping
from typing import Any, Final

from llm_gateway.errors import InvalidRequest

_NAME: Final = re.compile(r"[a-z0-9_-]{1,64}\Z")
_MOST: Final = 16
_LONGEST: Final = 256


def checked_tags(given: Mapping[Any, Any], spelled: str) -> dict[str, str]:
    """The tags by name. Raises `InvalidRequest`; `param` is `spelled` (`x-gateway-tag-`, `tags.`) and the name."""
    if len(given) > _MOST:
        raise InvalidRequest(f"A request may have {_MOST} tags (`{spelled}*`), not {len(given)}.")
    tags: dict[str, str] = {}
    for name, value in given.items():
        param = f"{spelled}{name}"
        if not isinstance(name, str) or not _NAME.match(name):
            raise InvalidRequest("A tag's name must be 1 to 64 of the characters a-z, 0-9, - and _.", param=param)
        if not isinstance(value, str) or not 0 < len(value) <= _LONGEST or not value.isprintable():
            raise InvalidRequest(f"A tag's value must be 1 to {_LONGEST} printable characters (UTF-8).", param=param)
        tags[name] = value
    return tags
