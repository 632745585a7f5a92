"""What a prediction accepts as an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias, Union

if TYPE_CHECKING:
    import numpy.typing
    import PIL.Image


ImageInput: TypeAlias = Union[
    str, Path, bytes, bytearray, memoryview, BinaryIO, "PIL.Image.Image", "numpy.typing.NDArray[Any]"
]
