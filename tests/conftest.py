"""What holds for every test: no network but loopback (pytest-socket, see pyproject.toml), and nobody's keys.

pytest-socket watches Python's own sockets. Processes that a test starts get their environment from `bare_environ`.
"""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

PRIVATE_PREFIXES = ("AWS_", "LLM_", "GATEWAY_", "MOTO_", "OIDC_")
PRIVATE_ENDINGS = ("_API_KEY", "_BASE_URL", "_ENDPOINT", "_API_BASE", "_API_VERSION", "_TOKEN", "_SECRET")
PRIVATE_NAMES = {"AUTH", "LOG_LEVEL", "LOG_FORMAT", "DOCS", "STACK_NAME"}


# A busy machine is no failure: what things cost is measured by `make bench`, never in a test.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def is_private(name: str) -> bool:
    return name.startswith(PRIVATE_PREFIXES) or name.endswith(PRIVATE_ENDINGS) or name in PRIVATE_NAMES


def pytest_configure() -> None:
    """Takes the developer's own settings and keys away before any test module is imported."""
    for name in [name for name in os.environ if is_private(name)]:
        del os.environ[name]
    # boto3 would look for credentials in the home directory and at the instance's metadata address.
    os.environ["AWS_EC2_METADATA_DISABLED"] = "true"
    os.environ["AWS_CONFIG_FILE"] = os.environ["AWS_SHARED_CREDENTIALS_FILE"] = os.devnull


@pytest.fixture(scope="session")
def bare_environ() -> dict[str, str]:
    """An environment for a process of ours: what it needs to find its interpreter and this package, nothing else."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LANG") if name in os.environ}
    package = Path(__file__).resolve().parent.parent / "layers" / "core"
    return {**kept, "PYTHONPATH": str(package), "PYTHONUNBUFFERED": "1"}
