"""The old location of `train_segmentation`, kept for one release. Import it from `lensmount_adapters.training`."""

from lensmount_adapters.training.train_masks import train_segmentation

__all__ = ["train_segmentation"]
