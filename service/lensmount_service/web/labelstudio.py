"""The JSON of Label Studio's ML backends, spoken without its packages: tasks in, predictions out, annotations in.

Its form: https://github.com/HumanSignal/label-studio-ml-backend, `/predict`, `/setup`, `/webhook`.
"""

from __future__ import annotations

import base64
import binascii
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from lensmount_service.errors import RequestInvalid

MAX_CONFIG = 2**16  # characters of a labelling interface


class Task(BaseModel):
    """One item to label; `data` holds the image under the name that the labelling interface gives it."""

    model_config = ConfigDict(extra="ignore")
    id: int | str | None = None
    data: dict[str, Any] = Field(default_factory=dict)


class PredictRequest(BaseModel):
    """The body of /predict."""

    model_config = ConfigDict(extra="ignore")
    tasks: list[Task] = Field(max_length=1000)
    label_config: str = Field(max_length=MAX_CONFIG)


class Project(BaseModel):
    model_config = ConfigDict(extra="ignore")
    label_config: str = Field(default="", max_length=MAX_CONFIG)


class Annotation(BaseModel):
    model_config = ConfigDict(extra="ignore")
    result: list[dict[str, Any]] = Field(default_factory=list, max_length=1000)
    completed_by: Any = None  # a number, or an object with `id`
    prediction: Any = None  # what the annotator saw: an object with `model_version`


class Event(BaseModel):
    """The body of /webhook."""

    model_config = ConfigDict(extra="ignore")
    action: str = Field(max_length=64)
    task: Task = Field(default_factory=Task)
    annotation: Annotation = Field(default_factory=Annotation)
    project: Project = Field(default_factory=Project)

    @property
    def who(self) -> str:
        by = self.annotation.completed_by
        number = by.get("id") if isinstance(by, dict) else by
        return f"labelstudio user {number}" if isinstance(number, int) and 0 <= number < 2**63 else "labelstudio"

    @property
    def seen(self) -> str | None:
        """The digest of the adapter whose prediction the annotator saw, if the annotation says that."""
        seen = self.annotation.prediction
        version = seen.get("model_version") if isinstance(seen, dict) else None
        return version if isinstance(version, str) and re.fullmatch(r"sha256:[0-9a-f]{64}", version) else None

    def choice(self, control: Control) -> str:
        """The label that the person chose. Raises RequestInvalid unless there is exactly one."""
        for part in self.annotation.result:
            value = part.get("value")
            chosen = value.get("choices") if isinstance(value, dict) else None
            if part.get("from_name") == control.from_name and isinstance(chosen, list) and len(chosen) == 1:
                return str(chosen[0])
        raise RequestInvalid(
            f"found no single choice of {control.from_name!r} in the annotation, expected one. "
            'Fix: label with one choice (choice="single")'
        )


@dataclass(frozen=True, slots=True)
class Control:
    """The element with the choices, and the key of a task's data that has the image."""

    from_name: str
    to_name: str
    image_key: str
    choices: tuple[str, ...]


def control_of(label_config: str) -> Control:
    """Find `<Image>` and the `<Choices>` for it. Raises RequestInvalid."""
    if "<!" in label_config.replace("<!--", ""):  # no entities: they can grow without a limit
        raise _unusable("found a declaration in the labelling interface")
    try:
        root = ElementTree.fromstring(label_config)
    except ElementTree.ParseError as error:
        raise _unusable("found a labelling interface that is not XML") from error
    images = {image.get("name", ""): image.get("value", "") for image in root.iter("Image")}
    for choices in root.iter("Choices"):
        value = re.fullmatch(r"\$([\w.-]{1,64})", images.get(choices.get("toName", ""), ""))
        if value is not None:
            labels = tuple(choice.get("alias") or choice.get("value") or "" for choice in choices.iter("Choice"))
            return Control(choices.get("name", ""), choices.get("toName", ""), value[1], labels)
    raise _unusable("found no Choices for an Image in the labelling interface")


def url_of(task: Task, key: str) -> str:
    return str(task.data.get(key, ""))


def image_of(task: Task, key: str) -> bytes:
    """The bytes of a `data:` URL. Raises RequestInvalid."""
    found = re.fullmatch(r"data:image/[\w.+-]{1,40};base64,(.*)", url_of(task, key), re.DOTALL)
    try:
        if found is not None:
            return base64.b64decode(found[1], validate=True)
    except (binascii.Error, ValueError) as error:
        raise _no_image(key) from error
    raise _no_image(key)


def prediction(control: Control, labels: Sequence[str], scores: Sequence[float], version: str) -> dict[str, Any]:
    """One element of `results`: the best label as a choice, its score, and which adapter it is from."""
    score, label = max(zip(scores, labels, strict=True))
    choice = {
        "from_name": control.from_name,
        "to_name": control.to_name,
        "type": "choices",
        "value": {"choices": [label]},
    }
    return {"result": [choice], "score": min(1.0, score), "model_version": version}


def _unusable(found: str) -> RequestInvalid:
    return RequestInvalid(
        f'{found}, expected one such as <View><Image name="image" value="$image"/><Choices name="label" '
        'toName="image"><Choice value="a"/></Choices></View>. Fix: use the template "Image Classification"'
    )


def _no_image(key: str) -> RequestInvalid:
    return RequestInvalid(
        f"found no image as a data: URL under {key!r} of a task, and this server fetches no other URL. "
        "Fix: import tasks whose images are data:image/png;base64,..., or ask the operator to list the image host in "
        "LENSMOUNT_LABELSTUDIO_HOSTS"
    )
