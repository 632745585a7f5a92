"""Every command and Python block of the README and the docs runs as printed, against a server with the zoo."""

from __future__ import annotations

import ast
import csv
import json
import os
import re
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent
URL = "http://127.0.0.1:8000"
PAGES = ["README.md", "docs/quickstart.md", "docs/sdk.md", "docs/oip.md", "docs/twins.md", "docs/rollouts.md"]
RIGHT = {
    "cell-parasitized.png": "Parasitized",
    "cell-parasitized-2.png": "Parasitized",
    "cell-uninfected.png": "Uninfected",
    "cell-uninfected-2.png": "Uninfected",
    "tissue-normal.png": "lung_n",
    "tissue-adenocarcinoma.png": "lung_aca",
    "smoker.png": "smoking",
    "leaf-birch.png": "birch",
    "leaf-maple.png": "maple",
    "leaf-oak.png": "oak",
}
TASK = {"cell": "malaria", "tissue": "histology", "smoker": "smoking"}
MATCHING = {  # sample images: the adapters that examples may ask about them
    "cell": {"malaria", "my-malaria", "second-opinion", "second-opinion:prod", "smears", "smears:prod"},
    "tissue": {"histology"},
    "smoker": {"smoking"},
    "leaf": {"leaves", "leaf-draft", "trees"},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """`lensmount serve --with-worker`, on a free port and a new state folder; yields its URL."""
    state = tmp_path_factory.mktemp("state")
    process = subprocess.Popen(
        [sys.executable, "-m", "lensmount_client", "serve", "--with-worker", "--port", "0", "--state", str(state)],
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    ready = threading.Event()

    assert process.stderr is not None
    errors = process.stderr

    def drain() -> None:
        for line in errors:
            lines.append(line)
            if "url=" in line:
                ready.set()
        ready.set()

    thread = threading.Thread(target=drain)
    thread.start()
    try:
        assert ready.wait(120)
        url = re.search(r"url=(\S+)", "".join(lines))
        assert url, "".join(lines)
        yield url[1]
    finally:
        process.terminate()
        code = process.wait(300)
        thread.join()
        errors.close()
    assert code == 0


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands(block: str) -> list[str]:
    lines = [line.partition("   #")[0].strip() for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("make ")]


def stories() -> Iterator[Any]:
    """The bash blocks of the pages, each with its commands in order; one that two pages share runs once."""
    seen = []
    for page in PAGES:
        for block in blocks(page, "bash"):
            lines = commands(block)
            if lines and lines not in seen:
                seen.append(lines)
                yield pytest.param(lines, id=f"{page}: {lines[0][:60]}")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the checkout's images and adapters, in which commands may write."""
    for name in ("samples", "adapters"):
        (tmp_path / name).symlink_to(ROOT / name)
    return tmp_path


@pytest.mark.parametrize("lines", list(stories()))
def test_the_commands_of_each_block_run_as_printed_and_answer_rightly(server: str, lines: Any, checkout: Path) -> None:
    for line in lines:
        words = [word.replace(URL, server) for word in shlex.split(line)]
        if words[0] == "curl":
            words[1:1] = ["--silent", "--show-error", "--fail-with-body"]
        else:
            assert words[0] == ".venv/bin/lensmount"
            words[:1] = [sys.executable, "-m", "lensmount_client"]
            if words[3] == "predict" and "--out" not in words:
                words.append("--json")
        env = os.environ | {"LENSMOUNT_URL": server}
        ran = subprocess.run(words, cwd=checkout, env=env, capture_output=True, text=True, timeout=500)
        assert ran.returncode == 0, line + ran.stdout + ran.stderr
        if words[0] == "curl":
            assert "predictions" in ran.stdout
        check_answers(line, ran.stdout, checkout)


def check_answers(line: str, printed: str, folder: Path) -> None:
    """Every sample image that a command asks about gets its right label."""
    found = {}
    if line.startswith("curl"):
        answer = json.loads(printed)
        names = re.findall(r"samples/([\w.-]+)", line)
        rows = answer.get("results", [answer])
        found = {name: row["predictions"][0]["label"] for name, row in zip(names, rows, strict=True)}
    elif " predict " in line and " --out " in line:
        with (folder / shlex.split(line)[-1]).open(newline="") as file:
            found = {Path(row["file"]).name: row["label"] for row in csv.DictReader(file)}
    elif " predict " in line:
        found = {Path(row["file"]).name: row["label"] for row in json.loads(printed)["results"]}
    assert found or " predict" not in line
    assert found == {name: RIGHT[name] for name in found}


def test_no_example_asks_an_adapter_about_images_that_it_was_not_trained_on() -> None:
    """In all pages and in all code: a line that names a sample image and an adapter names a matching pair."""
    asked = []
    folders = [ROOT / name for name in ("docs", "examples", "recipes", "samples", "service", "adapters", "client")]
    files = [path for folder in folders for path in folder.rglob("*") if path.suffix in {".md", ".py", ".js", ".html"}]
    for path in [ROOT / "README.md", *files]:
        for line in path.read_text().splitlines():
            images = re.findall(r"samples/(?:\{?)(cell|tissue|smoker|leaf|street)", line)
            adapters = re.findall(r"adapter[=s]? ?[=\"'(]*([a-z][\w:,-]*)", line) if images else []
            asked += [(path.name, image, name) for image in images for name in ",".join(adapters).split(",") if name]
    assert len(asked) >= 10
    wrong = [(page, image, name) for page, image, name in asked if name not in MATCHING.get(image, ())]
    assert wrong == []


@pytest.mark.parametrize(("page", "number"), [(page, n) for page in PAGES for n in range(len(blocks(page, "python")))])
def test_each_python_block_runs_as_printed(server: str, page: Any, number: Any) -> None:
    printed, served = (text.removeprefix("http://") for text in (URL, server))  # some clients take no scheme
    code = blocks(page, "python")[number].replace(URL, server).replace(printed, served)

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    expected = re.findall(r"print\(.*\)  # (.+)", code)
    assert [line for line in ran.stdout.splitlines() if line in expected] == expected


NOTEBOOK = ROOT / "docs/notebooks/quickstart.ipynb"
SHOW = """
def show(value):
    if value is not None:
        print("<html>" if hasattr(value, "_repr_html_") and value._repr_html_() else "text", value)
"""


def cells() -> list[str]:
    """The code of the notebook, cell by cell."""
    document = json.loads(NOTEBOOK.read_text())
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == "code"]


def shown(cell: str) -> str:
    """A cell that shows the value of its last line, as a notebook does."""
    tree = ast.parse(cell)
    last = tree.body[-1]
    if isinstance(last, ast.Expr):
        tree.body[-1] = ast.Expr(ast.Call(ast.Name("show", ast.Load()), [last.value], []))
    return ast.unparse(ast.fix_missing_locations(tree))


def test_the_notebook_goes_from_a_folder_to_a_live_adapter_in_six_cells(server: str) -> None:
    assert len(cells()) == 6
    code = SHOW + "\n".join(map(shown, cells())).replace(URL, server)

    ran = subprocess.run([sys.executable, "-c", code], cwd=NOTEBOOK.parent, capture_output=True, text=True, timeout=500)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0] == "text ok"
    assert re.match(r"trees@1: 3 classes, balanced accuracy [0-9.]+% on 9 test images", lines[1])
    assert [line.partition(" ")[0] for line in lines if line.startswith("<html>")] == ["<html>"] * 4
    assert "on 60 images" in lines[-1]


def test_the_notebook_is_stored_without_outputs() -> None:
    code = [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)


@pytest.mark.parametrize("sample", [name for name in RIGHT if re.split(r"[-.]", name)[0] in TASK])
def test_each_sample_image_gets_the_right_answer(server: str, sample: str) -> None:
    from lensmount_client import Client

    with Client(server) as client:
        prediction = client.predict(ROOT / "samples" / sample, adapter=TASK[re.split(r"[-.]", sample)[0]])
        assert prediction.top.label == RIGHT[sample]
        assert client.integrity().ok


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_between_the_pages_lead_somewhere() -> None:
    folders = [ROOT / name for name in ("docs", "examples", "recipes", "samples")]
    pages = [
        ROOT / "README.md",
        ROOT / "CONTRIBUTING.md",
        *(page for folder in folders for page in folder.rglob("*.md")),
    ]
    for page in pages:
        for target, anchor in re.findall(r"\]\(([^)#:]*)#?([^):]*)\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name} -> {target}"
            assert not anchor or anchor in anchors(there), f"{page.name} -> {target}#{anchor}"


def test_the_index_of_decisions_leads_to_each_record() -> None:
    text = (ROOT / "docs/decisions.md").read_text()
    records = re.findall(r"^###? (.+)$", text, re.MULTILINE)
    listed = dict(re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", text))
    assert list(listed) == records
    for title, anchor in listed.items():
        assert anchor == re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
