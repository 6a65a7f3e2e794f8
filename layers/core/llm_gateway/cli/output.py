"""How commands print: tables for people, JSON for programs. Results go to stdout, everything else to stderr."""

import json as jsonlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from llm_gateway.cli.failures import visible

if TYPE_CHECKING:
    from rich.console import Console


class Output:
    """`json` prints data as it is. Colours are for terminals, unless `no_color` or `NO_COLOR` (no-color.org)."""

    def __init__(self, *, json: bool = False, no_color: bool = False) -> None:
        self.json = json
        self._colourless = no_color or bool(os.environ.get("NO_COLOR"))

    @property
    def for_people(self) -> bool:
        """Whether a person sees stdout as it comes."""
        return sys.stdout.isatty() and not self.json

    @property
    def asks(self) -> bool:
        """Whether there is somebody to ask."""
        return sys.stdin.isatty() and sys.stderr.isatty()

    def console(self, *, stderr: bool = False) -> "Console":
        """Rich's, for output of a kind that is not here."""
        from rich.console import Console

        plain = self._colourless
        return Console(stderr=stderr, no_color=plain, highlight=False, markup=False, emoji=False, soft_wrap=True)

    def data(self, value: Any) -> None:
        """One JSON document."""
        print(jsonlib.dumps(value, indent=2, ensure_ascii=not _in_unicode()))

    def line(self, value: Any) -> None:
        """One JSON document on a line of its own, at once: for what goes on."""
        print(jsonlib.dumps(value, ensure_ascii=not _in_unicode()), flush=True)

    def show(self, value: Any, show: Callable[[], None]) -> None:
        """`value` as JSON, or what `show` prints."""
        if self.json:
            self.data(value)
        else:
            show()

    def say(self, text: str) -> None:
        """A result in words, on stdout."""
        print(visible(text))

    def note(self, text: str) -> None:
        """For people alone, on stderr."""
        print(visible(text), file=sys.stderr)

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        right: Sequence[str] = (),
        empty: str | None = None,
    ) -> None:
        """`right` are the columns of numbers. Without rows `empty` is told on stderr.

        Piped, columns are padded with spaces and nothing is cut off; a terminal's width is kept by folding cells.
        """
        cells = [[_cell(each) for each in row] for row in rows]
        if not cells and empty is not None:
            self.note(empty)
            return
        if sys.stdout.isatty():
            self._drawn(columns, cells, right)
        else:
            _aligned(columns, cells, right, sys.stdout)

    def row(
        self,
        cells: Sequence[object],
        columns: Sequence[tuple[str, int]],
        right: Sequence[str] = (),
        *,
        style: str | None = None,
    ) -> None:
        """One row at once, of a table that comes bit by bit: `columns` are names and least widths."""
        padded = (
            _cell(cell).rjust(width) if name in right else _cell(cell).ljust(width)
            for cell, (name, width) in zip(cells, columns, strict=True)
        )
        text = "  ".join(padded).rstrip()
        if style is None or self._colourless or not sys.stdout.isatty():
            print(text, flush=True)
        else:
            self.console().print(text, style=style)

    def confirm(self, question: str) -> bool:
        """Asks a person; nobody there is a no."""
        if not self.asks:
            return False
        print(f"{visible(question)} [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    @contextmanager
    def progress(self, what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
        """A bar on stderr while something takes long; call it with each step's size. Nothing where nobody looks on."""
        if self.json or not sys.stderr.isatty():
            yield lambda _: None
            return
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn

        console = self.console(stderr=True)
        columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        with Progress(*columns, console=console, transient=True) as progress:
            task = progress.add_task(what, total=total)
            yield lambda steps: progress.advance(task, steps)

    def _drawn(self, columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str]) -> None:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, header_style="bold", pad_edge=False)
        for name in columns:
            table.add_column(name, justify="right" if name in right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(each) for each in row))
        Console(no_color=self._colourless, highlight=False).print(table)


def _in_unicode() -> bool:
    """Whether stdout takes every character as it is; JSON has escapes of its own for the others."""
    return (sys.stdout.encoding or "ascii").lower().replace("_", "-").startswith("utf")


def _cell(value: object) -> str:
    match value:
        case None:
            return "-"
        case bool():
            return "yes" if value else "no"
        case list() | tuple():
            return ",".join(visible(str(each)) for each in value) or "none"
        case _:
            return visible(str(value))


def _aligned(columns: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[str], file: TextIO) -> None:
    shown = [list(columns), *rows]
    widths = [max(map(len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        padded = (
            cell.rjust(width) if name in right else cell.ljust(width)
            for name, cell, width in zip(columns, row, widths, strict=True)
        )
        print("  ".join(padded).rstrip(), file=file)
