"""Query strings, read strictly: what is not understood is refused."""

from urllib.parse import parse_qsl

from llm_gateway.admin.route_table import Route
from llm_gateway.errors import InvalidRequest

_LONGEST_VALUE = 1024


def read_query(query: bytes, route: Route) -> dict[str, str]:
    """Raises `InvalidRequest`, with the parameter at fault as `param`."""
    known = (*route.filters, *(("limit", "next") if route.paged else ()))
    try:
        pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=50)
    except ValueError:
        raise InvalidRequest("The query string is not valid: it is UTF-8, percent-encoded.") from None
    found: dict[str, str] = {}
    for name, value in pairs:
        if name not in known:
            there = f"there are {', '.join(known)}" if known else "there are none"
            raise InvalidRequest(f"There is no parameter `{name[:256]}` here: {there}.", param=name[:256])
        if not 0 < len(value) <= _LONGEST_VALUE and name != "next":
            raise InvalidRequest(f"`{name}` is empty or too long.", param=name)
        if name in found:
            raise InvalidRequest(f"`{name}` is given twice.", param=name)
        found[name] = value
    return found
