"""`llm-gateway run` where it cannot run: one line that says why, and an exit code."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from llm_gateway.local.embedded_address import lock
from llm_gateway.local.run import Options, run


def never(*_: Any) -> Any:
    raise AssertionError("nothing may be built where it cannot run")


def attempt(options: Options, environ: Mapping[str, str] | None = None) -> int:
    return run(options, environ or {}, never)


def test_a_port_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert attempt(Options(port=port, data=tmp_path)) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert error.startswith(f"llm-gateway: port {port} on 127.0.0.1 cannot be used (")
    assert not (tmp_path / "aws.json").exists()


def test_a_directory_in_use_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = lock(tmp_path / "run.lock")
    assert held is not None
    with held:
        assert attempt(Options(port=0, data=tmp_path)) == 1
    assert capsys.readouterr().err.startswith(f"llm-gateway: another gateway already runs on {tmp_path}/;")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param('default_provider = "nobody"', "gateway.toml: default_provider", id="an unknown provider"),
        pytest.param("[models.fast]\ndeployment = []", "gateway.toml: models.fast.deployment", id="an unknown key"),
        pytest.param("[models", "gateway.toml: is not TOML", id="no TOML"),
    ],
)
def test_a_wrong_file_names_the_key_at_fault(
    text: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "gateway.toml").write_text(text)
    assert attempt(Options(port=0, data=tmp_path, config=tmp_path / "gateway.toml")) == 3
    assert words in capsys.readouterr().err


def test_a_file_that_is_not_there_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt(Options(port=0, data=tmp_path, config=tmp_path / "absent.toml")) == 3
    assert "absent.toml" in capsys.readouterr().err


@pytest.mark.parametrize(
    "environ",
    [
        {"AUTH": "off"},
        {"LOG_FORMAT": "xml"},
        {"LOG_LEVEL": "LOUD"},
        {"DOCS": "perhaps"},
        {"CORS_ORIGINS": "https://a.example,nope"},
    ],
)
def test_a_wrong_variable_is_named(environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert attempt(Options(port=0, data=tmp_path), environ) == 3
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert next(iter(environ)) in error


def test_an_endpoint_that_does_not_answer_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        assert attempt(Options(port=0, data=tmp_path / "unused"), {"AWS_ENDPOINT_URL": url}) == 1
    assert capsys.readouterr().err.startswith(f"llm-gateway: the AWS at {url} cannot be used: ")
    assert not (tmp_path / "unused").exists()
