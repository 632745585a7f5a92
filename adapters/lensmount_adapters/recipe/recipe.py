"""A recipe: one TOML file with the backbone, the images, the runs and the figures that the method's source reports.

It is configuration that people write, so it is validated strictly: an unknown key, a wrong type or an unknown training
setting is refused before any image is read. Its docs page is the file `NAME.md` in the same folder.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator, model_validator

from lensmount_adapters.errors import TrainingError
from lensmount_adapters.suggestion import did_you_mean
from lensmount_adapters.text.prompts import Prompts
from lensmount_adapters.training.config import TrainingConfig

T = TypeVar("T")
Word = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,23}$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Reported(_Strict):
    """One row of figures that the source reports; those that it does not give are None."""

    what: Line
    images: Line = "not said"
    accuracy: float | None = Field(None, ge=0, le=1)
    trained_parameters: int | None = Field(None, ge=1)
    share: float | None = Field(None, gt=0, le=1)


class ImageSet(_Strict):
    """A folder below `--data`, the origin of its images, and training settings for it (fields of TrainingConfig).

    `generate` names the function that draws the images if the folder does not exist.
    """

    folder: Annotated[str, StringConstraints(pattern=r"^[\w.-]{1,64}$")]
    origin: Line
    generate: Literal["helix"] | None = None
    settings: dict[str, Any] = {}


class RecipeRun(_Strict):
    """One adapter or, to compare with, full fine-tuning of `modules` (a regular expression) or no training at all.

    A "base" is a full network trained for masks; its weights are the backbone of the runs after it.
    """

    name: Word
    says: Line
    kind: Literal["adapter", "full", "zero-shot", "base"] = "adapter"
    modules: str | None = None
    settings: dict[str, Any] = {}

    @model_validator(mode="after")
    def _modules_belong_to_full_tuning(self) -> RecipeRun:
        if (self.kind == "full") != (self.modules is not None):
            raise ValueError('found modules without kind = "full" or the reverse, expected both or neither')
        re.compile(self.modules or "")
        return self


class Recipe(_Strict):
    """`load_recipe("malaria-vgg16")`. Of `weights` the first available source is used; "hub" is always available.

    `prompts` are for the runs with `head = "text"` and those of kind "zero-shot".
    Settings of a run override those of the image set, which override `settings`, which all runs share.
    """

    name: Word
    title: Line
    source: Line
    backbone: Line
    weights: Annotated[tuple[Line, ...], Field(min_length=1)]
    license: str = ""
    reported: tuple[Reported, ...] = ()
    settings: dict[str, Any] = {}
    prompts: Prompts | None = None
    images: Annotated[tuple[ImageSet, ...], Field(min_length=1)]
    runs: Annotated[tuple[RecipeRun, ...], Field(min_length=1)]

    @field_validator("weights", "reported", "images", "runs", mode="before")
    @classmethod
    def _tuple(cls, value: object) -> object:
        return tuple(value) if isinstance(value, list) else value

    @model_validator(mode="after")
    def _every_run_is_a_training(self) -> Recipe:
        for run in self.runs:
            for images in self.images:
                self.config(run, images, Path(), Path("x"))
        if any(run.kind == "base" for run in self.runs[1:]):
            raise ValueError(
                "found a base after other runs, expected it first, because their backbone is made of its weights"
            )
        names = [run.name for run in self.runs]
        if len(set(names)) < len(names):
            raise ValueError("found two runs of the same name, expected distinct names")
        return self

    def settings_of(self, run: RecipeRun, images: ImageSet, changes: Mapping[str, Any]) -> dict[str, Any]:
        """The training settings of a run; `changes` override all others."""
        settings = self.settings | images.settings | run.settings | dict(changes)
        if unknown := sorted(settings.keys() - SETTINGS):
            raise ValueError(
                f"found setting {unknown[0]!r}, expected fields of TrainingConfig: {', '.join(sorted(SETTINGS))}"
            )
        return settings

    def config(
        self,
        run: RecipeRun,
        images: ImageSet,
        data: Path,
        out: Path,
        changes: Mapping[str, Any] | None = None,
        **fields_of_run: Any,
    ) -> TrainingConfig:
        """The config of a run on `data / images.folder`; `fields_of_run` are further fields, such as seed and threads.

        Raises ValueError if a setting is unknown or has a value that training does not accept.
        """
        settings = self.settings_of(run, images, changes or {})
        described: dict[str, Any] = {"backbone": self.backbone, "license": self.license, "description": run.says}
        if run.kind == "zero-shot":
            settings["head"] = "text"
        if settings.get("head") == "text":
            described["prompts"] = self.prompts
        try:
            return TrainingConfig(
                data=data / images.folder,
                name=f"{self.name}-{run.name}",
                out=out,
                **described,
                **{"calibration": "off"} | settings,  # a published system is reproduced with all its training images
                **fields_of_run,
            )
        except (TypeError, TrainingError) as error:
            raise ValueError(f"run {run.name!r} on {images.folder}: {error}") from error


SETTINGS = {field.name for field in fields(TrainingConfig)} - {
    "data", "name", "out", "backbone", "weights", "seed", "threads", "device", "license", "description", "resume",
    "prompts",
}  # fmt: skip


def recipes_folder() -> Path:
    """The folder of the shipped recipes: inside an installed package, or at the root of a checkout."""
    package = Path(__file__).parents[1]
    return package / "recipes" if (package / "recipes").is_dir() else package.parents[1] / "recipes"


def recipe_names() -> list[str]:
    return sorted(path.stem for path in recipes_folder().glob("*.toml"))


def load_recipe(name: str) -> Recipe:
    """Load a shipped recipe by its name, or another one by its path, which ends in .toml. Raises TrainingError."""
    path = Path(name) if name.endswith(".toml") else recipes_folder() / f"{name}.toml"
    if name not in recipe_names() and not (name.endswith(".toml") and path.is_file()):
        raise TrainingError(
            f"found no recipe {name!r}, expected {', '.join(recipe_names())} or the path of a .toml file."
            f"{did_you_mean(name, recipe_names())} Fix: see `lensmount recipe --list`"
        )
    return read_recipe(path)


def read_recipe(path: Path) -> Recipe:
    """Read one file; raises TrainingError, which names the first wrong key."""
    try:
        return Recipe.model_validate({"name": path.stem, **tomllib.loads(path.read_text(encoding="utf-8"))})
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "recipe"
        raise TrainingError(f"{path.name}, {key}: {first['msg']}. Fix: see docs/recipes.md for the keys") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path.name}: found a file that is not TOML ({error}), expected a recipe. Fix: see docs/recipes.md"
        ) from error


def choose(asked: Sequence[str], known: Mapping[str, T], what: str) -> list[T]:
    """The named values in the order of `known`, or all if `asked` is empty. Raises TrainingError (unknown name)."""
    if unknown := [name for name in asked if name not in known]:
        raise TrainingError(f"found no {what} {unknown[0]!r}, expected {', '.join(known)}. Fix: choose one of these")
    return [value for name, value in known.items() if not asked or name in asked]
