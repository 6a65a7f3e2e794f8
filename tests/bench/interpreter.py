"""The Python that the bench runs on: the function's own version, in an environment of its own under build/."""

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

from scripts.package_layer import RUNTIME, CannotPackage, interpreter, uv

ROOT = Path(__file__).parents[2]
_VENV = ROOT / "build" / "bench-venv"
_REQUIREMENTS = ROOT / "requirements-dev.txt"


def runtime_python() -> Path | None:
    """The interpreter of an environment with everything installed on the function's Python; this one, if it is that.

    None where no such Python is found. Raises `subprocess.CalledProcessError` where the installation fails.
    """
    if f"{sys.version_info.major}.{sys.version_info.minor}" == RUNTIME:
        return Path(sys.executable)
    try:
        base = interpreter(os.environ)
    except CannotPackage:
        return None
    python = _VENV / "bin" / "python"
    stamp = _VENV / ".requirements"
    wanted = hashlib.sha256(_REQUIREMENTS.read_bytes()).hexdigest()
    if not python.exists() or not stamp.exists() or stamp.read_text() != wanted:
        print(f"installing into {_VENV.relative_to(ROOT)}, once …", file=sys.stderr)
        shutil.rmtree(_VENV, ignore_errors=True)
        subprocess.run([*base, "-m", "venv", "--without-pip", str(_VENV)], check=True)
        install = [*uv(os.environ), "pip", "install", "--quiet", "--python", str(python), "--require-hashes"]
        subprocess.run([*install, "-r", str(_REQUIREMENTS)], check=True)
        stamp.write_text(wanted)
    return python
