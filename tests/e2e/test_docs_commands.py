"""Every fenced shell block of README.md and docs/*.md does what the page says, or says why it cannot be tried here."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from llm_gateway.local.cli import app
from tests.docs.reader import Reader, WrongPage
from tests.docs.shell_blocks import ROOT, Block, pages, read_blocks

BLOCKS = {
    str(page.relative_to(ROOT)): read_blocks(str(page.relative_to(ROOT)), page.read_text(encoding="utf-8"))
    for page in pages()
}
SHELL = [block for blocks in BLOCKS.values() for block in blocks if block.is_shell]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def words_of(block: Block) -> Iterator[list[str]]:
    """The words of each simple command of a block: what pipes and semicolons join is several."""
    for command in block.commands():
        lexer = shlex.shlex(command.text.replace("\\\n", " "), posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for token in lexer:
            if set(token) <= set("();<>|&"):
                yield words
                words = []
            else:
                words.append(token)
        yield words


@pytest.mark.parametrize("page", [page for page in BLOCKS if any(not b.excused for b in SHELL if b.page == page)])
def test_a_page_can_be_followed(page: str, tmp_path: Path, bare_environ: dict[str, str]) -> None:
    with Reader(tmp_path, bare_environ) as reader:
        reader.follow(BLOCKS[page])


def test_a_page_that_is_wrong_is_found_out(tmp_path: Path, bare_environ: dict[str, str]) -> None:
    with Reader(tmp_path, bare_environ) as reader:
        for text, words in (
            ("```console\n$ false\n```", r"`false` exits with 1, not 0"),
            ("```bash\ntrue\nfalse | true\necho\n```", r"exits with 1, not 0"),
            ("<!-- exits with 2 -->\n```console\n$ true\n```", r"exits with 0, not 2"),
            ("```\n$ llm-gateway no-such-command\n```", r"No such command"),
            ("```console\n$ llm-gateway --version-of-nothing\n```", r"No such option"),
            ("```console\n$ curl -s http://127.0.0.1:8000/v1/models\n```", r"exits with 22"),
            ("```console\n$ echo one two\none … three\n```", r"prints\none two\n\nand not\none … three"),
            (
                "<!-- gateway.toml -->\n```toml\nx = 1\n```\n```console\n$ make run CONFIG=gateway.toml\n```",
                "serves nothing",
            ),
        ):
            with pytest.raises(WrongPage, match=words):
                reader.follow(read_blocks("page.md", text))


@pytest.mark.parametrize("block", [block for block in SHELL if block.excused], ids=str)
def test_what_cannot_be_tried_is_at_least_a_command(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    """Options and arguments are read as the command itself would, which then does nothing."""
    monkeypatch.setattr(TyperCommand, "invoke", lambda command, context: None)
    monkeypatch.chdir(ROOT)
    command = typer.main.get_command(app)
    tried = 0
    for words in words_of(block):
        if words and Path(words[0]).name == "llm-gateway":
            command.main(words[1:], prog_name="llm-gateway", standalone_mode=False)
            tried += 1
        elif words and words[0] == "make":
            assert {word for word in words[1:] if "=" not in word} <= TARGETS
            tried += 1
    assert tried, f"{block} is excused, and nothing of it is ours: what is it there for?"


@pytest.mark.parametrize("page", BLOCKS)
def test_what_the_text_tells_to_make_can_be_made(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    assert set(re.findall(r"`make ([a-z][a-z-]*)", text)) <= TARGETS
    for module in re.findall(r"`(?:\S*/)?python -m ((?:tests|scripts)[\w.]*)", text):
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), f"{page}: python -m {module}"


@pytest.mark.parametrize("page", BLOCKS)
def test_commands_that_the_text_names_are_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for said in re.findall(r"`(?:\.venv/bin/)?llm-gateway ([^`]+)`", text):
        command: Any = typer.main.get_command(app)
        known = {option for parameter in command.params for option in parameter.opts}
        for word in said.split():
            if isinstance(command, TyperGroup) and word in command.commands:
                command = command.commands[word]
                known |= {option for parameter in command.params for option in parameter.opts}
            elif word.strip("[]").startswith("--"):
                assert word.strip("[]").partition("=")[0] in known, f"{page}: `llm-gateway {said}`"
            else:
                assert not isinstance(command, TyperGroup), f"{page}: `llm-gateway {said}`: no command {word}"
