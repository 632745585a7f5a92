"""The table of sizes: one row per layer, its totals, and the files that it writes."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.report.size_table import SizeTable, size_table


@pytest.fixture(scope="module")
def table() -> SizeTable:
    return size_table("test_efficientnet", (4, 2, 4), r"^blocks\.1\.")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_has_one_row_per_layer_and_their_sums(table: SizeTable) -> None:
    heads, _, *rows, total = map(cells, table.markdown().splitlines())
    assert heads[3:7] == ["lora 2", "lora-tucker 2", "lora 4", "lora-tucker 4"]
    assert {len(row) for row in (heads, *rows, total)} == {10}
    assert [row[0] for row in rows] == [target.module for target in table.targets]
    for column in range(2, 7):
        assert sum(int(row[column].replace(",", "")) for row in rows) == int(total[column].replace(",", ""))


def test_a_kxk_convolution_has_three_break_even_ranks_and_a_pointwise_one_has_one(table: SizeTable) -> None:
    rows = {row[0]: row for row in map(cells, table.markdown().splitlines()[2:])}
    shapes = {target.module: target.shape for target in table.targets}
    kxk = next(module for module, shape in shapes.items() if shape[2:] == (3, 3))
    pointwise = next(module for module, shape in shapes.items() if shape[2:] == (1, 1))
    assert all(rows[kxk][7:])
    assert [bool(cell) for cell in rows[pointwise][7:]] == [True, False, False]


def test_without_an_expression_it_counts_the_layers_that_training_adapts() -> None:
    targets = size_table("resnet10t", (8,)).targets
    assert {target.module.partition(".")[0] for target in targets} == {"layer3", "layer4"}


def test_the_suffix_selects_the_format(table: SizeTable, tmp_path: Path) -> None:
    assert table.write(tmp_path / "sizes.md").read_text().endswith(table.markdown())
    with Image.open(table.write(tmp_path / "sizes.png")) as image:
        assert image.format == "PNG"
    assert "<svg" in table.write(tmp_path / "sizes.svg").read_text()
    with pytest.raises(TrainingError, match=r"found --out sizes\.pdf, expected .*\.md, \.png or \.svg"):
        table.write(tmp_path / "sizes.pdf")
