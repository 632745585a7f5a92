"""The base of the modes that replace a slow convolution of torch by faster operations with the same values."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor
from torch.overrides import TorchFunctionMode

_ARGUMENTS = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


class FastConvolution(TorchFunctionMode):
    """While entered, each call of `function` goes to `compute`, which may leave it to torch.

    `enabled=False` leaves every call to torch.
    """

    def __init__(self, function: Callable[..., Tensor], enabled: bool) -> None:
        super().__init__()
        self._function = function
        self._enabled = enabled

    def compute(self, arguments: Mapping[str, Any]) -> Tensor | None:
        """The convolution of these arguments (torch's names), or None if torch should compute it."""
        raise NotImplementedError

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        if self._enabled and func is self._function:
            result = self.compute(dict(zip(_ARGUMENTS, args, strict=False)) | dict(kwargs or {}))
            if result is not None:
                return result
        return func(*args, **(kwargs or {}))
