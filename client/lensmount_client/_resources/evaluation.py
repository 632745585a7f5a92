"""Compare an adapter's answers with the labels of a folder, without I/O: which calls to send, and what they add up to.

Intervals have a confidence of 95 %. Those of shares are Wilson's (J. Am. Stat. Assoc. 1927, 22:209). That of the
balanced accuracy is made of the intervals of the recalls: MOVER, by Zou and Donner (Stat. Med. 2008, 27:1693).
"""

from __future__ import annotations

import difflib
import math
from collections import Counter
from collections.abc import AsyncGenerator, Generator, Sequence
from contextlib import aclosing, closing
from typing import TypeAlias

from lensmount_client._api import predict
from lensmount_client._errors import (
    BodyTooLarge,
    ImageRejected,
    ImageTooLarge,
    InvalidInput,
    LensmountError,
    UnsupportedImageFormat,
)
from lensmount_client._files.labelled_folder import LabelledFolder
from lensmount_client._files.layout import Labelled
from lensmount_client._http.call import Call
from lensmount_client._http.operation import Operation
from lensmount_client._reference import ALWAYS
from lensmount_client._show.progress import reporting
from lensmount_client._types.evaluation import ClassResult, Decided, Evaluation, FailedImage, Interval
from lensmount_client._types.predictions import Prediction, Predictions
from lensmount_client._types.progress import Report

Answers: TypeAlias = Generator[Prediction | LensmountError, None, None]
AsyncAnswers: TypeAlias = AsyncGenerator[Prediction | LensmountError, None]

EVERY_LABEL = 10_000  # the server's limit of top_k
Z = 1.959963984540054  # of 95 %
OF_THE_IMAGE = (BodyTooLarge, ImageRejected, ImageTooLarge, InvalidInput, UnsupportedImageFormat)
"""Errors about one image alone; every other one would spoil the figures, so it ends the evaluation."""


class Tally:
    """What the answers so far add up to. The first one says which version answers, and which labels it has."""

    def __init__(self, folder: LabelledFolder, first: Prediction) -> None:
        self.adapter = first.adapter
        self.reference = f"{first.adapter.name}@{first.adapter.version}"  # the same version to the end
        self.labels = tuple(sorted(score.label for score in first.predictions))
        self._check(folder)
        self._pairs: Counter[tuple[str, str]] = Counter()  # label, answer
        self._decided: Counter[tuple[str, bool]] = Counter()
        self._mistakes: dict[str, tuple[str, str]] = {}
        self.failed: list[FailedImage] = []

    def _check(self, folder: LabelledFolder) -> None:
        """Raise InvalidInput for a label of the folder that the adapter lacks."""
        for label in folder.labels:
            if label not in self.labels:
                close = difflib.get_close_matches(label, self.labels, n=1)
                meant = f" Did you mean {close[0]!r}?" if close else ""
                raise InvalidInput(
                    f"{folder.title}: found the label {label!r}, expected only labels of {self.reference}: "
                    f"{', '.join(self.labels[:20])}.{meant} Fix: rename its folder, or leave it out"
                )

    def add(self, image: Labelled, answer: Prediction | LensmountError) -> None:
        if isinstance(answer, LensmountError):
            self.failed.append(FailedImage(image.path, answer.code, answer.detail))
            return
        got = answer.top.label
        self._pairs[image.label, got] += 1
        if got != image.label:
            self._mistakes[image.path] = (image.label, got)
        if answer.trust is not None:
            self._decided[answer.trust.decision, got == image.label] += 1

    def result(self) -> Evaluation:
        confusion = tuple(tuple(self._pairs[label, got] for got in self.labels) for label in self.labels)
        counts = {label: sum(row) for label, row in zip(self.labels, confusion, strict=True)}
        classes = tuple(
            ClassResult(
                label, counts[label], self._pairs[label, label], wilson(self._pairs[label, label], counts[label])
            )
            for label in self.labels
            if counts[label]
        )
        images, correct = sum(counts.values()), sum(found.correct for found in classes)
        decisions = {word for word, _ in self._decided}
        return Evaluation(
            adapter=self.adapter,
            images=images,
            accuracy=wilson(correct, images),
            balanced_accuracy=mean_of([found.recall for found in classes]),
            classes=classes,
            labels=self.labels,
            confusion=confusion,
            decisions={
                word: Decided(self._decided[word, True] + self._decided[word, False], self._decided[word, True])
                for word in sorted(decisions)
            },
            mistakes=self._mistakes,
            failed=tuple(self.failed),
        )


def first_answer(folder: LabelledFolder, adapter: str, timeout_s: float | None) -> Operation[tuple[Tally, int]]:
    """Ask one image after the other until one is answered. Returns the tally, and how many images it has seen."""
    failed: list[tuple[Labelled, LensmountError]] = []
    for number, image in enumerate(folder.images, start=1):
        try:
            answers: Predictions = yield predict.predict(folder.read(image), [adapter], EVERY_LABEL, ALWAYS, timeout_s)
        except OF_THE_IMAGE as error:
            failed.append((image, error))
            continue
        tally = Tally(folder, answers[0])
        for other, problem in failed:
            tally.add(other, problem)
        tally.add(image, answers[0])
        return tally, number
    raise InvalidInput(
        f"{folder.title}: found {len(failed)} images and no answer to any of them, expected some that can be read. "
        f"The first: {failed[0][0].path}: {failed[0][1].detail}"
    ) from failed[0][1]


def question(folder: LabelledFolder, image: Labelled, tally: Tally, timeout_s: float | None) -> Call[Predictions]:
    """Ask for the label of a further image. Raises InvalidInput for a file that cannot be read."""
    return predict.predict(folder.read(image), [tally.reference], 1, ALWAYS, timeout_s)


def collected(folder: LabelledFolder, tally: Tally, seen: int, answers: Answers, progress: bool | Report) -> Evaluation:
    """Add the answers to all images after the first `seen` ones, in their order."""
    total = len(folder.images)
    with reporting(progress, total) as report, closing(answers):
        report(seen, total)
        for done, (image, answer) in enumerate(zip(folder.images[seen:], answers, strict=True), start=seen + 1):
            tally.add(image, answer)
            report(done, total)
    return tally.result()


async def acollected(
    folder: LabelledFolder, tally: Tally, seen: int, answers: AsyncAnswers, progress: bool | Report
) -> Evaluation:
    """Like `collected`, for the async client."""
    total = len(folder.images)
    with reporting(progress, total) as report:
        report(seen, total)
        async with aclosing(answers):
            for done, image in enumerate(folder.images[seen:], start=seen + 1):
                tally.add(image, await anext(answers))
                report(done, total)
    return tally.result()


def wilson(correct: int, count: int) -> Interval:
    """The share `correct / count` with Wilson's interval. `count` is at least 1."""
    share = correct / count
    middle = share + Z * Z / (2 * count)
    spread = Z * math.sqrt(share * (1 - share) / count + Z * Z / (4 * count * count))
    scale = 1 + Z * Z / count
    return Interval(share, max(0.0, (middle - spread) / scale), min(1.0, (middle + spread) / scale))


def mean_of(shares: Sequence[Interval]) -> Interval:
    """The mean of independent shares: the distances to the ends of its interval are those of the shares, squared up."""
    mean = sum(share.value for share in shares) / len(shares)
    down = math.sqrt(sum((share.value - share.low) ** 2 for share in shares)) / len(shares)
    up = math.sqrt(sum((share.high - share.value) ** 2 for share in shares)) / len(shares)
    return Interval(mean, max(0.0, mean - down), min(1.0, mean + up))
