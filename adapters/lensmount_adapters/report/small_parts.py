"""Warnings about figures that rest on few images, in plain words and with the width of the interval."""

from __future__ import annotations

from lensmount_adapters.metrics.classification import ClassificationMetrics
from lensmount_adapters.metrics.share import Share

WIDE = 0.05  # of the interval of the accuracy
FEW = 20  # images of a class
MAX_NAMED = 10


def small_part_warnings(part: str, metrics: ClassificationMetrics) -> list[str]:
    """Sentences about a part that is too small for what it seems to show; none if it is large enough."""
    correct = sum(row[index] for index, row in enumerate(metrics.confusion))
    share, found = Share(correct, metrics.count), []
    width = share.high - share.low
    if width > WIDE:
        found.append(
            f"The {part} part has {_images(metrics.count)}. With so few, the accuracy on new images may be anywhere "
            f"from {share.low:.3f} to {share.high:.3f}: the interval is {100 * width:.0f} percentage points wide. "
            f"About {images_for(share.value, WIDE):,} images would make it {100 * WIDE:.0f} points wide."
        )
    few = [row for row in metrics.classes if row.count < FEW]
    if few:
        rest = len(few) - MAX_NAMED
        named = ", ".join(f"{row.label} ({row.count})" for row in few[:MAX_NAMED])
        more = f" and {rest} more" if rest > 0 else ""
        found.append(
            f"These classes have fewer than {FEW} images in the {part} part, so that their own figures say little: "
            f"{named}{more}."
        )
    return found


def images_for(accuracy: float, width: float) -> int:
    """The number of images whose Wilson interval is at most `width` wide at about this accuracy, to two digits."""
    low, high = 1, 100_000
    while low < high:
        middle = (low + high) // 2
        share = Share(round(accuracy * middle), middle)
        low, high = (low, middle) if share.high - share.low <= width else (middle + 1, high)
    step: int = 10 ** max(0, len(str(low)) - 2)
    return -(-low // step) * step


def _images(count: int) -> str:
    return f"{count:,} image{'' if count == 1 else 's'}"
