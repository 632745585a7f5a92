"""Tables at the widths of real terminals: no line is too long, no word is broken, and nothing is left out."""

from __future__ import annotations

import os
import pty
import re

import pytest

from lensmount_client._cli.terminal import print_table
from lensmount_client._show.table import Facts, Table

ADAPTERS = [
    ("malaria", "12", "lora", "Parasitized, Uninfected", "1.2 MB", "ready", "prod=11, next=12", "calibrated, sets"),
    ("histology-crc", "3", "dora", "adipose tissue, debris, lymphocytes, mucus", "840.0 kB", "quarantined", "", ""),
    ("カメラ", "1", "lora", "a, b", "12 B", "ready", "", "calibrated"),
]
COLUMNS = ("name", "version", "method", "labels", "size", "status", "aliases", "trust")


def table() -> Table:
    made = Table(*COLUMNS, right=["version", "size"])
    for row in ADAPTERS:
        made.add_row(*row)
    return made


def cells_of(line: str) -> int:
    """Columns of a terminal, of which these Japanese letters take two each."""
    return sum(2 if letter > "\u3000" else 1 for letter in line)


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 200])
def test_no_line_is_longer_than_the_terminal_and_no_word_is_broken(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    print_table(table())
    out = capsys.readouterr().out

    assert max(map(cells_of, out.splitlines())) <= width
    words = [word for row in ADAPTERS for value in row for word in value.split()]
    assert [word for word in words if word not in out.split()] == []


def test_what_does_not_fit_stands_below_its_row_with_its_name(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    print_table(table())

    assert capsys.readouterr().out.splitlines() == [
        "name           version  method      size  status       aliases",
        "malaria             12  lora      1.2 MB  ready        prod=11, next=12",
        "  labels: Parasitized, Uninfected",
        "  trust: calibrated, sets",
        "histology-crc        3  dora    840.0 kB  quarantined",
        "  labels: adipose tissue, debris, lymphocytes, mucus",
        "カメラ               1  lora        12 B  ready",
        "  labels: a, b",
        "  trust: calibrated",
    ]


def test_a_file_or_another_program_gets_one_line_for_each_row(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    wide = Table("name", "text")
    wide.add_row("a", "many words " * 100)
    print_table(wide)

    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_terminal_s_own_width_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    ours, theirs = pty.openpty()
    os.set_blocking(ours, False)
    with os.fdopen(theirs, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr("sys.stdout", terminal)
        monkeypatch.setattr(os, "get_terminal_size", lambda *_: os.terminal_size((60, 25)))
        print_table(table())
        terminal.flush()
        shown = os.read(ours, 100_000).decode()
    os.close(ours)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert max(map(cells_of, plain.splitlines())) <= 60
    assert "  trust: calibrated, sets" in plain


def test_facts_are_lines_of_a_word_and_its_values(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    facts = Facts()
    facts.add("state", "succeeded")
    facts.add("error", "")
    facts.add("notes", "first note of several words", "second\x1b[2J")
    print_table(facts)

    assert capsys.readouterr().out.splitlines() == [
        "state  succeeded",
        "notes  first note of several",
        "       words",
        "       second\N{REPLACEMENT CHARACTER}[2J",
    ]


def test_names_cannot_move_the_cursor_or_write_markup(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    hostile = Table("name")
    hostile.add_row("[red]a[/red]\x1b[2J\r\n")
    print_table(hostile)

    assert "[red]a[/red]\N{REPLACEMENT CHARACTER}[2J" in capsys.readouterr().out
