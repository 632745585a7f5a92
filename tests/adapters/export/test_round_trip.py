"""An adapter that is exported to PEFT or LyCORIS and imported again has the same deltas, ranks and logits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters import Adapter, Backbone, admit
from lensmount_adapters.export.export import export_adapter
from lensmount_adapters.foreign.convert import convert


@pytest.mark.parametrize("name", ["test_resnet", "test_vit", "test_efficientnet"])
@pytest.mark.parametrize(
    ("to", "method"), [("peft", "lora"), ("peft", "mixed"), ("lycoris", "lora"), ("lycoris", "lora-tucker")]
)
def test_export_and_import_give_the_same_logits_deltas_and_ranks(
    to: str, method: str, name: str, tmp_path: Path, small: Any, draw_on: Any, images: Any, served: Any, error_of: Any
) -> None:
    backbone: Backbone = small(name)
    adapter: Adapter = draw_on(backbone, method, temperature=1.0, labels=("oak", "elm", "ash"))
    x = images(adapter)
    export_adapter(adapter, backbone, to, tmp_path / "out")

    back = admit(convert(tmp_path / "out", backbone, name="back", labels=("oak", "elm", "ash")).data, backbone)

    assert back.manifest.labels == adapter.manifest.labels
    assert error_of(served(back, backbone, x), served(adapter, backbone, x)) < 1e-5
    before = {delta.target.name: delta for delta in adapter.deltas}
    assert {delta.target.name for delta in back.deltas} == before.keys()
    for delta in back.deltas:
        base = backbone.tensors[delta.target.name]
        assert error_of(delta.merged(base) - base, before[delta.target.name].merged(base) - base) < 1e-5
    ranks = {delta.target.name: delta.rank for delta in back.deltas if delta.rank is not None}
    assert method == "mixed" or ranks  # factors come back as factors
    assert all(before[name].rank == rank for name, rank in ranks.items())
