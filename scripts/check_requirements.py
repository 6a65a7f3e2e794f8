"""Proves, without network, that the compiled requirements belong to pyproject.toml; `--stamp` marks them as compiled.

A compiled file says in its header which dependency tables it was compiled from (a digest of them). The check compares
that digest, that every direct dependency is pinned at a version its specifier allows, that every pin carries hashes,
and that no line names an index or a host.

    python scripts/check_requirements.py            # exit 1 and one line per fault
    python scripts/check_requirements.py --stamp    # after `uv pip compile`
"""

import argparse
import hashlib
import json
import re
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
HEADER = """\
# Compiled by `make requirements` from pyproject.toml; do not edit.
# Of these dependency tables: sha256:{digest}
"""
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^\]]*\])?==(?P<version>[^ ;\\]+)")


@dataclass(frozen=True)
class Compiled:
    """A compiled file and the direct dependencies that it must hold."""

    path: Path
    direct: tuple[str, ...]
    extra: str = ""

    def digest(self) -> str:
        document = json.dumps([sorted(self.direct), self.extra])
        return hashlib.sha256(document.encode()).hexdigest()


def compiled_files(pyproject: dict[str, Any], root: Path) -> list[Compiled]:
    project = pyproject["project"]
    functions = list(project["dependencies"])
    extras = [one for extra in project["optional-dependencies"].values() for one in extra]
    groups = pyproject["dependency-groups"]
    python = project["requires-python"]
    return [
        Compiled(root / "layers/dependencies/requirements.txt", tuple(functions), python),
        Compiled(root / "requirements-dev.txt", tuple(functions + extras + groups["dev"]), python),
        Compiled(root / "requirements-checkov.txt", tuple(groups["checkov"]), python),
    ]


def pins(text: str) -> dict[str, set[str]]:
    """Pinned versions by name; a universal file may pin one name more than once, under markers."""
    found: dict[str, set[str]] = {}
    for line in text.splitlines():
        if match := PIN.match(line):
            found.setdefault(canonicalize_name(match["name"]), set()).add(match["version"])
    return found


def faults(compiled: Compiled) -> Iterator[str]:
    name = compiled.path.name
    if not compiled.path.is_file():
        yield f"{name}: missing; run `make requirements`"
        return
    text = compiled.path.read_text()
    if not text.startswith(HEADER.format(digest=compiled.digest())):
        yield f"{name}: not compiled from this pyproject.toml; run `make requirements`"
    if re.search(r"://|^\s*-(-index-url|-extra-index-url|-find-links|i |f )", text, re.MULTILINE):
        yield f"{name}: names an index or a host"
    entries = [entry for entry in re.split(r"(?<!\\)\n", text) if PIN.match(entry)]
    yield from (f"{name}: no hash for {entry.split()[0]}" for entry in entries if "--hash=sha256:" not in entry)
    pinned = pins(text)
    for requirement in map(Requirement, compiled.direct):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        if not any(requirement.specifier.contains(version, prereleases=True) for version in versions):
            yield f"{name}: {requirement} is not pinned (found: {', '.join(sorted(versions)) or 'nothing'})"


def stamp(compiled: Compiled) -> None:
    lines = compiled.path.read_text().splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith("#"))
    compiled.path.write_text(HEADER.format(digest=compiled.digest()) + body)


def main(arguments: list[str], root: Path = ROOT) -> int:
    parser = argparse.ArgumentParser(description="Check that the compiled requirements match pyproject.toml.")
    parser.add_argument("--stamp", action="store_true", help="mark the files as compiled from it")
    options = parser.parse_args(arguments)
    files = compiled_files(tomllib.loads((root / "pyproject.toml").read_text()), root)
    if options.stamp:
        for compiled in files:
            stamp(compiled)
    found = [fault for compiled in files for fault in faults(compiled)]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
