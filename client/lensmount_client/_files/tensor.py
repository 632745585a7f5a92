"""Torch tensors as PNG: channels first, in the range of their dtype, or refused with a way out. Imports no torch."""

from __future__ import annotations

from typing import Any

from lensmount_client._errors import InvalidInput
from lensmount_client._files.png import png_of_array

DTYPES = ("uint8", "uint16", "bool")
CHANNELS = (1, 3, 4)


def png_of_tensor(tensor: Any) -> bytes:
    """Encode a tensor [H, W] or [C, H, W] of 1, 3 or 4 channels as PNG, without loss. Raises InvalidInput."""
    dtype, shape = str(tensor.dtype).removeprefix("torch."), list(tensor.shape)
    if len(shape) == 4:
        each = "predict_many(list(tensor), ADAPTER)" if shape[0] > 1 else "tensor[0]"
        raise InvalidInput(f"image: found a batch of shape {shape}, expected one image [3, H, W]. Fix: {each}")
    if dtype not in DTYPES:
        raise InvalidInput(
            f"image: found a tensor of {dtype}, expected uint8 in 0..255 or uint16 in 0..65535. "
            f"Fix: {_to_uint8(tensor)}"
        )
    if len(shape) == 3 and shape[0] not in CHANNELS and shape[2] in CHANNELS:
        raise InvalidInput(f"image: found shape {shape}, expected channels first. Fix: tensor.permute(2, 0, 1)")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[0] not in CHANNELS) or 0 in shape:
        raise InvalidInput(
            f"image: found shape {shape}, expected [H, W], [1, H, W], [3, H, W] or [4, H, W]. "
            "Fix: for a volume, give tensor.numpy()"
        )
    try:
        array = tensor.detach().cpu().numpy()
    except (RuntimeError, TypeError) as error:  # torch without numpy, or a sparse tensor
        raise InvalidInput(f"image: the tensor has no pixels here ({error}). Fix: send the image's file") from error
    return png_of_array(array if array.ndim == 2 else array.transpose(1, 2, 0))


def _to_uint8(tensor: Any) -> str:
    """The way out for a tensor of another dtype, by its kind of numbers."""
    if getattr(tensor, "is_complex", lambda: False)():
        return "tensor.abs(), then choose the range that should be seen"
    if tensor.is_floating_point():
        return (
            "for values in 0..1, (tensor * 255).round().to(torch.uint8); undo a normalisation first, because the "
            "server normalises by itself"
        )
    return "for values in 0..255, tensor.to(torch.uint8)"
