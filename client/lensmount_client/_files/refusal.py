"""The error of a dataset that is refused. The adapters have a module of this name with their own error."""

from __future__ import annotations

from lensmount_client._errors import InvalidInput

Refused = InvalidInput


def refusal(message: str, code: str | None = None) -> InvalidInput:
    """Return the error to raise: `raise refusal("found no images ...")`. Only the server has finer codes."""
    return InvalidInput(message)
