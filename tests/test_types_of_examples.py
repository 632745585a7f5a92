"""pyright and mypy, both strict, accept every example of the docs, the notebook and the folder examples/."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OURS = {"lensmount_client", "lensmount_adapters"}
UNTYPED = {"tritonclient", "huggingface_hub", "boto3", "openai"}  # clients of other servers, whose types are theirs
START = "from lensmount_client import Client\n\nclient = Client()\n"  # what a block of a few calls leaves out
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.fixture(scope="module")
def checked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with each Python block of the pages, the notebook as one file, and the examples."""
    folder = tmp_path_factory.mktemp("typed")
    for page in PAGES:
        for number, block in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(), re.M | re.S)):
            if not re.search(rf"^ *(?:from|import) (?:{'|'.join(UNTYPED)})", block, re.M):
                begun = "" if re.search(r"^(?:from|import) ", block, re.M) else START
                (folder / f"{page.stem}_{number}.py").write_text(begun + block)
    cells = json.loads((ROOT / "docs/notebooks/quickstart.ipynb").read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    (folder / "notebook.py").write_text("\n".join(code) + "\n")
    for path in (ROOT / "examples").glob("*.py"):
        (folder / path.name).write_text(path.read_text())
    return folder


def test_there_are_examples_of_every_page_that_has_some(checked: Path) -> None:
    names = {path.name for path in checked.glob("*.py")}
    assert {"README_0.py", "quickstart_0.py", "sdk_0.py", "sdk_1.py", "notebook.py", "qupath.py"} <= names


def test_mypy_in_strict_mode_accepts_them(checked: Path, tmp_path: Path) -> None:
    settings = tmp_path / "mypy.ini"
    settings.write_text(
        "[mypy]\nstrict = true\nfollow_imports = silent\n"
        f"mypy_path = {':'.join(str(ROOT / name) for name in ('client', 'adapters'))}\n"
        "[mypy-gradio.*,pandas.*,timm.*,torch.*,torchvision.*,safetensors.*]\nignore_missing_imports = true\n"
        "follow_imports = skip\n"
    )
    command = [sys.executable, "-m", "mypy", "--config-file", str(settings), "--cache-dir", str(tmp_path / "cache")]
    ran = subprocess.run([*command, str(checked)], capture_output=True, text=True, timeout=600)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_pyright_in_strict_mode_accepts_them(checked: Path) -> None:
    pytest.importorskip("pyright", reason="needs pyright: pip install pyright")
    command = [sys.executable, "-m", "pyright"]
    try:
        found = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        pytest.skip("pyright fetches its own program at its first start, and there is no network")
    if found.returncode:
        pytest.skip(f"pyright needs node, and fetches its own program at its first start: {found.stderr[-200:]}")
    of_torch = [path.name for path in checked.glob("*.py") if "lensmount_adapters" in path.read_text()]
    settings = {
        "exclude": of_torch,  # reading torch takes pyright half a minute; mypy checks these
        "typeCheckingMode": "strict",
        "include": ["."],
        "extraPaths": [str(ROOT / name) for name in ("client", "adapters")],
        "reportMissingModuleSource": False,
        "pythonVersion": "3.11",
    }
    (checked / "pyrightconfig.json").write_text(json.dumps(settings))
    ran = subprocess.run(
        [*command, "--pythonpath", sys.executable, "--outputjson"],
        cwd=checked,
        capture_output=True,
        text=True,
        timeout=600,
    )
    report = json.loads(ran.stdout)
    without_gradio = [  # the one package that is not in the development install
        problem for problem in report["generalDiagnostics"] if Path(problem["file"]).name != "gradio_app.py"
    ]
    told = [f"{Path(p['file']).name}:{p['range']['start']['line'] + 1}: {p['message']}" for p in without_gradio]
    assert told == []
    assert report["summary"]["filesAnalyzed"] > 10
