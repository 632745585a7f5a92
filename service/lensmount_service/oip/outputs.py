"""The outputs of a model, and the tensors that answer a request for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from lensmount_adapters.adapter.manifest import Manifest, SegmentationHead
from lensmount_adapters.trust.judge import Judgement
from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.requests import AskedOutput
from lensmount_service.oip.tensors import BYTES, FP32, FP64, AnswerTensor

SCORES, LABEL, DECISION, MASKS = "scores", "label", "decision", "masks"


@dataclass(frozen=True, slots=True)
class Output:
    """One output of a model. -1 in its shape stands for the number of images."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Scored:
    """What is known of one image: a score for each label, and what else the adapter gives."""

    scores: Sequence[float]
    judgement: Judgement | None = None
    mask: bytes | None = None  # a PNG


def outputs_of(manifest: Manifest) -> tuple[Output, ...]:
    """All outputs of an adapter.

    The scores of masks are shares of the image, computed in float64. `decision` is there if the adapter has trust.
    """
    classes = len(manifest.labels)
    if isinstance(manifest.head, SegmentationHead):
        return Output(SCORES, FP64, (-1, classes)), Output(LABEL, BYTES, (-1,)), Output(MASKS, BYTES, (-1,))
    common = Output(SCORES, FP32, (-1, classes)), Output(LABEL, BYTES, (-1,))
    return common if manifest.trust is None else (*common, Output(DECISION, BYTES, (-1,)))


def require_outputs(asked: Sequence[AskedOutput], manifest: Manifest, *, all_binary: bool) -> list[AskedOutput]:
    """The outputs to answer with; all of the model if a request names none. Raises RequestInvalid."""
    names = [output.name for output in outputs_of(manifest)]
    for output in asked:
        if output.name not in names:
            raise RequestInvalid(
                f"found the output {output.name[:40]!r}, expected some of {', '.join(names)}. "
                "Fix: ask for one of these, or leave `outputs` out"
            )
        if output.classes and output.name != SCORES:
            raise RequestInvalid(
                f"the output {output.name!r}: found the parameter `classification`, expected it at {SCORES!r} only. "
                "Fix: leave it out"
            )
    return list(asked) or [AskedOutput(name, is_binary=all_binary) for name in names]


def tensors_of(asked: Sequence[AskedOutput], manifest: Manifest, scored: Sequence[Scored]) -> list[AnswerTensor]:
    """The tensors that answer, in the order of `asked`."""
    of = {output.name: output for output in outputs_of(manifest)}
    return [_tensor(each, of[each.name], manifest.labels, scored) for each in asked]


def _tensor(asked: AskedOutput, output: Output, labels: Sequence[str], scored: Sequence[Scored]) -> AnswerTensor:
    count = len(scored)
    if asked.name == SCORES and asked.classes:
        best = min(asked.classes, len(labels))
        texts = [text for each in scored for text in _classes(each.scores, labels, best)]
        return AnswerTensor(SCORES, BYTES, (count, best), texts)
    if asked.name == SCORES:
        dtype = np.float32 if output.datatype == FP32 else np.float64
        values = np.array([each.scores for each in scored], dtype)
        return AnswerTensor(SCORES, output.datatype, values.shape, values)
    elements: dict[str, Callable[[Scored], bytes]] = {
        LABEL: partial(_label, labels),
        DECISION: _decision,
        MASKS: _mask,
    }
    element = elements[asked.name]
    return AnswerTensor(asked.name, BYTES, (count,), [element(each) for each in scored], asked.name != MASKS)


def _classes(scores: Sequence[float], labels: Sequence[str], best: int) -> list[bytes]:
    """ "0.98:1:Parasitized" for each of the best labels, best first: the classification extension."""
    ranked = sorted(range(len(scores)), key=lambda index: -scores[index])
    return [f"{scores[index]!r}:{index}:{labels[index]}".encode() for index in ranked[:best]]


def _label(labels: Sequence[str], scored: Scored) -> bytes:
    return labels[max(range(len(labels)), key=lambda index: scored.scores[index])].encode()


def _decision(scored: Scored) -> bytes:
    return b"" if scored.judgement is None else scored.judgement.decision.encode()


def _mask(scored: Scored) -> bytes:
    return scored.mask or b""
