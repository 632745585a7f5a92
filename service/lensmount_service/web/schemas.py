"""The wire types: what the routes return, with the examples that /docs shows."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from lensmount_service.rollout_spec import RolloutInfo
from lensmount_service.web.trust_schemas import AliasTrust, Promises, TrustInfo

_DIGEST = "sha256:5b1c4f0a9d0e6b7c8a2f3e4d5c6b7a8f9e0d1c2b3a4f5e6d7c8b9a0f1e2d3c4b"


TENANT = Field("default", description="Whose it is; `public` if it is shared as public/NAME", examples=["lab1"])
SIGNED_BY = Field(None, description="The trusted key that signed the file, if there is one")
OWNER = Field(None, description="The name of the token that uploaded it; null if it is public or not known")


class AdapterRef(BaseModel):
    """The adapter that answered; its digest identifies its bytes."""

    name: str = Field(examples=["malaria"])
    version: int = Field(examples=[1])
    digest: str = Field(examples=[_DIGEST])


class SharedAs(BaseModel):
    """What a tenant shares: all others read it as `public_name`."""

    name: str = Field(examples=["malaria"])
    public_name: str = Field(examples=["public/malaria"])


class AdapterSource(BaseModel):
    """The body of POST /adapters/{name}/fetch: where the file is, and which bytes it must have."""

    model_config = ConfigDict(extra="forbid", strict=True)
    url: str = Field(max_length=2048, examples=["hf://lab/adapters@v1/malaria.safetensors"])
    digest: str = Field(pattern=r"^sha256:[0-9a-f]{64}$", examples=["sha256:" + "0" * 64])


class AdapterUploaded(AdapterRef):
    """The version that an upload made, or the latest one if that has the same bytes."""

    note: str | None = Field(default=None, description="What was changed in the file, and what that costs.")


class BackboneInfo(BaseModel):
    name: str = Field(examples=["tf_efficientnet_lite0"])
    fingerprint: str = Field(examples=[_DIGEST])


class LabelScore(BaseModel):
    label: str = Field(examples=["Parasitized"])
    score: float = Field(ge=0, le=1, examples=[0.983])


class Timing(BaseModel):
    """How long each step of this image took, in milliseconds; `swap` and `forward` are those of its whole batch."""

    queue: float
    decode: float
    swap: float
    forward: float
    total: float


class ImageRef(BaseModel):
    """Which image of the request a result is for; `name` is the client's own name for it."""

    index: int
    name: str | None = None


class Fallback(BaseModel):
    """The newest version that works answered, because the one that was asked for is quarantined."""

    asked: int = Field(description="The version that the name or alias stands for", examples=[3])
    served: int = Field(examples=[2])
    code: Literal["adapter_quarantined"] = "adapter_quarantined"


class Answered(BaseModel):
    """The result for one image and one adapter; `predictions` are sorted, best first."""

    adapter: AdapterRef
    backbone: BackboneInfo
    predictions: list[LabelScore]
    request_id: str
    timing_ms: Timing
    fallback: Fallback | None = Field(default=None, description="null if `adapter` is the version that was asked for")


class Prediction(Answered):
    """The result of an adapter that gives labels."""

    trust: TrustInfo | None = Field(description="null for an adapter that promises nothing about its answers")
    abstained: str | None = Field(
        description="With decision=strict: why `predictions` is empty. null if the labels are given", examples=[None]
    )


class ImagePrediction(Prediction):
    image: ImageRef


class Mask(BaseModel):
    """One label's mask: `counts` are COCO's uncompressed run lengths, column by column and zeros first."""

    label: str = Field(examples=["nucleus"])
    counts: list[int] = Field(examples=[[65_100, 12, 244, 14]])
    area: int = Field(description="Pixels", examples=[9_311])
    count: int = Field(description="Regions whose pixels touch by an edge or a corner", examples=[41])
    areas: list[int] = Field(description="Pixels of each region", examples=[[230, 187]])


class Segmentation(BaseModel):
    """The masks of an image, at the image's own size after EXIF rotation."""

    size: tuple[int, int] = Field(description="Height and width", examples=[(256, 320)])
    encoding: Literal["rle"] = "rle"
    masks: list[Mask] = Field(description="In the order of the adapter's labels")

    def shares(self) -> list[float]:
        """The share of the image that each label covers."""
        return [mask.area / (self.size[0] * self.size[1]) for mask in self.masks]


class SegmentedPrediction(Answered):
    """The result of a segmentation adapter; the scores of `predictions` are shares of the image."""

    segmentation: Segmentation


class SegmentedImagePrediction(SegmentedPrediction):
    image: ImageRef


class ResultError(BaseModel):
    """Why an adapter gave no result, with the status and code that a request for it alone would have."""

    status: int = Field(examples=[503])
    code: str = Field(examples=["adapter_quarantined"])
    detail: str


class FailedResult(BaseModel):
    """The place of a result that could not be computed. `predictions` is empty, and `error` says why."""

    adapter: AdapterRef
    predictions: list[LabelScore] = Field(default_factory=list, max_length=0)
    image: ImageRef
    error: ResultError


class Predictions(BaseModel):
    """The results for several images or several adapters, ordered by image and then by adapter.

    If one of several adapters fails, its results have `error`, and the status is 207.
    """

    results: list[SegmentedImagePrediction | ImagePrediction | FailedResult]
    request_id: str


class ExplanationTiming(BaseModel):
    """How long each step took, in milliseconds; `explain` has the time in the queue."""

    decode: float
    explain: float
    total: float


class Explanation(BaseModel):
    """Which parts of an image speak for a label: a grid of values over the part of the image that the network saw."""

    adapter: AdapterRef
    backbone: BackboneInfo
    label: str = Field(examples=["Parasitized"])
    score: float = Field(ge=0, le=1, examples=[0.983], description="The adapter's score for the label")
    method: str = Field(examples=["cam"], description="cam, layercam or occlusion")
    grid: tuple[int, int] = Field(description="Rows and columns of `values`", examples=[(2, 3)])
    values: list[list[float]] = Field(
        description="Larger values speak for the label. cam: parts of the logit; occlusion: how far the score falls",
        examples=[[[0.02, 0.41, -0.01], [0.0, 0.07, 0.03]]],
    )
    size: tuple[int, int] = Field(description="Height and width of the image as posted", examples=[(106, 142)])
    box: tuple[float, float, float, float] = Field(
        description="Where the grid lies in the image: left, top, right, bottom in its pixels. With a border around "
        "the image, it is larger than the image",
        examples=[(0.0, 0.0, 142.0, 106.0)],
    )
    request_id: str
    timing_ms: ExplanationTiming


class AdapterInfo(AdapterRef):
    """One adapter name with its latest version."""

    size_bytes: int
    created_at: str
    method: str = Field(examples=["lora"])
    labels: list[str]
    titles: dict[str, str] = Field(
        default_factory=dict,
        description="How people read a label, for the labels that the file gives a title",
        examples=[{"lung_n": "Normal lung tissue"}],
    )
    backbone: BackboneInfo
    aliases: dict[str, int] = Field(examples=[{"prod": 1}])
    protected_aliases: list[str] = Field(
        default_factory=list, description="Those that only an administrator of the tenant moves or deletes"
    )
    alias_trust: dict[str, AliasTrust] = Field(
        description="The aliases with thresholds of their own", examples=[{"prod": {"accept_confidence": 0.9}}]
    )
    rollouts: dict[str, RolloutInfo] = Field(default_factory=dict, description="Of the aliases with a rollout")
    versions: list[int]
    draft: bool = Field(False, description="Whether the latest version is a first draft, which no job has trained")
    trust: Promises | None = Field(description="What the latest version promises; null if it promises nothing")
    status: str = Field(
        description="ready; backbone_mismatch if the server runs another backbone; quarantined if it failed "
        "too often; untrusted if signatures are required and no trusted key has signed it"
    )
    tier: str = Field(
        description="hot or merged: merged weights in memory; memory: factors in memory; file or remote: read on demand"
    )
    tenant: str = TENANT
    owner: str | None = OWNER
    signed_by: str | None = SIGNED_BY


class AdapterStats(BaseModel):
    """How an adapter was used by the caller's tenant, on this server."""

    name: str
    since: str = Field(description="When the server started; a restart counts from 0")
    requests: dict[str, int] = Field(description="By status", examples=[{"200": 41, "413": 1}])
    images: int = Field(description="That have an answer")
    decisions: dict[str, int] = Field(examples=[{"accept": 39, "uncertain": 2}])
    mean_ms: float | None = Field(description="Mean time of the requests that were answered")
    last_used: str | None


class AdapterDetail(AdapterInfo):
    manifest: dict[str, Any]


class VersionDetail(AdapterRef):
    size_bytes: int
    created_at: str
    trust: Promises | None
    manifest: dict[str, Any]
    tenant: str = TENANT
    owner: str | None = OWNER
    signed_by: str | None = SIGNED_BY


class AliasInfo(AdapterRef):
    alias: str
    trust: AliasTrust | None = Field(description="The alias's thresholds, or null if it has none")
    rollout: RolloutInfo | None = Field(None, description="The rollout that runs; null if the alias has one version")


class ImportedModule(BaseModel):
    """One module of the backbone that an imported file changes, or its head."""

    module: str = Field(examples=["layer4.0.conv1"])
    form: str = Field(description="low-rank, tucker, scaled, full, head, or shared by all modules")
    rank: int | None
    error: float = Field(description="Relative error of the merged weight as stored, against a merge in float64")
    tensors: list[str] = Field(description="Names in the file")


class ImportReport(BaseModel):
    """What became of every tensor of an imported file."""

    tool: str = Field(examples=["PEFT"])
    method: str = Field(examples=["LoRA"])
    labels: list[str]
    stored_as: str = Field(examples=["float32"])
    share: float = Field(description="The part of the file's numbers that became deltas or the head")
    error: float = Field(description="The largest error of a module")
    matched: list[ImportedModule]
    ignored: dict[str, str] = Field(description="Names of tensors without effect, each with the reason")
    notes: list[str] = Field(description="What was assumed, such as a prefix that was stripped")
    unproven: str = Field(description="What the file cannot prove")


class Imported(BaseModel):
    """The new version, or null after a dry run, and the report."""

    adapter: AdapterRef | None
    report: ImportReport


class DeletedVersion(AdapterRef):
    """A version that can be undeleted, at least until `kept_until`."""

    size_bytes: int
    deleted_at: str = Field(examples=["2026-11-22T10:00:00Z"])
    kept_until: str = Field(examples=["2026-11-29T10:00:00Z"])


class AdapterList(BaseModel):
    adapters: list[AdapterInfo]


class DeletedAdapters(BaseModel):
    """The versions that can be undeleted, by name and number."""

    deleted: list[DeletedVersion]


class DatasetInfo(BaseModel):
    """One version of a dataset; `digest` is the digest of its canonical archive."""

    name: str = Field(examples=["cells"])
    version: int = Field(examples=[1])
    digest: str = Field(examples=[_DIGEST])
    size_bytes: int
    created_at: str
    images: int = Field(examples=[279])
    classes: dict[str, int] = Field(examples=[{"Parasitized": 151, "Uninfected": 128}])
    report: dict[str, Any] = Field(
        description="What is in it: sizes, formats, duplicates, near-duplicates, unreadable and ignored files, warnings"
    )
    tenant: str = TENANT
    owner: str | None = OWNER


class DatasetList(BaseModel):
    """The latest version of each dataset, by name."""

    datasets: list[DatasetInfo]


class DatasetEdits(BaseModel):
    """Other labels by path, and paths to leave out."""

    model_config = ConfigDict(extra="forbid", strict=True)
    relabel: dict[str, str] = Field(default_factory=dict, max_length=100_000, examples=[{"cat/1.png": "dog"}])
    exclude: list[str] = Field(default_factory=list, max_length=100_000, examples=[["cat/2.png"]])


class ReviewInfo(BaseModel):
    """How far the review of a version is, and its result."""

    name: str = Field(examples=["cells"])
    version: int = Field(examples=[1])
    digest: str = Field(examples=[_DIGEST])
    state: str = Field(examples=["done"], description="none, waiting, running, done or failed")
    phase: str | None = Field(description="reading or features, while it is running")
    done: int = Field(description="Images done in this phase")
    total: int
    review: dict[str, Any] | None = Field(
        description="Likely wrong labels, outliers, look-alikes, leaks and shortcuts, the most suspicious first"
    )
    error: str | None = Field(description="Why it failed")


class UploadState(BaseModel):
    """How many bytes of an upload the server already has."""

    received: int = Field(ge=0, examples=[8_388_608])


class Integrity(BaseModel):
    """Whether every resident tensor hashes to what it was at start."""

    ok: bool
    fingerprint: str
    tensors: int
    changed: list[str]
    seconds: float
    age_s: float = 0.0


class Problem(BaseModel):
    """application/problem+json (RFC 9457); `code` is stable."""

    type: str = Field(examples=["urn:lensmount:problem:adapter_not_found"])
    title: str = Field(examples=["Not Found"])
    status: int = Field(examples=[404])
    detail: str = Field(examples=["found no adapter named 'malria'. Fix: see GET /adapters for the names"])
    code: str = Field(examples=["adapter_not_found"])
    request_id: str
