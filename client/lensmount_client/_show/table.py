"""Tables for terminals, by one rule: a row is a line, and what does not fit into it is listed below it.

If a line is too long for the terminal, the widest column leaves it, of two the last one, and so on. Its values are then
listed below their rows, with its name. So no word is cut at any width. What goes into a file or to another program has
one line per row, however long.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.text import Text

from lensmount_client._show.text import printable

GAP = 2  # characters between two columns


class Table:
    """`table = Table("name", "size", right=["size"])`, then `table.add_row("cells", "1.2 MB")` for each row."""

    def __init__(self, *columns: str, right: Collection[str] = (), title: str = "") -> None:
        self.columns = columns
        self.title = title
        self.rows: list[tuple[str, ...]] = []
        self._right = frozenset(right)

    def add_row(self, *values: str) -> None:
        """One value for each column. Names come from files and servers, so what moves a cursor is replaced."""
        self.rows.append(tuple(printable(value) for value in values))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        most = _most(console, options)
        widths = [max(map(cell_len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        inline = _fitting(widths, most)
        if self.title:
            yield Text(self.title, style="italic")
        yield _line(self._cells(self.columns, widths, inline), most, "bold")
        for row in self.rows:
            yield _line(self._cells(row, widths, inline), most)
            for index, (name, value) in enumerate(zip(self.columns, row, strict=True)):
                if index not in inline and value:
                    yield from _wrapped(console, " " * GAP, 2 * GAP, f"{name}: {value}", most)

    def _cells(self, values: Sequence[str], widths: Sequence[int], inline: Sequence[int]) -> str:
        cells = []
        for index in inline:
            blanks = " " * (widths[index] - cell_len(values[index]))
            right = self.columns[index] in self._right
            cells.append(blanks + values[index] if right else values[index] + blanks)
        return (" " * GAP).join(cells).rstrip()


class Facts:
    """`facts = Facts()`, then `facts.add("size", "1.2 MB")`: a word and its values, each on lines of its own."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, tuple[str, ...]]] = []

    def add(self, word: str, *values: str) -> None:
        """A word without any value is left out."""
        if any(values):
            self.rows.append((printable(word), tuple(printable(value) for value in values)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        most = _most(console, options)
        width = max((cell_len(word) for word, _ in self.rows), default=0) + GAP
        for word, values in self.rows:
            head = word + " " * (width - cell_len(word))
            for value in values:
                yield from _wrapped(console, head, width, value, most)
                head = " " * width


def _most(console: Console, options: ConsoleOptions) -> int:
    """How long a line may be. The variable COLUMNS states a width for what is no terminal, too."""
    return options.max_width if console.is_terminal or "COLUMNS" in os.environ else sys.maxsize


def _line(text: str, most: int, style: str = "") -> Text:
    endless = most == sys.maxsize
    return Text(text, style=style, overflow="ignore" if endless else "fold", no_wrap=endless)


def _wrapped(console: Console, head: str, indent: int, text: str, most: int) -> Iterator[Text]:
    """The text behind a head, wrapped between words; further lines have blanks in place of the head."""
    for line in Text(text, overflow="fold").wrap(console, max(1, most - indent)):
        yield _line(head + line.plain.rstrip(), most)
        head = " " * indent


def _fitting(widths: Sequence[int], most: int) -> list[int]:
    """The columns that stay in the line. The first one always does: it says what the row is about."""
    inline = list(range(len(widths)))
    while len(inline) > 1 and sum(widths[index] + GAP for index in inline) - GAP > most:
        inline.remove(max(inline[1:], key=lambda index: (widths[index], index)))
    return inline
