"""The parts of predict_many that both clients share."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path

from lensmount_client._errors import InvalidInput, LensmountError, Problem
from lensmount_client._files.paths import find_images
from lensmount_client._http.problem import error_from
from lensmount_client._reference import Reference
from lensmount_client._types.inputs import ImageInput
from lensmount_client._types.results import Prediction


def many_inputs(inputs: Iterable[ImageInput] | str | Path) -> tuple[Iterable[ImageInput], int | None]:
    """The inputs, and their number if it is known without iterating over them."""
    if isinstance(inputs, str | os.PathLike):
        return find_images(inputs), None
    if isinstance(inputs, bytes | bytearray | memoryview) or hasattr(inputs, "read"):
        raise InvalidInput("inputs: found one image, expected several. Fix: put it in a list, or call predict")
    return inputs, len(inputs) if isinstance(inputs, Sized) else None


def adapter_list(adapter: str | Sequence[str]) -> list[str]:
    """The references, each checked. Raises InvalidInput."""
    adapters = [adapter] if isinstance(adapter, str) else list(adapter)
    for reference in adapters:
        Reference.parse(reference)
    if not adapters:
        raise InvalidInput("adapter: found an empty list, expected one adapter or more")
    return adapters


def checked_concurrency(concurrency: int) -> int:
    """The number itself. Raises InvalidInput."""
    if concurrency < 1:
        raise InvalidInput(f"concurrency: found {concurrency}, expected 1 or more")
    return concurrency


def succeeded(source: ImageInput, adapters: list[str], predictions: list[Prediction]) -> list[Outcome]:
    return [_outcome(source, *pair) for pair in zip(adapters, predictions, strict=True)]


def _outcome(source: ImageInput, adapter: str, prediction: Prediction) -> Outcome:
    failure = prediction.error
    if failure is None:
        return Outcome(source, adapter, prediction=prediction)
    problem = Problem(failure.status, failure.code, "", failure.detail, prediction.request_id)
    return Outcome(source, adapter, error=error_from(problem))


def failed(source: ImageInput, adapters: list[str], error: LensmountError) -> list[Outcome]:
    return [Outcome(source, adapter, error=error) for adapter in adapters]


@dataclass(frozen=True)
class Outcome:
    """One input of `predict_many` with one adapter: its prediction, or its error."""

    input: ImageInput
    adapter: str  # the reference asked for
    prediction: Prediction | None = None
    error: LensmountError | None = None
