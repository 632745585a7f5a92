"""The site of the documentation: its pages, its links, an entry for every code, and nothing from another host."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from docs.site.generated import messages_of, with_messages
from docs.site.pages import collect, page_places, rewritten, section_of, with_sections

import lensmount_service.build  # noqa: F401  # every error class, so that CODES has them all
from lensmount_service.web.problems import CODES, NEVER_SENT

ROOT = Path(__file__).parent.parent
TROUBLES = (ROOT / "docs/troubleshooting.md").read_text()
AT_START = {"backbone_unavailable", "weights_mismatch", "executor_unavailable"}


def test_every_code_has_one_entry_with_its_status_and_a_fix() -> None:
    entries = re.findall(
        r"^### `(\w+)`\n\n(?:Status (\d+)|Exit status 78)\. (.+)\n\n\*\*Fix:\*\* (.+)$", TROUBLES, re.MULTILINE
    )
    assert TROUBLES.count("\n### ") == len(entries)
    assert {code: int(status) for code, status, _, _ in entries if status} == {
        code: status for code, status in CODES.items() if code not in NEVER_SENT
    }
    assert {code for code, status, _, _ in entries if not status} == AT_START
    assert len(entries) == len({code for code, *_ in entries})


def test_the_messages_of_a_code_are_those_of_the_source() -> None:
    messages = messages_of(ROOT)
    assert "found an empty body, expected the bytes of an image. Fix: send the file" in messages["image_empty"]
    without = {code for code in CODES.keys() - NEVER_SENT if not messages.get(code)}
    assert len(without) < 30  # messages that are put together elsewhere
    page = with_messages(TROUBLES, ROOT)
    assert "* found an empty body, expected the bytes of an image. Fix: send the file\n" in page
    assert page.count("The server says, for example:") > 100


def test_links_lead_to_the_place_of_a_page_on_the_site(tmp_path: Path) -> None:
    places = page_places()
    text = (
        "[a](docs/api.md#trust) [b](LICENSE) [c](samples) ![d](docs/images/idea.svg) `[e](f.md)` [g](https://h.example)"
    )
    assert rewritten(text, "README.md", places, tmp_path) == (
        "[a](api.md#trust) [b](files/LICENSE.txt) c ![d](images/idea.svg) `[e](f.md)` [g](https://h.example)"
    )
    assert (tmp_path / "files/LICENSE.txt").is_file()
    assert rewritten("[a](../../docs/api.md)", "adapters/zoo/malaria.md", places, tmp_path) == "[a](../api.md)"
    with pytest.raises(FileNotFoundError, match="a link to nowhere"):
        rewritten("[a](nowhere.md)", "README.md", places, tmp_path)


def test_a_marked_link_becomes_the_section_that_it_leads_to() -> None:
    page = (ROOT / "docs/comparison.md").read_text()
    shown = with_sections(page, "docs/comparison.md")
    assert "the site has this section here" in page
    assert "the site has this section here" not in shown
    assert "| one more task costs |" in shown
    assert "](measurements.md" in shown
    assert "docs/measurements.md" not in shown  # links of README lead on from docs/
    with pytest.raises(ValueError, match="no heading #nothing"):
        section_of(page, "nothing")


def test_the_site_builds_strictly_and_loads_nothing_from_another_host(tmp_path: Path) -> None:
    pytest.importorskip("zensical", reason="needs the extra docs")
    collect(tmp_path / "pages")
    config = (ROOT / "mkdocs.yml").read_text()
    changes = {
        "docs_dir: build/pages": "docs_dir: pages",
        "site_dir: build/site": "site_dir: site",
        "[client]": f"[{ROOT / 'client'}]",
    }
    for old, new in changes.items():
        assert old in config
        config = config.replace(old, new)
    (tmp_path / "mkdocs.yml").write_text(config)
    zensical = [sys.executable, "-m", "zensical", "build", "--strict"]
    built = subprocess.run(zensical, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert built.returncode == 0, built.stdout + built.stderr

    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) >= len(page_places())
    for page in pages:
        loaded = re.findall(r"""<(?:script|img|link|iframe)\b[^>]*?(?:src|href)="([^"]*)\"""", page.read_text())
        assert [target for target in loaded if target.startswith(("http:", "https:", "//"))] == [], page.name
    assert "adapter_not_found" in (tmp_path / "site/search.json").read_text()
    assert "predict_many" in (tmp_path / "site/reference/sdk.html").read_text()


def test_the_navigation_has_the_four_kinds_of_pages() -> None:
    kinds = re.findall(r"^  - ([\w-]+):$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    assert kinds[-4:] == ["Tutorials", "How-to", "Reference", "Explanation"]
