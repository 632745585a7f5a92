"""The wire types of labelling: images that wait for a label, labels, and versions made of both."""

from __future__ import annotations

from typing import Annotated

from fastapi import Query
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from lensmount_adapters.characters import refused_character
from lensmount_service.web.schemas import AdapterRef, DatasetInfo, LabelScore

_IMAGE = "sha256:5b1c4f0a9d0e6b7c8a2f3e4d5c6b7a8f9e0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b"
_WHO = r"^[^\x00-\x20\x7f][^\x00-\x1f\x7f]{0,63}$"


def _plain(text: str) -> str:
    if found := refused_character(text):
        raise ValueError(f"found {found}, expected a name in one line of plain text")
    return text


DIGEST = r"^sha256:[0-9a-f]{64}$"

Who = Annotated[
    str,
    AfterValidator(_plain),
    Query(pattern=_WHO, description="The person's name, as the labels will show it", examples=["reader1"]),
]


class UnlabelledImage(BaseModel):
    """An image of a pool; its digest names it."""

    digest: str = Field(examples=[_IMAGE])
    size_bytes: int
    added_at: float = Field(description="Seconds since 1970")
    added_by: str = Field(examples=["reader1"])
    group: str | None = Field(description="Patient, slide or source")


class ImagesAdded(BaseModel):
    """The images of a request, in its order. `added` counts those that the pool did not have yet."""

    images: list[UnlabelledImage]
    added: int


class PoolInfo(BaseModel):
    """How much is in a pool."""

    name: str = Field(examples=["cells"])
    images: int
    labels: int = Field(description="All that were given, also several for one image")
    size_bytes: int


class PoolSummaryInfo(BaseModel):
    """What a pool holds, and who looks at how many of its images now."""

    name: str = Field(examples=["cells"])
    images: int
    labelled: int = Field(description="Images with a label of at least one person")
    size_bytes: int
    held: dict[str, int] = Field(
        description="Images that people have reserved and not labelled yet, by name; at most 100 people",
        examples=[{"reader1": 10}],
    )


class PoolList(BaseModel):
    """Pools by name."""

    pools: list[PoolSummaryInfo]


class NextImage(BaseModel):
    """An image to label, and what the adapter says about it."""

    digest: str = Field(examples=[_IMAGE])
    predictions: list[LabelScore]


class NextImages(BaseModel):
    """The images that one person labels next; nobody else gets them until `lease_s` seconds are over.

    While the adapter still computes the pool, `state` is scoring, and `items` is empty.
    """

    name: str = Field(examples=["cells"])
    adapter: AdapterRef
    strategy: str = Field(examples=["margin"])
    state: str = Field(examples=["done"], description="scoring or done")
    done: int = Field(description="Images that the adapter has computed")
    total: int = Field(description="Images without a label that nobody holds")
    unfamiliar: int = Field(description="Images left out because they are unlike those of the adapter")
    lease_s: float
    items: list[NextImage]


class GivenLabels(BaseModel):
    """The body of POST /datasets/{name}/labels: who says which label about which image."""

    model_config = ConfigDict(extra="forbid", strict=True)
    who: Annotated[str, StringConstraints(pattern=_WHO), AfterValidator(_plain)] = Field(examples=["reader1"])
    labels: dict[Annotated[str, StringConstraints(pattern=DIGEST)], str] = Field(
        min_length=1, max_length=1000, examples=[{_IMAGE: "Parasitized"}]
    )


class LabelInfo(BaseModel):
    """One person's label for one image. Labels are only ever added."""

    number: int
    digest: str = Field(examples=[_IMAGE])
    label: str = Field(examples=["Parasitized"])
    who: str = Field(examples=["reader1"])
    at: float = Field(description="Seconds since 1970")
    adapter: str | None = Field(description="Whose answer it corrects: NAME@VERSION and its digest")
    request_id: str | None = Field(description="The request that it corrects")


class LabelList(BaseModel):
    """Labels in the order in which they came."""

    labels: list[LabelInfo]


class LabelsAdded(LabelList):
    """The labels of a request, as they are kept."""


class Published(DatasetInfo):
    """A version made of labelled images. Images about which people disagree are not in it."""

    labelled: int = Field(description="Images whose label was used")
    disputed: list[str] = Field(description="Digests of up to 1,000 images without a majority for one label")


class Feedback(BaseModel):
    """The image and the label as they are kept in the pool `dataset`."""

    dataset: str = Field(examples=["malaria-feedback"])
    digest: str = Field(examples=[_IMAGE])
    label: str = Field(examples=["Parasitized"])
    who: str = Field(examples=["reader1"])
    adapter: AdapterRef
    request_id: str
