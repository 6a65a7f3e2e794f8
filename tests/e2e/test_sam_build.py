"""Specifies that `sam validate --lint` and `sam build` need no Docker, and that the layers are built for the architecture asked for."""

import struct
from pathlib import Path

import pytest

from scripts.package_layer import LARGEST, checked
from tests.fakes.lambda_image import run, sam_environ

MACHINES = {"arm64": 183, "x86_64": 62}
"""`e_machine` of an ELF file: https://man7.org/linux/man-pages/man5/elf.5.html"""


def test_the_template_passes_sams_linter(bare_environ: dict[str, str]) -> None:
    assert "is a valid SAM Template" in run(["sam", "validate", "--lint"], sam_environ(bare_environ))


@pytest.mark.parametrize(
    ("arguments", "architecture"),
    [([], "arm64"), (["--parameter-overrides", "Architecture=x86_64"], "x86_64")],
    ids=["default", "x86_64"],
)
def test_a_build_is_for_its_architecture(
    arguments: list[str], architecture: str, tmp_path: Path, bare_environ: dict[str, str]
) -> None:
    # One cache for both: it must not hand the one's layer to the other.
    cache = tmp_path.parent / "sam-cache"
    command = ["sam", "build", "--build-dir", str(tmp_path), "--cache-dir", str(cache), *arguments]
    run(command, {**sam_environ(bare_environ), "DOCKER_HOST": "unix:///nonexistent"})
    libraries = list((tmp_path / "DependenciesLayer" / "python").rglob("*.so"))
    assert libraries
    assert {machine_of(library) for library in libraries} == {MACHINES[architecture]}
    sizes = [checked(tmp_path / name) for name in ("DependenciesLayer", "CoreLayer")]
    assert sum(sizes) <= LARGEST
    assert (tmp_path / "GatewayFunction" / "run").stat().st_mode & 0o111


def machine_of(library: Path) -> int:
    with library.open("rb") as file:
        head = file.read(20)
    assert head[:4] == b"\x7fELF"
    return int(struct.unpack_from("<H", head, 18)[0])
