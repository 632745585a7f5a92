"""Prompts: hand-written templates and class descriptions, in TOML. text_prototypes.py encodes them.

templates = ["a photo of {}.", "an H&E image of {}."]

[classes]
lung_n = ["benign lung tissue", "normal alveoli"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from lensmount_adapters.adapter.manifest import Label
from lensmount_adapters.errors import TrainingError

MAX_TEXTS = 100_000  # of all classes: 80 templates for each of the 1,000 classes of ImageNet, and more


def _as_tuple(value: object) -> object:
    return (
        tuple(value) if isinstance(value, list) else value
    )  # TOML has no tuples, and strict mode accepts nothing else


Template = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{\}[^{}]*$", max_length=500)]
Description = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^{}]+$")]


class Prompts(BaseModel):
    """Every template is combined with every description of a class, which replaces the `{}`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    templates: Annotated[tuple[Template, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=1000)]
    classes: Annotated[
        dict[
            Label,
            Annotated[tuple[Description, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=1000)],
        ],
        Field(min_length=1),
    ]

    @model_validator(mode="after")
    def _can_be_encoded(self) -> Prompts:
        count = len(self.templates) * sum(map(len, self.classes.values()))
        if count > MAX_TEXTS:
            raise ValueError(
                f"found {count} texts (templates x descriptions), expected at most {MAX_TEXTS}. Write fewer templates"
            )
        return self

    def texts(self, label: str) -> list[str]:
        """All texts that describe the class. Raises TrainingError if it has no description."""
        if label not in self.classes:
            raise TrainingError(
                f"found no description of the class {label!r} in the prompts, expected one for each class. "
                f"Described are {', '.join(sorted(self.classes))[:200]}. Fix: add it under [classes]"
            )
        return [template.replace("{}", text) for text in self.classes[label] for template in self.templates]


def read_prompts(path: Path) -> Prompts:
    """Read a TOML file. Raises a TrainingError that names the first wrong key."""
    try:
        return prompts_of(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise TrainingError(f"found no prompts in {path}, expected a TOML file. Fix: check the path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path.name}: found invalid TOML ({error}), expected prompts. Fix: see docs/training.md for the format"
        ) from error


def prompts_of(table: Mapping[str, Any], source: str = "prompts") -> Prompts:
    """Prompts from a table of TOML or JSON. Raises a TrainingError that names the first wrong key in `source`."""
    try:
        return Prompts.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "prompts"
        raise TrainingError(
            f"{source}, {where}: {first['msg']}. "
            "Fix: write templates with one {} each, and [classes] with descriptions"
        ) from error
