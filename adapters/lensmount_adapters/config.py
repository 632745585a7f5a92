"""The old location of `TrainingConfig`, kept for one release. Import it from `lensmount_adapters.training`."""

from lensmount_adapters.training.config import TrainingConfig

__all__ = ["TrainingConfig"]
