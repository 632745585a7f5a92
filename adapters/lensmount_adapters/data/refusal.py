"""The error of a dataset that is refused. The client has a module of this name with its own error."""

from __future__ import annotations

from lensmount_adapters.errors import DatasetError

Refused = DatasetError


def refusal(message: str, code: str | None = None) -> DatasetError:
    """Return the error to raise: `raise refusal("found no images ...", "dataset_too_small")`."""
    return DatasetError(message, code=code)
