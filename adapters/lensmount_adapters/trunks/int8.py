"""The trunk in int8: quantised once per backbone and cut, and kept on disk.

The trunk is frozen, so its weights and the ranges of its activations never change. The branch stays in float.
"""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lensmount_adapters.atomic import write_atomic
from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import BackboneError
from lensmount_adapters.graph.functional import frozen
from lensmount_adapters.graph.segments import Halves
from lensmount_adapters.inputs.rules import Preprocessing
from lensmount_adapters.programs.executor import Executor, Program, TakesModels
from lensmount_adapters.programs.int8 import SETTINGS, quantised
from lensmount_adapters.trunks.calibration import Calibration, drawn_calibration

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Int8Trunk:
    """`program` is the trunk; `digest` is that of its weights and ranges, and `recipe` of what it was made from."""

    program: Program
    digest: str
    recipe: str
    again: Callable[[], Program]  # the same program once more, for another thread


@dataclass(frozen=True, slots=True)
class Int8Trunks:
    """`Int8Trunks(folder=state / "programs").of(backbone, halves, executor).program(images)`. Safe from any thread.

    `folder` keeps what was quantised; None keeps it in memory.
    """

    calibration: Calibration = field(default_factory=drawn_calibration)
    folder: Path | None = None
    _making: threading.Lock = field(default_factory=threading.Lock)
    _in_memory: dict[str, bytes] = field(default_factory=dict)  # by recipe

    def recipe(self, backbone: Backbone, at: str) -> str:
        """The digest of weights, cut, settings and calibration. Equal on all machines, unlike the bits of the result.

        What is known of a trunk's accuracy is known of all trunks with its recipe.
        """
        made_from = [
            backbone.fingerprint,
            at,
            SETTINGS,
            self.calibration.digest,
            backbone.preprocessing.model_dump_json(),
        ]
        return f"sha256:{hashlib.sha256(json.dumps(made_from).encode()).hexdigest()}"

    def of(self, backbone: Backbone, halves: Halves, executor: Executor) -> Int8Trunk:
        """The int8 trunk of these halves, from the folder, or quantised now, which takes seconds.

        Raises BackboneError if the backbone has no trunk of images there, or the executor is another than OpenVINO;
        ExecutorUnavailable if it must be quantised and NNCF is not installed.
        """
        rule, trunk = backbone.preprocessing, halves.trunk
        if trunk is None or not isinstance(rule, Preprocessing) or not isinstance(executor, TakesModels):
            raise BackboneError(
                f"{backbone.name}: found {_lacking(trunk, rule, executor)}, expected a trunk of images and "
                "the executor openvino for int8. Fix: the precision float32"
            )
        recipe, images = self.recipe(backbone, halves.at), backbone.zeros(2)
        with self._making:
            content = self._kept(recipe)
            if content is None:
                graph = frozen(trunk)
                model = executor.model_of(graph, (images,), (), f"{backbone.fingerprint}-{halves.at}-trunk")
                content = _packed(*quantised(model, self.calibration.images(rule)))
                self._keep(recipe, content)
        model = _model(executor, content)

        def program() -> Program:
            return executor.program(model, images.shape)

        return Int8Trunk(program(), f"sha256:{hashlib.sha256(content).hexdigest()}", recipe, program)

    def _kept(self, recipe: str) -> bytes | None:
        """The content of the file; None if it is missing or not what was written."""
        if self.folder is None:
            return self._in_memory.get(recipe)
        try:
            digest, _, content = self._file(recipe).read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("int8 trunk: cannot read what was kept, so it is made again: %s", error)
            return None
        if digest.decode(errors="replace") == hashlib.sha256(content).hexdigest():
            return content
        log.warning("int8 trunk: found a damaged file %s, so it is made again", self._file(recipe))
        return None

    def _keep(self, recipe: str, content: bytes) -> None:
        if self.folder is None:
            self._in_memory[recipe] = content
        else:
            self.folder.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file(recipe), hashlib.sha256(content).hexdigest().encode() + b"\n" + content)

    def _file(self, recipe: str) -> Path:
        assert self.folder is not None
        return self.folder / f"int8-{recipe[7:39]}.trunk"


def _packed(xml: bytes, weights: bytes) -> bytes:
    return len(xml).to_bytes(8, "big") + xml + weights


def _model(executor: TakesModels, content: bytes) -> Any:
    end = 8 + int.from_bytes(content[:8], "big")
    return executor.read(content[8:end], content[end:])


def _lacking(trunk: object, rule: object, executor: Executor) -> str:
    if trunk is None:
        return "an adapter of the first layer, which leaves no trunk"
    return f"the executor {executor.name}" if isinstance(rule, Preprocessing) else "a backbone of volumes"
