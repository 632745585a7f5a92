"""The copies of the table are Python and Markdown that say what the table says."""

from __future__ import annotations

import runpy
from pathlib import Path

from lensmount_adapters.options import copies
from lensmount_adapters.options.option import Option
from lensmount_adapters.options.table import options_of_jobs

PAGE = f"# Training\n\n{copies.BEGIN}old rows\n{copies.END}\nThe rest.\n"


def test_the_client_s_module_has_every_option_of_a_job_when_it_is_run(tmp_path: Path) -> None:
    (tmp_path / "training_options.py").write_text(copies.client_module())
    found = runpy.run_path(str(tmp_path / "training_options.py"), run_name="training_options")
    assert [repr(option) for option in found["OPTIONS"]] == [repr(option) for option in options_of_jobs()]
    assert max(map(len, copies.client_module().splitlines())) <= 120


def test_a_table_is_written_between_the_markers_and_nowhere_else() -> None:
    option = Option("rank", "int", "", default=8, minimum=1, job_maximum=1000, help="The rank.", not_in_train="no")
    page = copies.with_table(PAGE, [option])
    assert page.startswith("# Training\n\n")
    assert page.endswith(f"{copies.END}\nThe rest.\n")
    assert "old rows" not in page
    assert "| `rank` | `8` | at least 1 (at most 1,000) | The rank. (not in the command: no) |\n" in page
    assert copies.with_table(page, [option]) == page


def test_writing_changes_the_client_s_module_and_the_tables_of_the_docs(tmp_path: Path) -> None:
    for name in (copies.CLIENT, *copies.TABLES):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(PAGE)
    copies.write(tmp_path)
    assert (tmp_path / copies.CLIENT).read_text() == copies.client_module()
    for name, options in copies.TABLES.items():
        assert (tmp_path / name).read_text() == copies.with_table(PAGE, options)
        assert "old rows" not in (tmp_path / name).read_text()
