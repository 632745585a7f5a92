"""Every command and Python block of the README and the docs runs as printed, against a server with the zoo."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import threading
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
URL = "http://127.0.0.1:8000"
PAGES = ["README.md", "docs/quickstart.md"]
RIGHT = {
    "cell-parasitized.png": "Parasitized",
    "cell-parasitized-2.png": "Parasitized",
    "cell-uninfected.png": "Uninfected",
    "cell-uninfected-2.png": "Uninfected",
    "tissue-normal.png": "lung_n",
    "tissue-adenocarcinoma.png": "lung_aca",
    "smoker.png": "smoking",
}
TASK = {"cell": "malaria", "tissue": "histology", "smoker": "smoking"}


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """`lensmount serve` with its defaults, on a free port and a new state folder; yields its URL."""
    state = tmp_path_factory.mktemp("state")
    process = subprocess.Popen(
        [sys.executable, "-m", "lensmount_client", "serve", "--port", "0", "--state", str(state)],
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: list[str] = []
    ready = threading.Event()

    def drain():
        for line in process.stderr:
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
        process.stderr.close()
    assert code == 0


def blocks(page, language):
    return re.findall(rf"^```{language}\n(.*?)^```", (ROOT / page).read_text(), re.MULTILINE | re.DOTALL)


def commands():
    for page in PAGES:
        for block in blocks(page, "bash"):
            for line in block.splitlines():
                line = line.partition("   #")[0].strip()
                if line and not line.startswith("make "):
                    yield pytest.param(line, id=f"{page}: {line[:60]}")


@pytest.mark.parametrize("line", list(commands()))
def test_each_command_runs_as_printed(server, line, tmp_path):
    words = [word.replace(URL, server) for word in shlex.split(line)]
    if words[0] == "curl":
        words[1:1] = ["--silent", "--show-error", "--fail-with-body"]
    else:
        assert words[0] == ".venv/bin/lensmount"
        words[:1] = [sys.executable, "-m", "lensmount_client"]
    words = [str(tmp_path / word) if word == "results.csv" else word for word in words]
    ran = subprocess.run(words, cwd=ROOT, env={"LENSMOUNT_URL": server}, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    if words[0] == "curl":
        assert "predictions" in ran.stdout
        json.loads(ran.stdout)


@pytest.mark.parametrize(("page", "number"), [(page, n) for page in PAGES for n in range(len(blocks(page, "python")))])
def test_each_python_block_runs_as_printed(server, page, number):
    code = blocks(page, "python")[number].replace(URL, server)

    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert ran.returncode == 0, ran.stderr
    expected = re.findall(r"print\(.*\)  # (.+)", code)
    assert [line for line in ran.stdout.splitlines() if line in expected] == expected


@pytest.mark.parametrize("sample", RIGHT)
def test_each_sample_image_gets_the_right_answer(server, sample):
    from lensmount_client import Client

    with Client(server) as client:
        prediction = client.predict(ROOT / "samples" / sample, adapter=TASK[re.split(r"[-.]", sample)[0]])
        assert prediction.top.label == RIGHT[sample]
        assert client.integrity().ok


def test_links_between_the_pages_lead_somewhere():
    for page in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} -> {target}"


def test_the_index_of_decisions_leads_to_each_record():
    text = (ROOT / "docs/decisions.md").read_text()
    records = re.findall(r"^###? (.+)$", text, re.MULTILINE)
    listed = dict(re.findall(r"\[([^\]]+)\]\(#([^)]+)\)", text))
    assert list(listed) == records
    for title, anchor in listed.items():
        assert anchor == re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
