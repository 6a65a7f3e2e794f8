"""The price book's files as shipped. Written by `scripts/generate_prices.py`; read lazily, one vendor at a time."""

import re
from functools import cache
from pathlib import Path

import orjson

_PRICES = Path(__file__).with_name("prices")
_NAME = re.compile(r"[a-z0-9_]+\Z")


def load_prices(provider: str) -> bytes | None:
    """The JSON of one vendor's prices, or None where the book has none. `provider` may be any text."""
    if not _NAME.match(provider) or provider == "version":
        return None
    path = _PRICES / f"{provider}.json"
    return path.read_bytes() if path.is_file() else None


@cache
def price_version() -> str:
    """The shipped book's version: `<date>+genai-prices-<package version>`."""
    version: str = orjson.loads((_PRICES / "version.json").read_bytes())["version"]
    return version


def priced_providers() -> frozenset[str]:
    """Every name the book knows: what `price_as` may say."""
    return frozenset(path.stem for path in _PRICES.glob("*.json")) - {"version"}
