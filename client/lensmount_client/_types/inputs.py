"""What a prediction accepts as an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol, TypeAlias, Union

if TYPE_CHECKING:
    import numpy.typing
    import PIL.Image


class TensorLike(Protocol):
    """A torch tensor, by the methods that are used of it: type checkers of clients need no torch."""

    def detach(self) -> Any: ...

    def dim(self) -> int: ...


ImageInput: TypeAlias = Union[
    str, Path, bytes, bytearray, memoryview, BinaryIO, "PIL.Image.Image", "numpy.typing.NDArray[Any]", TensorLike
]
