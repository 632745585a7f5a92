"""The input of the branch, computed at each step or kept on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lensmount_adapters.adapter.manifest import LinearHead
from lensmount_adapters.augmentation.images import Augmentation, preset
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.delta.targets import select_targets
from lensmount_adapters.errors import TrainingError
from lensmount_adapters.training.trainable import TrainableAdapter
from lensmount_adapters.training.views import CachedViews, FreshViews, TrainingImages, affordable_views


@pytest.fixture(scope="module")
def adapter(backbone: Backbone) -> TrainableAdapter:
    return adapter_on(backbone, "lora")


def adapter_on(backbone: Backbone, method: str, targets: str | None = None) -> TrainableAdapter:
    selection = select_targets(backbone.name, backbone.targets, method, targets)
    return TrainableAdapter(backbone, selection, rank=4, alpha=8.0, head=LinearHead(), classes=3, seed=0)


def images(backbone: Backbone, rule: Augmentation, count: int = 20) -> TrainingImages:
    pixels = torch.randint(0, 256, (count, 3, 48, 48), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    return TrainingImages(pixels, rule, backbone.preprocessing.model_copy(update={"size": (48, 48)}))


def silent(done: int, total: int) -> None:
    pass


def test_views_without_augmentation_are_the_output_of_the_trunk(
    backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path
) -> None:
    data = images(backbone, Augmentation())
    cached = CachedViews(data, adapter, torch.float32, 2, 0, tmp_path / "views")
    fresh = FreshViews(data, adapter, torch.float32, torch.Generator())
    indices = torch.tensor([3, 17, 0])

    cached.prepare(1, silent)

    torch.testing.assert_close(cached.batch(1, indices), fresh.batch(1, indices))
    assert adapter.trunk is not None
    with torch.inference_mode():
        expected = backbone.features(data.draw(indices, torch.Generator(), backbone.device))
        found = adapter.branch(cached.batch(1, indices))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_views_differ_from_each_other_and_repeat_after_as_many_epochs(
    backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path
) -> None:
    views = CachedViews(images(backbone, preset("photo")), adapter, torch.float32, 3, 0, tmp_path / "views")
    indices = torch.arange(20)
    seen = []
    for epoch in range(1, 5):
        views.prepare(epoch, silent)
        seen.append(views.batch(epoch, indices).clone())

    for one, other in ((seen[0], seen[1]), (seen[1], seen[2])):
        assert (one - other).abs().max() > 1e-3 * one.abs().max()
    assert torch.equal(seen[0], seen[3])


def test_a_view_has_the_same_bits_whichever_epoch_asks_for_it_first(
    backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path
) -> None:
    data = images(backbone, preset("photo"))
    undisturbed = CachedViews(data, adapter, torch.float32, 3, 7, tmp_path / "one")
    for epoch in (1, 2):
        undisturbed.prepare(epoch, silent)
    resumed = CachedViews(data, adapter, torch.float32, 3, 7, tmp_path / "two")

    resumed.prepare(5, silent)  # epoch 5 sees the view of epoch 2

    indices = torch.arange(20)
    assert torch.equal(resumed.batch(5, indices), undisturbed.batch(2, indices))


def test_no_file_is_left_on_disk(backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path) -> None:
    views = CachedViews(images(backbone, preset("photo")), adapter, torch.bfloat16, 2, 0, tmp_path / "views")
    views.prepare(1, silent)

    assert list(tmp_path.iterdir()) == []
    assert views.nbytes == 2 * 20 * views.batch(1, torch.tensor([0])).numel() * 2  # views, images, bytes in bfloat16


def test_progress_counts_the_images(backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path) -> None:
    views = CachedViews(images(backbone, preset("photo")), adapter, torch.float32, 1, 0, tmp_path / "views")
    ticks: list[tuple[int, int]] = []

    views.prepare(1, lambda done, total: ticks.append((done, total)))
    views.prepare(2, lambda done, total: ticks.append((done, total)))

    assert ticks == [(16, 20), (20, 20)]


@pytest.mark.parametrize(
    ("asked", "views", "epochs", "kept"),
    [("auto", 4, 12, 4), ("auto", 4, 4, 0), ("off", 4, 12, 0), ("on", 4, 2, 4)],
)
def test_views_are_cached_if_an_epoch_sees_one_again(
    backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path, asked: str, views: int, epochs: int, kept: int
) -> None:
    data = images(backbone, preset("photo"))

    assert affordable_views(asked, views, epochs, data, adapter, torch.float32, tmp_path) == kept


def test_after_the_stem_alone_nothing_is_cached_unless_asked_for(backbone: Backbone, tmp_path: Path) -> None:
    data, norms = images(backbone, preset("photo")), adapter_on(backbone, "norm")

    assert affordable_views("auto", 4, 12, data, norms, torch.float32, tmp_path) == 0
    assert affordable_views("on", 4, 12, data, norms, torch.float32, tmp_path) == 4


def test_without_a_trunk_caching_views_is_refused(backbone: Backbone, tmp_path: Path) -> None:
    data, adapter = images(backbone, preset("photo")), adapter_on(backbone, "lora", "conv_stem")
    assert adapter.trunk is None

    assert affordable_views("auto", 4, 12, data, adapter, torch.float32, tmp_path) == 0
    with pytest.raises(TrainingError, match="no trunk"):
        affordable_views("on", 4, 12, data, adapter, torch.float32, tmp_path)


def test_a_full_disk_means_no_views(
    backbone: Backbone, adapter: TrainableAdapter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = images(backbone, preset("photo"))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))

    assert affordable_views("auto", 4, 12, data, adapter, torch.float32, tmp_path) == 0
    with pytest.raises(TrainingError, match="free space"):
        affordable_views("on", 4, 12, data, adapter, torch.float32, tmp_path)
