"""The answer of POST /datasets/{name}/draft."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from lensmount_service.web.schemas import AdapterRef


class DraftInfo(BaseModel):
    """What a draft was made of, and how good it is."""

    images: int = Field(description="That the head was solved on", examples=[40])
    left_out: int = Field(description="Images of the dataset that were not used: too many, copies, or kept for tests")
    most_of_a_class: int = Field(description="How many images of a class are used at most", examples=[200])
    classes: dict[str, int] = Field(examples=[{"Parasitized": 20, "Uninfected": 20}])
    balanced_accuracy: float | None = Field(
        description="Of images that the head was solved without; null if a class has a single group", examples=[0.82]
    )
    judged_by: Literal["cross-validation"] = "cross-validation"
    seconds: float = Field(description="From the request to the published version", examples=[1.4])


class DraftMade(AdapterRef):
    """The version that was published. It answers until a trained adapter replaces it."""

    draft: DraftInfo
