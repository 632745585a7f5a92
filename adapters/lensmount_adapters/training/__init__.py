"""Training, from labelled images to an adapter file: configuration, loop and objectives.

>>> from lensmount_adapters.training import TrainingConfig, train  # doctest: +SKIP
>>> config = TrainingConfig(data=Path("cells"), name="malaria", out=Path("malaria.safetensors"))  # doctest: +SKIP
>>> result = train(config)  # doctest: +SKIP
"""

from typing import TYPE_CHECKING

from lensmount_adapters.lazy import lazy_names

if TYPE_CHECKING:
    from lensmount_adapters.training.config import TrainingConfig
    from lensmount_adapters.training.result import TrainingResult
    from lensmount_adapters.training.train_adapter import train
    from lensmount_adapters.training.train_masks import train_segmentation

__all__ = ["TrainingConfig", "TrainingResult", "train", "train_segmentation"]

_NAMES = {
    "config": ["TrainingConfig"],
    "result": ["TrainingResult"],
    "train_adapter": ["train"],
    "train_masks": ["train_segmentation"],
}

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
