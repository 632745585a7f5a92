"""Prompts: templates and descriptions of classes, as a person writes them in TOML. text_prototypes.py encodes them.

templates = ["a photo of {}.", "an H&E image of {}."]

[classes]
lung_n = ["benign lung tissue", "normal alveoli"]
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, StringConstraints, ValidationError

from lensmount_adapters.adapter.manifest import Label
from lensmount_adapters.errors import TrainingError


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # TOML has no tuples, and strict mode wants one


Template = Annotated[str, StringConstraints(pattern=r"^[^{}]*\{\}[^{}]*$", max_length=500)]
Description = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=r"^[^{}]+$")]


class Prompts(BaseModel):
    """Every template is filled with every description of a class; `{}` marks the place."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    templates: Annotated[tuple[Template, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=1000)]
    classes: Annotated[
        dict[
            Label,
            Annotated[tuple[Description, ...], BeforeValidator(_as_tuple), Field(min_length=1, max_length=1000)],
        ],
        Field(min_length=1),
    ]

    def texts(self, label: str) -> list[str]:
        """The class in words. Raises TrainingError for a class that is not described."""
        if label not in self.classes:
            raise TrainingError(
                f"found no description of the class {label!r} in the prompts, expected one for each class; "
                f"described are {', '.join(sorted(self.classes))[:200]}. Fix: add it under [classes]"
            )
        return [template.replace("{}", words) for words in self.classes[label] for template in self.templates]


def read_prompts(path: Path) -> Prompts:
    """Read a TOML file; raises TrainingError that names the first wrong key."""
    try:
        return prompts_of(tomllib.loads(path.read_text(encoding="utf-8")), path.name)
    except OSError as error:
        raise TrainingError(f"found no prompts in {path}, expected a TOML file. Fix: another path") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(
            f"{path.name}: found no TOML ({error}), expected prompts. Fix: see docs/training.md"
        ) from error


def prompts_of(table: Mapping[str, Any], source: str = "prompts") -> Prompts:
    """Prompts from a table of TOML or JSON; raises TrainingError that names the first wrong key in `source`."""
    try:
        return Prompts.model_validate(table)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "prompts"
        raise TrainingError(
            f"{source}, {where}: {first['msg']}. Fix: templates with one {{}}, and [classes] with descriptions"
        ) from error
