"""What a secret is called, and what its text may be.

A text is a key, or JSON with several: `{"keys": [{"key": "sk-…", "weight": 3, "name": "a"}, "sk-…"]}`. `weight` (1
to 1000, default 1) is a key's share of the calls, `name` what the ledger calls it (default: its place, from 1). A key
that is itself JSON, a Google service account, is one key: as the whole text, or as an object under `key`.
Everything else that looks like JSON is a mistake, and is not sent to a provider as if it were a key.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from llm_gateway.domain.catalog import Provider

HEAVIEST: Final = 1000
_MOST_KEYS: Final = 100
_LONGEST_KEY_NAME: Final = 40
_LONGEST_SECRET_NAME: Final = 512
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.@-")
_MEMBERS: Final = frozenset({"key", "weight", "name"})


class UnreadableKeys(ValueError):
    """A text that says it holds several keys and does not. Never quotes any of it."""


@dataclass(frozen=True, slots=True)
class KeyText:
    text: str = field(repr=False)
    name: str | None = None
    weight: int = 1


def system_secret_name(stack: str, provider: Provider) -> str:
    return f"{stack}/provider/{provider.secret or provider.name}"


def team_secret_name(stack: str, team: str, secret: str) -> str | None:
    """`<stack>/team/<team>/<secret>`; None where it would be longer than a secret's name can be.

    `secret` is what the provider's is called. A team's name is any text, a secret's is letters, digits and `/_+=.@-`
    (https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_CreateSecret.html, `Name`). Everything else, and
    `/`, with which one team's name would reach into another's, becomes `=` and two hexadecimal digits a byte.
    """
    written = "".join(chr(byte) if byte in _PLAIN else f"={byte:02X}" for byte in team.encode())
    name = f"{stack}/team/{written}/{secret}"
    return name if len(name) <= _LONGEST_SECRET_NAME else None


def read_keys(text: str, *, credential_files: bool) -> Sequence[KeyText]:
    """The keys in a secret's text; at least one. `credential_files` says that a key is a document in JSON.

    Raises `UnreadableKeys`.
    """
    document = _document(text)
    if document is None or (credential_files and "keys" not in document):
        return (KeyText(text),)
    if document.keys() != {"keys"}:
        raise UnreadableKeys('it is JSON, and not {"keys": […]}')
    listed = document["keys"]
    if not isinstance(listed, list) or not 1 <= len(listed) <= _MOST_KEYS:
        raise UnreadableKeys(f"`keys` must be a list of 1 to {_MOST_KEYS} keys")
    keys = [_key(entry, place, credential_files) for place, entry in enumerate(listed, 1)]
    if len({key.name for key in keys}) < len(keys):
        raise UnreadableKeys("two of the `keys` have the same `name`")
    if len({key.text for key in keys}) < len(keys):
        raise UnreadableKeys("two of the `keys` are the same key: give one a `weight` instead")
    return tuple(keys)


def is_bare_key(text: str) -> bool:
    """Whether a header can carry it."""
    return text.isascii() and text.isprintable() and " " not in text


def _document(text: str) -> dict[str, Any] | None:
    """The text as a JSON object; None for a bare key."""
    if not text.startswith("{"):
        return None
    try:
        document: dict[str, Any] = orjson.loads(text)
    except orjson.JSONDecodeError:
        document = {}
    if not document:
        raise UnreadableKeys("it begins like JSON and is none, or is empty")
    return document


def _key(entry: Any, place: int, credential_files: bool) -> KeyText:
    if isinstance(entry, str):
        entry = {"key": entry}
    if not isinstance(entry, dict) or not entry.keys() <= _MEMBERS:
        raise UnreadableKeys(f"number {place} of the `keys` must be a key, or have `key`, `weight` and `name` only")
    key, weight, name = entry.get("key"), entry.get("weight", 1), entry.get("name", str(place))
    if credential_files:
        key = orjson.dumps(key).decode() if isinstance(key, dict) and key else key
    if not isinstance(key, str) or not key.strip():
        raise UnreadableKeys(f"number {place} of the `keys` has no `key`")
    if not credential_files and not is_bare_key(key.strip()):
        raise UnreadableKeys(f"the `key` of number {place} of the `keys` holds what no header can carry")
    if isinstance(weight, bool) or not isinstance(weight, int) or not 1 <= weight <= HEAVIEST:
        raise UnreadableKeys(f"the `weight` of number {place} of the `keys` must be a whole number, 1 to {HEAVIEST}")
    if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= _LONGEST_KEY_NAME:
        raise UnreadableKeys(f"the `name` of number {place} of the `keys` must be 1 to {_LONGEST_KEY_NAME} characters")
    if key.strip() == name:
        raise UnreadableKeys(f"the `name` of number {place} of the `keys` is its key: names are written to logs")
    return KeyText(key.strip(), name, weight)
