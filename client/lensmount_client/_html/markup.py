"""Markup that holds any text, in colours for light and dark pages: the text's own colour, at several strengths."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

BAR = "#3b82f6"  # 3.7 to 1 on white and 5.1 to 1 on #111: bars are seen on both
_CELL = "padding:2px 8px;text-align:{};border:0;vertical-align:middle"
_TRACK = "display:inline-block;width:120px;height:10px;border-radius:5px;overflow:hidden;vertical-align:middle"


def text(value: object) -> str:
    """Any text, such as a label from a file of strangers, so that no character of it is markup."""
    return escape(str(value), quote=True)


def frame(*parts: str) -> str:
    """A card with parts side by side, which wrap on a narrow page. The parts are markup."""
    inner = "".join(f'<div style="max-width:100%">{part}</div>' for part in parts if part)
    return (
        '<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start;color:inherit;'
        f'font-family:system-ui,sans-serif;font-size:13px">{inner}</div>'
    )


def line(value: object, strong: bool = False) -> str:
    """One line of text."""
    return f'<div style="margin:2px 0;{"font-weight:600" if strong else "opacity:.75"}">{text(value)}</div>'


def bar(share: float, title: str) -> str:
    """A bar for a share from 0 to 1, and the share in percent. A screen reader reads `title`."""
    filled = (
        f'<span style="display:block;height:100%;width:{100 * min(max(share, 0.0), 1.0):.1f}%;background:{BAR}"></span>'
    )
    track = f'<span style="{_TRACK};background:rgba(128,128,128,.25)">{filled}</span>'
    return f'<span role="img" aria-label="{text(title)} {share:.1%}">{track}</span> {share:.1%}'


def table(head: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[int] = ()) -> str:
    """A table. Heads are text, cells are markup; the columns `right` hold numbers."""

    def cells(tag: str, row: Sequence[str]) -> str:
        sides = ["right" if column in right else "left" for column in range(len(row))]
        return "".join(
            f'<{tag} style="{_CELL.format(side)}">{cell}</{tag}>' for cell, side in zip(row, sides, strict=True)
        )

    top = f"<thead><tr>{cells('th', [text(word) for word in head])}</tr></thead>" if any(head) else ""
    body = "".join(f'<tr style="background:transparent">{cells("td", row)}</tr>' for row in rows)
    return f'<table style="border-collapse:collapse;color:inherit;border:0">{top}<tbody>{body}</tbody></table>'


def bars(scores: Iterable[tuple[str, float]]) -> str:
    """One row for each label: its name and its score from 0 to 1 as a bar."""
    return table(("", ""), ((text(label), bar(score, label)) for label, score in scores))
