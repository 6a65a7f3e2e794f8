"""Facts about models that shape a request: `capabilities/<vendor>.toml`, one table a family of models.

[[models]]
match = ["gemini-2.5-pro*"]        # shell patterns of the model's name; the first table that matches counts
thinking = "budget"                # whatever that vendor's dialect reads
"""

import re
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache, lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

_FOLDER = Path(__file__).with_name("capabilities")
_VENDOR = re.compile(r"[a-z0-9_]+")


@lru_cache(maxsize=1024)
def capability(vendor: str, model: str) -> Mapping[str, Any]:
    """The facts of a vendor's model; empty where nothing is said of it, or of the vendor.

    A vendor's file is parsed when first asked for.
    """
    for row in _rows(vendor):
        if any(fnmatchcase(model, pattern) for pattern in row["match"]):
            return row
    return MappingProxyType({})


@cache
def _rows(vendor: str) -> tuple[Mapping[str, Any], ...]:
    path = _FOLDER / f"{vendor}.toml"
    if not _VENDOR.fullmatch(vendor) or not path.is_file():
        return ()
    with path.open("rb") as file:
        return tuple(MappingProxyType(row) for row in tomllib.load(file)["models"])
