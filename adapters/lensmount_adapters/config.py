"""The old place of `TrainingConfig`, kept for one release: import it from `lensmount_adapters.training`."""

from lensmount_adapters.training.config import TrainingConfig

__all__ = ["TrainingConfig"]
