"""From the stored values of a mask to one bool map per label, or a refusal that says what the values are.

The rules, for one label: every value but 0 is the object, so 0/1, 0/255 and the numbers of instances all work. Values
between black and white, as JPEG and resizing leave them, are divided at half. For several labels, value i is label i.
A 255 next to numbers of labels marks pixels that count as nothing.
"""

from __future__ import annotations

import numpy as np

from lensmount_adapters.errors import DatasetError

NEAR = 32  # of 255: how far from black or white the ringing of a JPEG reaches
FLAGS = 7  # up to this number of greys may be numbers of labels or of instances that form no areas
PLATEAU = 4  # of 255: how far from black or white an even area of a JPEG may be
CLASSES = 40  # numbers of classes next to a 255 that marks pixels without one; VOC has 20, Cityscapes 33
IGNORED = 255  # next to numbers of labels: pixels without a class, as the borders of Pascal VOC
SHOWN = 4  # values or colours in a message
_VOID = "put class_dict.csv with a row for each colour (name, r, g, b) next to the images, and call this one void"


def single_channel(values: np.ndarray, what: str, *, lossy: bool) -> np.ndarray:
    """Return [height, width] of a mask that may have been saved in grey as several equal channels.

    Raises DatasetError for colours and for transparency.
    """
    if values.ndim == 2:
        return values
    height, width, channels = values.shape
    values = opaque(values, what)
    if values.shape[-1] > 3:
        raise DatasetError(
            f"found {width} x {height} with {channels} channel(s), expected one channel of values. "
            "Fix: save one channel, as a grey PNG"
        )
    spread = np.ptp(values.astype(np.int64), axis=-1) if values.dtype.kind in "ui" else np.ptp(values, axis=-1)
    if spread.max(initial=0) > (4 if lossy else 0):
        colours, counts = np.unique(values[spread > 0].reshape(-1, values.shape[-1]), axis=0, return_counts=True)
        colours = colours[np.argsort(-counts, kind="stable")]
        shown = ", ".join("#" + "".join(f"{int(part):02x}" for part in colour) for colour in colours[:SHOWN])
        raise DatasetError(
            f"found {width} x {height} with {channels} channel(s) in colour, such as {shown}, expected one channel of "
            "values. Fix: save a grey PNG in which 0 is background and value i is the i-th label, or put "
            "class_dict.csv with the columns name, r, g, b next to the folder of images"
        )
    return values[..., 0]


def opaque(values: np.ndarray, what: str) -> np.ndarray:
    """Take an alpha channel away from [height, width, channels]. Raises DatasetError if something is transparent."""
    height, width, channels = values.shape
    if channels in (2, 4):
        alpha = values[..., -1]
        if (alpha != alpha.flat[0]).any() or (values.dtype == np.uint8 and alpha.flat[0] != 255):
            raise DatasetError(
                f"found {what} of {width} x {height} with {channels} channel(s) that is transparent in places, "
                "expected one channel of values. Fix: save the object as white (255) on black (0), without transparency"
            )
        values = values[..., :-1]
    return values


def without_ignored(values: np.ndarray, labels: int) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the values with 0 for pixels that count as nothing, and these pixels, bool [height, width], if any.

    255 marks them where all other values are numbers of labels; with one label, numbers of classes that form areas.
    """
    marked = values == IGNORED
    others = (values > 0) & ~marked
    if labels >= IGNORED or not marked.any() or not others.any():
        return values, None
    if labels == 1 and (values[others].max() > CLASSES or _share_in_areas(values, others) < 0.5):
        return values, None
    if labels > 1 and values[others].max() > labels:
        return values, None
    return np.where(marked, 0, values).astype(values.dtype), marked


def objects_of(
    values: np.ndarray, labels: int, what: str, *, lossy: bool, indexed: bool = False
) -> tuple[np.ndarray, bool]:
    """Return bool [labels, height, width], and whether values between black and white were divided at half.

    `lossy` formats change values; `indexed` values are indices of a palette, which are never grey.
    Raises DatasetError if values are negative, not finite, not whole, or have no label.
    """
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise DatasetError(f"found {what} with values that are not finite, expected numbers. Fix: replace them by 0")
    overshoots = values.dtype.kind == "f" and labels == 1 and not np.array_equal(np.rint(values), values)
    if overshoots and (values.min() < 0 or values.max() > 1) and values.min() >= -0.5 and values.max() <= 1.5:
        raise DatasetError(
            f"found {what} with values from {values.min():.3g} to {values.max():.3g}, as resizing leaves them, "
            "expected 0 to 1. Fix: cut them off with numpy's values.clip(0, 1)"
        )
    if values.size and values.min() < 0:
        raise DatasetError(
            f"found {what} with the value {values.min():g}, expected 0 for background and no value below. "
            "Fix: replace negative values by 0"
        )
    if values.dtype.kind == "f":
        whole = np.rint(values)
        if not np.array_equal(whole, values):
            return _soft_floats(values, labels, what)
        values = whole.astype(np.int64)
    if lossy:
        return _lossy(values, labels, what)
    if labels == 1:
        if values.max(initial=0) > 255 and not (values % 257).any():
            values = values // 257  # a grey of 8 bits that was scaled to 16
        _check_flags(values)
        top = None if indexed else _top_of_soft(values)
        return ((values > 0) if top is None else (values > top // 2))[None], top is not None
    if values.max() > labels:
        raise _without_label(values, labels)
    return values[None] == np.arange(1, labels + 1)[:, None, None], False


def _soft_floats(values: np.ndarray, labels: int, what: str) -> tuple[np.ndarray, bool]:
    if labels == 1 and values.max() <= 1:
        return (values >= 0.5)[None], True
    example = values[np.rint(values) != values][0]
    raise DatasetError(
        f"found {what} with values that are not whole, such as {example:.4g}, up to {values.max():.4g}, expected "
        f"{'0 to 1' if labels == 1 else 'the number of a label'}. Fix: save whole numbers, with 0 as background"
    )


def _lossy(values: np.ndarray, labels: int, what: str) -> tuple[np.ndarray, bool]:
    """Read one object of white on black from a format that changes values. The limits are in grey levels of 255."""
    highest = int(values.max())
    if highest == 0:
        return np.zeros((labels, *values.shape), bool), False
    if labels > 1:
        raise DatasetError(
            f"found {what}, which changes values a little, expected a format that keeps the numbers of "
            f"{labels} labels. "
            "Fix: export the masks as PNG"
        )
    between, white = np.count_nonzero((values > NEAR) & (values < 255 - NEAR)), np.count_nonzero(values >= 255 - NEAR)
    if highest > 255 or white == 0 or between > white // 2:
        raise DatasetError(
            f"found {what} with {between} pixels between black and white and values up to {highest}, expected black "
            "(0) and white (255): this format changes values, so others cannot be told apart. Fix: export it as PNG"
        )
    ringing = bool(((values > 0) & (values < 255)).any())
    return (values >= 128)[None], ringing


def _top_of_soft(values: np.ndarray) -> int | None:
    """The value of white if the mask is one white object with a soft border, None if its values are flags or instances.

    Instances are areas of one value. The border that a JPEG or resizing leaves is a slope, where hardly four pixels in
    a square are equal. Raises DatasetError for other slopes, such as a map of probabilities.
    """
    highest = int(values.max(initial=0))
    if highest > 255 and highest != 65535:
        return None
    top = 255 if highest <= 255 else 65535
    greys = values[(values > 0) & (values < top)]
    if not greys.size:
        return None
    near, plateau = top * NEAR // 255, PLATEAU if top == 255 else 0
    between = (values > near) & (values < top - near)
    count, white = np.count_nonzero(between), np.count_nonzero(values >= top - near)
    few = len(np.unique(greys)) <= FLAGS
    if _share_in_areas(values, (values > plateau) & (values < top - plateau)) >= 0.5:
        return None
    if top > 255 and count == 0 and few:
        return None
    if white and count <= white // 2:
        return top
    if few:
        return None
    raise DatasetError(
        f"found {count} pixels with values between black and white that form no areas, expected black (0) and white "
        f"({top}), or one number per instance. Fix: save the object as {top} and the rest as 0; numbers of small "
        "instances can be saved with 16 bits"
    )


def _share_in_areas(values: np.ndarray, chosen: np.ndarray) -> float:
    """The share of the chosen pixels that lie in a square of 2 x 2 pixels of one value."""
    first = values[:-1, :-1]
    equal = (first == values[1:, :-1]) & (first == values[:-1, 1:]) & (first == values[1:, 1:])
    inside = np.zeros(values.shape, bool)
    for rows in (slice(None, -1), slice(1, None)):
        for columns in (slice(None, -1), slice(1, None)):
            inside[rows, columns] |= equal
    return float(inside[chosen].mean()) if chosen.any() else 0.0


def _check_flags(values: np.ndarray) -> None:
    """Refuse areas of 128 between 0 and 255, and of small numbers next to 254: 254 or 128 may mean 'no class here'."""
    top = int(values.max(initial=0))
    if not 255 - PLATEAU <= top <= 255:
        return
    others = np.unique(values[(values > 0) & (values < top)])
    if not others.size or _share_in_areas(values, (values > 0) & (values < top)) < 0.5:
        return
    if len(others) == 1 and others[0] in (127, 128):
        raise DatasetError(
            f"found areas of {others[0]} between 0 and {top}, as in a trimap, where {others[0]} is unknown, expected "
            f"one value of object. Fix: replace {others[0]} by 0 or by {top}"
        )
    if others[-1] <= PLATEAU:
        small = ", ".join(str(value) for value in others[:SHOWN]) + (", ..." if len(others) > SHOWN else "")
        raise DatasetError(
            f"found {top} next to small numbers ({small}): it may be an object, or mark pixels without a class, "
            f"expected numbers of objects only. Fix: replace it by {IGNORED} if its pixels count as nothing, by 0, or "
            f"by a number from {CLASSES + 1} to {254 - PLATEAU} if it is an object"
        )


def _without_label(values: np.ndarray, labels: int) -> DatasetError:
    found = [int(value) for value in np.unique(values) if value > labels]
    shown = ", ".join(map(str, found[:SHOWN])) + (", ..." if len(found) > SHOWN else "")
    if found == [255]:
        fix = "255 often marks borders that count as nothing, or the object of a mask of one label: replace it by 0 or "
        fix += f"by the number of its label, or {_VOID}"
    else:
        fix = "if these are the numbers of instances, give one label, or replace each by the number of its label"
    return DatasetError(
        f"found the value {values.max()}, expected at most {labels}, one per label (values without a label: {shown}). "
        f"Fix: {fix}"
    )
