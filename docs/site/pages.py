"""Collects the pages of the site: those of docs/, others of the repository, and those that are made from the code.

On the forge every page is read as it is in the repository. The site has one folder, so links to files elsewhere are
written again: a page leads to its place on the site, any other file is copied, and a folder becomes plain text.
"""

from __future__ import annotations

import os
import posixpath
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from docs.site.generated import GENERATED, with_messages

ROOT = Path(__file__).parents[2]
ELSEWHERE = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "CHANGELOG.md": "changelog.md"}
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]*)(#[^)\s]*)?\)")
CODE = re.compile(r"^```.*?^```$|`[^`\n]*`", re.MULTILINE | re.DOTALL)
SECTION = re.compile(r"^\[[^\]]*\]\(([^)#]*)#([^)]*)\)<!-- the site has this section here -->$", re.MULTILINE)


def page_places(root: Path = ROOT) -> dict[str, str]:
    """Every Markdown page: its path in the repository to its path on the site."""
    places = dict(ELSEWHERE)
    for folder, place in (("docs", ""), ("adapters/zoo", "zoo/"), ("recipes", "recipe/"), ("samples", "samples/")):
        for page in sorted((root / folder).glob("*.md")):
            places[f"{folder}/{page.name}"] = place + page.name.replace("README", "about")
    return places


def collect(out: Path, root: Path = ROOT) -> None:
    """Write all pages and the files that they show or name into `out`, which is emptied first."""
    shutil.rmtree(out, ignore_errors=True)
    places = page_places(root)
    for source, place in places.items():
        text = (root / source).read_text()
        if source == "docs/troubleshooting.md":
            text = with_messages(text, root)
        _write(out / place, rewritten(with_sections(text, source, root), source, places, out, root))
    for place, made in GENERATED.items():
        _write(out / place, made())


def with_sections(text: str, source: str, root: Path = ROOT) -> str:
    """Put the section of another page where a marked link to it is, with headings one level further down."""

    def section(found: re.Match[str]) -> str:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), found[1]))
        return _outside_code(section_of((root / path).read_text(), found[2]), _links_from(path, source)).strip()

    return SECTION.sub(section, text)


def section_of(text: str, anchor: str) -> str:
    """The text below the heading with this anchor, up to the next heading of its level. Raises ValueError."""
    lines = text.splitlines(keepends=True)
    for start, line in enumerate(lines):
        heading = re.match(r"(#+) (.+)", line)
        if heading and slug(heading[2]) == anchor:
            ends = (n for n in range(start + 1, len(lines)) if re.match(rf"#{{1,{len(heading[1])}}} ", lines[n]))
            return "".join(lines[start + 1 : next(ends, len(lines))])
    raise ValueError(f"found no heading #{anchor}, expected it. Fix: correct the link to the section")


def slug(heading: str) -> str:
    """The anchor that the forge gives to a heading; mkdocs.yml asks for the same."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


def rewritten(text: str, source: str, places: dict[str, str], out: Path, root: Path = ROOT) -> str:
    """The page with links that lead to the right place on the site. Raises FileNotFoundError for one to nothing."""
    here = posixpath.dirname(places[source])

    def link(image: str, label: str, target: str, anchor: str) -> str:
        if not target or ":" in target:
            return f"{image}[{label}]({target}{anchor})"
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        if not (root / path).exists():
            raise FileNotFoundError(f"{source}: found a link to {target}, expected a file of the repository")
        if (root / path).is_dir():
            return label
        place = places.get(path) or _copied(path, out, root)
        return f"{image}[{label}]({posixpath.relpath(place, here or '.')}{anchor})"

    return _outside_code(text, link)


def _links_from(path: str, source: str) -> Callable[[str, str, str, str], str]:
    """Links of a section that moves from one page to another."""

    def link(image: str, label: str, target: str, anchor: str) -> str:
        if ":" not in target:
            there = posixpath.normpath(posixpath.join(posixpath.dirname(path), target)) if target else path
            target = posixpath.relpath(there, posixpath.dirname(source) or ".")
        return f"{image}[{label}]({target}{anchor})"

    return link


def _outside_code(text: str, link: Callable[[str, str, str, str], str]) -> str:
    """The text with every link replaced, except for what looks like one in code."""
    kept: list[str] = []

    def keep(found: re.Match[str]) -> str:
        kept.append(found[0])
        return f"\0{len(kept) - 1}\0"

    masked = CODE.sub(keep, text)
    done = LINK.sub(lambda found: link(found[1], found[2], found[3], found[4] or ""), masked)
    return re.sub(r"\0(\d+)\0", lambda found: kept[int(found[1])], done)


def _copied(path: str, out: Path, root: Path) -> str:
    """Copy a file of the repository to the site; returns its place."""
    place = path.removeprefix("docs/") if path.startswith("docs/") else f"files/{path}"
    if Path(path).suffix in ("", ".toml"):
        place += ".txt"  # a browser shows it instead of storing it
    (out / place).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(root / path, out / place)
    return place


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    collect(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "pages")
