"""Specifies what is wrong with a layer: bytecode that is missing, of another Python, or compared with a source that packing stamps."""

import shutil
import sys
import zipfile
from collections.abc import Callable
from importlib.util import MAGIC_NUMBER
from pathlib import Path

import pytest

from scripts.package_layer import MAGIC, TAG, CannotPackage, checked, copy_package, interpreter, prune

HEAD = MAGIC + b"\x01\x00\x00\x00" + b"hash-of8"


def write(folder: Path, name: str, content: bytes = b"") -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def layer(tmp_path: Path) -> Path:
    write(tmp_path, "python/one/__init__.py", b"x = 1\n")
    write(tmp_path, f"python/one/__pycache__/__init__.{TAG}.pyc", HEAD + b"code")
    write(tmp_path, "python/two.py", b"y = 2\n")
    write(tmp_path, f"python/__pycache__/two.{TAG}.pyc", HEAD + b"code")
    write(tmp_path, "python/one/data.json", b"{}")
    return tmp_path


def packed(layer: Path) -> Path:
    archive = layer.parent / "layer.zip"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as opened:
        for path in sorted(layer.rglob("*")):
            if path.is_file():
                opened.writestr(zipfile.ZipInfo(path.relative_to(layer).as_posix()), path.read_bytes())
    return archive


as_folder: Callable[[Path], Path] = Path


@pytest.mark.parametrize("form", [as_folder, packed], ids=["folder", "zip"])
def test_a_good_layer_gives_its_unzipped_size(form: Callable[[Path], Path], layer: Path) -> None:
    assert checked(form(layer)) == sum(path.stat().st_size for path in layer.rglob("*") if path.is_file())


@pytest.mark.parametrize("form", [as_folder, packed], ids=["folder", "zip"])
@pytest.mark.parametrize(
    ("head", "fault"),
    [
        (None, "is missing"),
        (b"\xcb\x0d\x0d\x0a" + HEAD[4:], "not of CPython 3.13"),  # 3.12's number
        (MAGIC + b"\x00\x00\x00\x00" + b"timesize", "unchecked-hash"),
        (MAGIC + b"\x03\x00\x00\x00" + b"hash-of8", "unchecked-hash"),  # checked against the source at each import
        (b"", "not of CPython 3.13"),
    ],
)
def test_bytecode_that_would_not_be_used(
    head: bytes | None, fault: str, form: Callable[[Path], Path], layer: Path
) -> None:
    bytecode = layer / f"python/__pycache__/two.{TAG}.pyc"
    if head is None:
        bytecode.unlink()
    else:
        bytecode.write_bytes(head)
    with pytest.raises(CannotPackage, match=f"1 of 2 modules .*{fault}"):
        checked(form(layer))


def test_an_empty_layer_is_none(tmp_path: Path) -> None:
    with pytest.raises(CannotPackage, match="holds no module"):
        checked(tmp_path)


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="the number is that of a CPython 3.13")
def test_the_number_is_the_interpreters_own() -> None:
    assert MAGIC == MAGIC_NUMBER


def test_what_is_never_read_is_pruned(tmp_path: Path) -> None:
    kept = [
        "a/__init__.py",
        "a/testing.py",
        "a-1.dist-info/METADATA",
        "a-1.dist-info/entry_points.txt",
        "a/bin/x.py",
        "a/lib.so",
    ]
    gone = [
        "a/tests/t.py",
        "a/b/test/t.py",
        "a/x.pyi",
        "bin/tool",
        "a-1.dist-info/RECORD",
        "a/__pycache__/x.pyc",
        ".lock",
    ]
    for name in (*kept, *gone):
        write(tmp_path, name)
    prune(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()} == set(kept)


def test_the_package_goes_without_its_laptop_half(tmp_path: Path) -> None:
    source = tmp_path / "llm_gateway"
    for name in (
        "__init__.py",
        "py.typed",
        "cli/app.py",
        "local/run.py",
        "api/app.py",
        "__pycache__/x.pyc",
        "catalog/providers.toml",
    ):
        write(source, name)
    copy_package(source, tmp_path / "python")
    copied = tmp_path / "python" / "llm_gateway"
    assert {path.relative_to(copied).as_posix() for path in copied.rglob("*") if path.is_file()} == {
        "__init__.py",
        "py.typed",
        "api/app.py",
        "catalog/providers.toml",
    }


def test_a_wrong_interpreter_is_not_taken_for_the_right_one(tmp_path: Path) -> None:
    fake = tmp_path / "python3.13"
    shutil.copy("/bin/true", fake)
    with pytest.raises(CannotPackage, match=r"PYTHON313=.* is none"):
        interpreter({"PYTHON313": str(fake)})
