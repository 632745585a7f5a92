"""Images of the user's own data in a report: a few of each class, and with each what speaks for its answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lensmount_adapters.metrics.scored import ScoredPart
from lensmount_adapters.report.thumbnail import thumbnail

PER_CLASS = 3
MAX_CLASSES = 12
MAX_HEAT_MAPS = 12  # of mistakes; each takes passes of the network

Read = Callable[[str], bytes]
HeatMap = Callable[[str], bytes | None]


@dataclass(frozen=True, slots=True)
class Sample:
    """One image as data URIs, None if it cannot be shown. `heat` shows what speaks for the label `answer`."""

    path: str
    image: str | None
    heat: str | None
    answer: str
    score: float


def sample_images(scored: ScoredPart, read: Read, heat_map: HeatMap | None) -> list[tuple[str, list[Sample]]]:
    """Up to three images of each of the first 12 classes, evenly spread over the class in the order of the paths.

    The choice does not depend on the answers. The first one of each class has a heat map.
    """
    labels = [row.label for row in scored.metrics.classes]
    best, answers = scored.scores.detach().cpu().double().max(dim=1)
    truth: list[int] = scored.truth.tolist()
    found: list[tuple[str, list[Sample]]] = []
    for number, label in enumerate(labels):
        inside = sorted((index for index, at in enumerate(truth) if at == number), key=lambda i: scored.paths[i])
        if not inside or len(found) == MAX_CLASSES:
            continue
        found.append(
            (
                label,
                [
                    Sample(
                        path := scored.paths[index],
                        picture(read, path),
                        heat(heat_map, path) if rank == 0 else None,
                        labels[int(answers[index])],
                        float(best[index]),
                    )
                    for rank, index in enumerate(_spread(inside))
                ],
            )
        )
    return found


def picture(read: Read, path: str) -> str | None:
    """The image at the path as a thumbnail, None if there is none."""
    try:
        return thumbnail(read(path))
    except Exception:  # the file may be gone or the store away, and a report must not make a run fail
        return None


def heat(heat_map: HeatMap | None, path: str) -> str | None:
    """The heat map of the image at the path as a thumbnail, None if there is none."""
    try:
        drawn = None if heat_map is None else heat_map(path)
        return None if drawn is None else thumbnail(drawn)
    except Exception:  # as above
        return None


def _spread(indices: Sequence[int]) -> list[int]:
    """Up to three of the indices: the one in the middle of each third."""
    count = min(PER_CLASS, len(indices))
    return [indices[(2 * step + 1) * len(indices) // (2 * count)] for step in range(count)]
