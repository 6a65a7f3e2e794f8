"""The compiled requirements: what `make check` finds wrong with them, without network."""

from pathlib import Path

import pytest

from scripts.check_requirements import HEADER, ROOT, Compiled, faults, main, pins, stamp

HASH = "    --hash=sha256:" + "0" * 64


def compiled(tmp_path: Path, body: str, direct: tuple[str, ...] = ("one>=1.2", "Two_2[x]")) -> Compiled:
    file = Compiled(tmp_path / "requirements.txt", direct, ">=3.11")
    file.path.write_text(HEADER.format(digest=file.digest()) + body)
    return file


GOOD = f"one==1.5 \\\n{HASH}\ntwo-2==3.0 ; sys_platform != 'win32' \\\n{HASH} \\\n{HASH}\n"


def test_what_the_repository_holds_is_right(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0, capsys.readouterr().err


def test_the_functions_get_no_boto3_and_no_extras() -> None:
    found = pins((ROOT / "layers/dependencies/requirements.txt").read_text())
    assert {"fastapi", "mangum", "orjson"} <= set(found)
    assert {"boto3", "botocore", "httpx", "aws-xray-sdk", "moto", "uvicorn"} & set(found) == set()


def test_a_good_file_has_no_fault(tmp_path: Path) -> None:
    assert list(faults(compiled(tmp_path, GOOD))) == []


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        pytest.param(GOOD.replace("1.5", "1.1"), "one>=1.2 is not pinned (found: 1.1)", id="too old"),
        pytest.param(GOOD.replace("two-2", "three"), "Two_2[x] is not pinned (found: nothing)", id="missing"),
        pytest.param(GOOD.replace(f" \\\n{HASH}", "", 1), "no hash for one==1.5", id="no hash"),
        pytest.param(f"--index-url x\n{GOOD}", "names an index or a host", id="an index"),
        pytest.param(f"{GOOD}four @ https://example.com/four.whl\n", "names an index or a host", id="a host"),
    ],
)
def test_a_fault_is_named(body: str, fault: str, tmp_path: Path) -> None:
    assert list(faults(compiled(tmp_path, body))) == [f"requirements.txt: {fault}"]


def test_a_changed_dependency_asks_for_compiling_again(tmp_path: Path) -> None:
    file = compiled(tmp_path, GOOD)
    changed = Compiled(file.path, ("one>=1.3", "Two_2[x]"), file.extra)
    assert list(faults(changed)) == ["requirements.txt: not compiled from this pyproject.toml; run `make requirements`"]
    stamp(changed)
    assert list(faults(changed)) == []


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert list(faults(Compiled(tmp_path / "requirements.txt", ()))) == [
        "requirements.txt: missing; run `make requirements`"
    ]
