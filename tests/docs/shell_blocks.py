"""The fenced shell blocks of README.md and docs/*.md, as a reader has them before their eyes.

What a page says about a block stands in an HTML comment on the line before it:

    <!-- needs AWS -->          not run here; so are the other `EXCUSES`. Its commands are still parsed.
    <!-- exits with 2 -->       run, and its last command ends so
    <!-- gateway.toml -->       before a TOML block: from here on, the page's ./gateway.toml
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXCUSES = frozenset({"needs AWS", "needs Docker", "needs a terminal", "needs the network", "takes minutes"})
FILE = "gateway.toml"
ADDRESS = "127.0.0.1:8000"

_SCRIPTS = frozenset({"sh", "bash", "shell", "zsh"})
_SESSIONS = frozenset({"console", "shell-session", "terminal"})
_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,}|~{3,}) *(?P<language>[\w-]*)")
_COMMENT = re.compile(r"\s*<!-- *(.*?) *-->\s*\Z")
_EXITS = re.compile(r"exits with (\d+)\Z")
_ANYTHING = "…"


@dataclass(frozen=True)
class Command:
    """What is typed after the prompt, and what the page shows of its output: "" where it shows none."""

    text: str
    output: str = ""
    exit_code: int = 0


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is its first line's number, `mark` the comment before it."""

    page: str
    line: int
    language: str
    text: str
    mark: str | None

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_shell(self) -> bool:
        """Also one that hides behind another language, or none."""
        return self.language in _SCRIPTS | _SESSIONS or self.text.startswith("$ ")

    @property
    def is_file(self) -> bool:
        return self.mark == FILE and self.language == "toml"

    @property
    def is_program(self) -> bool:
        """A Python program that calls the page's gateway."""
        return self.language == "python" and ADDRESS in self.text and "import " in self.text

    @property
    def excused(self) -> bool:
        return self.mark in EXCUSES

    def commands(self) -> Sequence[Command]:
        """In order. A script is one command, of which no output is shown."""
        found = [Command(self.text)] if self.language in _SCRIPTS else list(_typed(self.text))
        exits = _EXITS.match(self.mark or "")
        if exits and found:
            found[-1] = Command(found[-1].text, found[-1].output, int(exits[1]))
        return found


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


def read_blocks(page: str, text: str) -> list[Block]:
    """All fenced blocks of a page's text, of whatever language."""
    found: list[Block] = []
    lines = text.splitlines()
    at = 0
    while at < len(lines):
        opening = _FENCE.match(lines[at])
        if opening is None:
            at += 1
            continue
        end = _closing(lines, at + 1, opening["fence"])
        indent = len(opening["indent"])
        body = "\n".join(line[min(indent, len(line) - len(line.lstrip())) :] for line in lines[at + 1 : end])
        found.append(Block(page, at + 2, opening["language"], body, _mark(lines[:at])))
        at = end + 1
    return found


def shows(output: str, printed: str) -> bool:
    """Whether what was printed holds what the page shows: white space does not count, and `…` is anything."""
    parts = "".join(output.split()).split(_ANYTHING)
    wanted = ".*?".join(map(re.escape, parts))
    return re.search(wanted, "".join(printed.split()), re.DOTALL) is not None


def _closing(lines: Sequence[str], at: int, fence: str) -> int:
    while at < len(lines) and not re.fullmatch(rf" *{re.escape(fence[0])}{{{len(fence)},}} *", lines[at]):
        at += 1
    return at


def _mark(before: Sequence[str]) -> str | None:
    said = next((line for line in reversed(before) if line.strip()), "")
    comment = _COMMENT.match(said)
    return comment[1] if comment else None


def _typed(session: str) -> Iterator[Command]:
    text: list[str] = []
    output: list[str] = []
    for line in session.splitlines():
        if line.startswith("$ "):
            if text:
                yield Command("\n".join(text), "\n".join(output))
            text, output = [line[2:]], []
        elif text and text[-1].endswith("\\") and not output:
            text.append(line)
        else:
            output.append(line)
    if text:
        yield Command("\n".join(text), "\n".join(output))
