"""The control plane's documents: times in RFC 3339, ETags, tables as JSON."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from llm_gateway.domain.revisions import StoredEntry


def shown_time(at: float | None) -> str | None:
    """Unix seconds as `2026-11-21T17:00:00Z`."""
    if at is None:
        return None
    return datetime.fromtimestamp(int(at), UTC).isoformat().replace("+00:00", "Z")


def as_json(value: Any) -> Any:
    """A table of a file as JSON has it."""
    if isinstance(value, Mapping):
        return {name: as_json(inner) for name, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [as_json(inner) for inner in value]
    if isinstance(value, datetime):
        return shown_time(value.timestamp())
    if isinstance(value, float):
        return float(value)
    return value


def stamps(entries: Iterable[StoredEntry | None]) -> dict[str, str | None]:
    """When the first of them was made, and the last one changed."""
    there = [entry for entry in entries if entry is not None]
    made = [entry.created_at for entry in there if entry.created_at is not None]
    changed = [entry.updated_at for entry in there if entry.updated_at is not None]
    return {"created_at": shown_time(min(made, default=None)), "updated_at": shown_time(max(changed, default=None))}


def etag_of(entries: Iterable[StoredEntry | None], otherwise: Any = None) -> str:
    """A strong ETag of what these entries make together; of `otherwise` where there is none of them."""
    parts = sorted(entry.etag for entry in entries if entry is not None)
    source = json.dumps(parts or otherwise, sort_keys=True, default=str)
    return f'"{hashlib.sha256(source.encode()).hexdigest()[:20]}"'


def merged(target: Any, patch: Any) -> Any:
    """RFC 7396: null removes, objects are merged, all else replaces.

    >>> merged({"a": {"b": 1, "c": 2}, "d": 3}, {"a": {"b": None}, "d": [4]})
    {'a': {'c': 2}, 'd': [4]}
    """
    if not isinstance(patch, Mapping):
        return patch
    result = dict(target) if isinstance(target, Mapping) else {}
    for name, value in patch.items():
        if value is None:
            result.pop(name, None)
        else:
            result[name] = merged(result.get(name), value)
    return result
