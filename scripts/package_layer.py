"""Builds a Lambda layer's `python/` folder so that nothing is left for a cold start to compile.

The layers' Makefiles call it:

    package_layer.py dependencies ARTIFACTS_DIR --requirements FILE --architecture arm64|x86_64
    package_layer.py core ARTIFACTS_DIR --package DIR
    package_layer.py check FOLDER_OR_ZIP …

Packing stamps every file with the year 1980, which makes timestamped bytecode stale; so the bytecode is
`unchecked-hash` (PEP 552: taken as it is), and has to come from the CPython that runs it. `check` proves that of a
folder, or of a zip that holds `python/`: every module has bytecode, of the right version, that is never compared with
its source.
"""

import argparse
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

RUNTIME = "3.13"
TAG = "cpython-313"
MAGIC = (3571).to_bytes(2, "little") + b"\r\n"
"""Of every CPython 3.13: https://github.com/python/cpython/blob/3.13/Include/internal/pycore_magic_number.h"""
UNCHECKED_HASH = b"\x01\x00\x00\x00"
"""PEP 552: hash-based (bit 0) and not checked against the source (bit 1 unset)."""
LARGEST = 40 * 1024 * 1024
"""Bytes, unzipped with bytecode; a budget of ours for both layers together, far below Lambda's 250 MB."""
LAYER_PATH = "/opt"
"""Where Lambda unpacks a layer: what tracebacks name."""
PLATFORMS = {"arm64": "aarch64-manylinux2014", "x86_64": "x86_64-manylinux2014"}
ROOT = Path(__file__).resolve().parents[1]

LAPTOP = ("cli", "local")
"""Folders of the package that only the command line needs; what they import is in no layer."""
PRUNED_FOLDERS = {"tests", "test", "__pycache__"}
PRUNED_SUFFIXES = {".pyi", ".c", ".h", ".pyx", ".pxd"}
PRUNED_METADATA = {"RECORD", "INSTALLER", "REQUESTED", "direct_url.json"}
"""Of the others METADATA and entry_points.txt are read at run time, and licences belong to what they license."""


class CannotPackage(Exception):
    """Why there is no layer, in words for whoever runs the build."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Builds and checks the Lambda layers.")
    commands = parser.add_subparsers(dest="command", required=True)
    dependencies = commands.add_parser("dependencies")
    dependencies.add_argument("artifacts", type=Path)
    dependencies.add_argument("--requirements", type=Path, required=True)
    dependencies.add_argument("--architecture", choices=sorted(PLATFORMS), required=True)
    core = commands.add_parser("core")
    core.add_argument("artifacts", type=Path)
    core.add_argument("--package", type=Path, required=True)
    commands.add_parser("check").add_argument("packed", type=Path, nargs="+")
    options = parser.parse_args(arguments)
    try:
        if options.command == "check":
            sizes = [checked(path) for path in options.packed]
            return report("layers", sum(sizes))
        python = options.artifacts / "python"
        if options.command == "dependencies":
            install(options.requirements, python, options.architecture)
            prune(python)
        else:
            copy_package(options.package, python)
        compile_bytecode(python, interpreter(os.environ))
        return report(options.command, checked(options.artifacts))
    except CannotPackage as failure:
        print(f"package_layer: {failure}", file=sys.stderr)
        return 1


def report(name: str, size: int) -> int:
    print(f"{name}: {size / 1024 / 1024:.1f} MB unzipped with bytecode", file=sys.stderr)
    if size > LARGEST:
        raise CannotPackage(f"{name} is larger than {LARGEST // 1024 // 1024} MB")
    return 0


def install(requirements: Path, target: Path, architecture: str) -> None:
    """Installs exactly what the file pins, with its hashes, for the function's platform and Python."""
    run(
        [
            *uv(os.environ), "pip", "install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:",
            "--python-version", RUNTIME, "--python-platform", PLATFORMS[architecture],
            "--link-mode", "copy", "--target", str(target), "--requirement", str(requirements),
        ]
    )  # fmt: skip


def prune(python: Path) -> None:
    """Removes what a running function never reads."""
    for path in sorted(python.rglob("*"), reverse=True):
        if path.is_dir():
            if path.name in PRUNED_FOLDERS or path == python / "bin":
                shutil.rmtree(path)
        elif path.suffix in PRUNED_SUFFIXES or (path.name in PRUNED_METADATA and path.parent.suffix == ".dist-info"):
            path.unlink()
    (python / ".lock").unlink(missing_ok=True)  # uv's own, while it installs


def copy_package(package: Path, python: Path) -> None:
    """Copies the package without what local work leaves in it, and without the laptop's half."""
    ignored = shutil.ignore_patterns("__pycache__", "*.pyc", ".mypy_cache", ".ruff_cache", ".DS_Store")
    shutil.copytree(package, python / package.name, ignore=ignored, dirs_exist_ok=True)
    for folder in LAPTOP:
        shutil.rmtree(python / package.name / folder, ignore_errors=True)


def compile_bytecode(python: Path, command: list[str]) -> None:
    run(
        [
            *command, "-m", "compileall", "-q", "-f", "-j", "0", "--invalidation-mode", "unchecked-hash",
            "-s", str(python.parent), "-p", LAYER_PATH, str(python),
        ]
    )  # fmt: skip


def checked(packed: Path) -> int:
    """The unzipped size in bytes of a layer whose every module has bytecode that holds. Raises `CannotPackage`."""
    files = dict(zip_heads(packed)) if packed.is_file() else dict(folder_heads(packed))
    heads = {name: head for name, (head, _) in files.items()}
    faults = [fault for name in sorted(heads) if name.endswith(".py") for fault in faults_of(name, heads)]
    modules = sum(name.endswith(".py") for name in heads)
    if not modules:
        raise CannotPackage(f"{packed} holds no module")
    if faults:
        raise CannotPackage(f"{packed}: {len(faults)} of {modules} modules lack valid bytecode; {faults[0]}")
    return sum(size for _, size in files.values())


def faults_of(module: str, heads: Mapping[str, bytes]) -> Iterator[str]:
    folder, _, name = module.rpartition("/")
    bytecode = f"{folder}/__pycache__/{name.removesuffix('.py')}.{TAG}.pyc"
    head = heads.get(bytecode)
    if head is None:
        yield f"{bytecode} is missing"
    elif head[:4] != MAGIC:
        yield f"{bytecode} is not of CPython {RUNTIME}"
    elif head[4:8] != UNCHECKED_HASH:
        yield f"{bytecode} is not an unchecked-hash one"


def folder_heads(folder: Path) -> Iterable[tuple[str, tuple[bytes, int]]]:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                yield path.relative_to(folder).as_posix(), (file.read(8), path.stat().st_size)


def zip_heads(packed: Path) -> Iterable[tuple[str, tuple[bytes, int]]]:
    with zipfile.ZipFile(packed) as archive:
        for entry in archive.infolist():
            if not entry.is_dir():
                with archive.open(entry) as file:
                    yield entry.filename, (file.read(8), entry.file_size)


def interpreter(environ: Mapping[str, str]) -> list[str]:
    """The command of a CPython 3.13. Raises `CannotPackage` where there is none."""
    given = environ.get("PYTHON313")
    if given:
        candidates = [[given], [str(Path(given, "bin", f"python{RUNTIME}"))]]
    else:
        candidates = [[sys.executable], [f"python{RUNTIME}"], *pyenv_interpreters(environ), *uv_interpreters(environ)]
    for command in candidates:
        if is_runtime(command):
            return command
    raise CannotPackage(
        f"compiling the layers needs a CPython {RUNTIME}, the function's own. "
        + (
            f"PYTHON313={given} is none."
            if given
            else f"Install one (`uv python install {RUNTIME}`), or name one: PYTHON313=/path/to/python{RUNTIME}"
        )
    )


def is_runtime(command: list[str]) -> bool:
    question = "import sys; print(sys.implementation.cache_tag, sys.flags.optimize)"
    try:
        answer = subprocess.run([*command, "-c", question], capture_output=True, text=True, check=False, timeout=30)
    except OSError:
        return False
    return answer.stdout.split() == [TAG, "0"]


def pyenv_interpreters(environ: Mapping[str, str]) -> list[list[str]]:
    versions = Path(environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    return [[str(found)] for found in sorted(versions.glob(f"{RUNTIME}*/bin/python{RUNTIME}"), reverse=True)]


def uv_interpreters(environ: Mapping[str, str]) -> list[list[str]]:
    try:
        found = subprocess.run(
            [*uv(environ), "python", "find", "--no-python-downloads", RUNTIME],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    except CannotPackage:
        return []
    return [[found.stdout.strip()]] if found.returncode == 0 else []


def uv(environ: Mapping[str, str]) -> list[str]:
    """The command of uv: $UV, beside this Python, in the repository's environment, on the path."""
    places = [Path(sys.executable).parent, ROOT / ".venv" / "bin"]
    beside = [str(place / "uv") for place in places if (place / "uv").is_file()]
    for candidate in (environ.get("UV"), *beside, shutil.which("uv")):
        if candidate:
            return [candidate]
    raise CannotPackage("installing the dependencies layer needs uv: run `make setup`, or name one: UV=/path/to/uv")


def run(command: list[str]) -> None:
    if subprocess.run(command, check=False).returncode:
        raise CannotPackage(f"`{' '.join(command)}` failed; its own words are above")


if __name__ == "__main__":
    if sys.version_info < (3, 11):  # noqa: UP036 - sam runs it with the `python3` of the path, whatever that is
        sys.exit("package_layer: needs Python 3.11 or newer; name one: PYTHON=/path/to/python3.13 sam build")
    sys.exit(main(sys.argv[1:]))
