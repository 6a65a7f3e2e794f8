"""The gateway as a real process: `gateway` is shared and has no configuration, `start_gateway` makes one to measure.

Each has its own directory, port and embedded AWS.
"""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess

StartGateway = Callable[..., GatewayProcess]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture
def new_gateway(tmp_path: Path, bare_environ: dict[str, str]) -> Iterator[StartGateway]:
    """Makes `GatewayProcess`es that are not started yet: (config, environ, outlive, port, directory).

    Two calls with one directory are two runs on the same data.
    """
    with ExitStack() as made:

        def new(
            config: str | None = None,
            *,
            environ: dict[str, str] | None = None,
            outlive: bool = False,
            port: int = 0,
            directory: Path = tmp_path,
        ) -> GatewayProcess:
            directory.mkdir(exist_ok=True)
            variables = {**bare_environ, **(environ or {})}
            gateway = GatewayProcess(directory, environ=variables, config=config, outlive=outlive, port=port)
            made.callback(gateway.clean_up)
            return gateway

        yield new


@pytest.fixture
def start_gateway(new_gateway: StartGateway) -> StartGateway:
    """As `new_gateway`, started and ready."""

    def start(*arguments: object, **options: object) -> GatewayProcess:
        return new_gateway(*arguments, **options).start()

    return start


@pytest.fixture(scope="session")
def gateway(tmp_path_factory: pytest.TempPathFactory, bare_environ: dict[str, str]) -> Iterator[GatewayProcess]:
    """One without configuration, for tests that leave it as they found it; it must stop cleanly."""
    process = GatewayProcess(tmp_path_factory.mktemp("gateway"), environ=bare_environ).start()
    yield process
    try:
        assert process.stop() == 0
        assert "Traceback" not in process.log
    finally:
        process.clean_up()
