"""The parts of predict_many that both clients share, and what it returns."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lensmount_client._errors import InvalidInput, LensmountError, Problem
from lensmount_client._files.paths import find_images
from lensmount_client._http.problem import error_from
from lensmount_client._reference import Reference
from lensmount_client._types.inputs import ImageInput
from lensmount_client._types.predictions import RECORD, Prediction, Predictions
from lensmount_client._types.records import Record, data_frame

if TYPE_CHECKING:
    import pandas


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


def succeeded(source: ImageInput, adapters: list[str], predictions: Predictions) -> list[Outcome]:
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

    @property
    def file(self) -> str | None:
        """The input's path, or None for an input that is not a path."""
        return str(self.input) if isinstance(self.input, str | Path) else None

    def __str__(self) -> str:
        """Short: "cell.png: Parasitized 94.0% (malaria@1), sure"."""
        said = self.prediction if self.error is None else f"{self.error.code}: {self.error}"
        return f"{self.file or type(self.input).__name__}: {said}"

    def to_record(self) -> Record:
        """One flat dictionary with the keys OUTCOME_RECORD. After an error, the answer's keys are None."""
        record = dict.fromkeys(RECORD) if self.prediction is None else self.prediction.to_record()
        if self.error is not None:
            record |= {"error": self.error.code, "request_id": self.error.request_id}
        detail = None if self.error is None else self.error.detail
        return {"file": self.file, **record, "adapter": self.adapter, "detail": detail}


OUTCOME_RECORD = ("file", *RECORD, "detail")


class Outcomes(Generator[Outcome, None, None]):
    """What `predict_many` returns: outcomes as they come. `client.predict_many("cells/", "malaria").to_pandas()`.

    A loop sees each outcome once. `to_records` and `to_pandas` wait for those that no loop has seen, and keep them.
    """

    def __init__(self, source: Generator[Outcome, None, None]) -> None:
        self._source = source

    def __next__(self) -> Outcome:
        return next(self._source)

    def send(self, value: None) -> Outcome:
        return self._source.send(value)

    def throw(self, typ: Any, val: Any = None, tb: Any = None) -> Outcome:
        return self._source.throw(typ if val is None else val)

    def close(self) -> None:
        """End it early: waits for the requests in progress."""
        self._source.close()

    def to_records(self) -> list[Record]:
        """One flat dictionary for each image and adapter, with the keys OUTCOME_RECORD; failed ones have an error."""
        return [outcome.to_record() for outcome in self]

    def to_pandas(self) -> pandas.DataFrame:
        """The records as a table. Raises InvalidInput if pandas is not installed."""
        return data_frame(self.to_records(), OUTCOME_RECORD)


class AsyncOutcomes(AsyncGenerator[Outcome, None]):
    """Like `Outcomes`, for AsyncClient: `await client.predict_many("cells/", "malaria").to_pandas()`."""

    def __init__(self, source: AsyncGenerator[Outcome, None]) -> None:
        self._source = source

    async def __anext__(self) -> Outcome:
        return await anext(self._source)

    async def asend(self, value: None) -> Outcome:
        return await self._source.asend(value)

    async def athrow(self, typ: Any, val: Any = None, tb: Any = None) -> Outcome:
        return await self._source.athrow(typ if val is None else val)

    async def aclose(self) -> None:
        """End it early: cancels the requests in progress."""
        await self._source.aclose()

    async def to_records(self) -> list[Record]:
        """See `Outcomes.to_records`."""
        return [outcome.to_record() async for outcome in self]

    async def to_pandas(self) -> pandas.DataFrame:
        """See `Outcomes.to_pandas`."""
        return data_frame(await self.to_records(), OUTCOME_RECORD)
