"""The layers as `sam build` makes them, for this machine's processor: what a cold start unpacks and imports."""

import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.bench.processes import ROOT

_PACKAGE = [sys.executable, str(ROOT / "scripts" / "package_layer.py")]
_REQUIREMENTS = ROOT / "layers" / "dependencies" / "requirements.txt"
_PACKAGE_FOLDER = ROOT / "layers" / "core" / "llm_gateway"


@dataclass(frozen=True, slots=True)
class Layers:
    """`compiled` and `bare` are module paths with and without bytecode; the function's own folder is in neither."""

    compiled: str
    bare: str
    megabytes: float
    """Both layers unzipped, bytecode included."""


@contextmanager
def built_layers() -> Iterator[Layers]:
    """Raises `subprocess.CalledProcessError` where they cannot be built; the reason is on standard error."""
    machine = {"x86_64": "x86_64", "amd64": "x86_64"}.get(platform.machine().lower(), "arm64")
    with tempfile.TemporaryDirectory() as folder:
        core, dependencies = Path(folder, "core"), Path(folder, "dependencies")
        options = ["--requirements", str(_REQUIREMENTS), "--architecture", machine]
        for arguments in (
            ["core", str(core), "--package", str(_PACKAGE_FOLDER)],
            ["dependencies", str(dependencies), *options],
        ):
            subprocess.run([*_PACKAGE, *arguments], check=True, stderr=subprocess.PIPE)
        compiled = [core / "python", dependencies / "python"]
        size = sum(file.stat().st_size for part in compiled for file in part.rglob("*") if file.is_file())
        bare = [shutil.copytree(part, Path(folder, "bare", part.parent.name)) for part in compiled]
        for part in bare:
            for cache in list(part.rglob("__pycache__")):
                shutil.rmtree(cache)
        yield Layers(_path(compiled), _path(bare), size / 1024 / 1024)


def _path(folders: list[Path]) -> str:
    return ":".join(map(str, folders))
