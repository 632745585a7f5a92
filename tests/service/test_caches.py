"""No cache of the server (names, adapters, trunk, programs, factors, explanations) answers for another adapter.

Files that differ in one thing only are versions of two names, in two orders: whatever a key might hold besides the
digest, such as name, version, labels, shapes or input rule, is equal for two of them somewhere.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fastapi.testclient import TestClient
from tests.service.by_hand import scores_by_hand, smallest_difference

from lensmount_adapters import Backbone, dump_adapter, parse_adapter
from lensmount_adapters.adapter.file import digest_of
from lensmount_adapters.runners.merged import MergedRunner
from lensmount_adapters.runners.segment_runner import SegmentRunner

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng

    from lensmount_service.build import Parts

LABELS = ("a", "b", "c")


def variants(data: bytes) -> dict[str, bytes]:
    """The file, and files that differ from it in one thing."""
    file = parse_adapter(data)
    manifest, tensors = file.manifest, dict(file.tensors)
    rule: Any = manifest.preprocessing

    def with_rule(**changes: Any) -> bytes:
        return dump_adapter(
            manifest.model_copy(update={"preprocessing": rule.model_copy(update=changes)}), tensors, full
        )

    def with_tensors(factor: float, part: str) -> bytes:
        changed = {name: tensor * factor if part in name else tensor for name, tensor in tensors.items()}
        return dump_adapter(manifest, changed, full)

    full = torch.float32
    return {
        "as it is": data,
        "other factors": with_tensors(-0.5, "lora_B"),
        "another head": with_tensors(-1.0, "head"),
        "other labels": dump_adapter(manifest.model_copy(update={"labels": LABELS[::-1]}), tensors, full),
        "another mean": with_rule(mean=(0.9, 0.2, 0.5)),
        "another size": with_rule(size=(48, 48)),
        "another way to scale": with_rule(resize="crop", crop_fraction=0.5),
    }


class Asked:
    """The scores by plain torch of every file and image, by label, to which answers are compared."""

    def __init__(self, backbone: Backbone, files: Sequence[bytes], images: Sequence[bytes]) -> None:
        self.images = images
        self._expected: dict[str, torch.Tensor] = {}
        for data in files:
            order = [parse_adapter(data).manifest.labels.index(label) for label in LABELS]
            self._expected[digest_of(data)] = scores_by_hand(backbone, data, images)[:, order]
        assert smallest_difference(list(self._expected.values())) > 2e-3  # twenty times the tolerance

    def compare(self, digest: str, image: int, scores: dict[str, float]) -> None:
        for label, score in scores.items():
            assert abs(score - float(self._expected[digest][image][LABELS.index(label)])) < 1e-4, (digest, label)


@pytest.mark.parametrize("executor", ["eager", "openvino", "merged"])
def test_no_cache_answers_for_another_adapter_version_or_preprocessing(
    executor: str, make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, fresh_backbone: Backbone
) -> None:
    if executor == "openvino":
        pytest.importorskip("openvino")
    files = list(variants(make_adapter(1, LABELS)).values())
    asked = Asked(fresh_backbone, files, [make_png(seed) for seed in range(3)])
    with make_parts(executor=executor) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        meant = {}
        for name, order in (("cells", files), ("tiles", files[::-1])):
            for number, data in enumerate(order, 1):
                client.put(f"/adapters/{name}", content=data).raise_for_status()
                meant[f"{name}@{number}"] = digest_of(data)
        ask_in_turn(client, parts, asked, meant)
        require_keys_by_digest(parts, set(meant.values()))
        assert client.get("/integrity").json()["ok"]


def ask_in_turn(client: TestClient, parts: Parts, asked: Asked, meant: dict[str, str]) -> None:
    """One or several adapters at once, by version or by an alias that moves or has a rollout; explanations at every
    fourth turn.
    """
    draw = random.Random(0)
    for number in range(40):
        target = draw.choice(sorted(meant))
        name, _, version = target.partition("@")
        other = draw.choice([each for each in meant if each.startswith(f"{name}@") and each != target])
        canary = {"version": int(other.partition("@")[2]), "percent": 50}
        body = {"version": int(version)} if number % 2 else {"stable": int(version), "canary": canary}
        moved = client.put(f"/adapters/{name}/aliases/prod", json=body)
        assert moved.json()["digest"] == meant[target]
        meanings = {reference: {digest} for reference, digest in meant.items()}
        meanings[f"{name}:prod"] = {meant[target]} if number % 2 else {meant[target], meant[other]}
        references = [f"{name}:prod", *draw.sample(sorted(meant), draw.choice((0, 0, 2, 5)))]
        image = draw.randrange(len(asked.images))
        answer = client.post("/predict", params={"adapter": ",".join(references)}, content=asked.images[image]).json()
        for reference, result in zip(references, answer.get("results", [answer]), strict=True):
            digest = result["adapter"]["digest"]
            assert digest in meanings[reference]
            asked.compare(digest, image, {each["label"]: each["score"] for each in result["predictions"]})
        if number % 4 == 0:
            explained = client.post(f"/explain?adapter={name}:prod&label=b", content=asked.images[image]).json()
            assert explained["adapter"]["digest"] in meanings[f"{name}:prod"]
            asked.compare(explained["adapter"]["digest"], image, {"b": explained["score"]})
        if number % 5 == 0 and isinstance(parts.engine.runner, SegmentRunner):
            parts.engine.runner.settle()


def require_keys_by_digest(parts: Parts, digests: set[str]) -> None:
    """What the runner keeps of an adapter, it keeps under the digest."""
    runner = parts.engine.runner
    if isinstance(runner, MergedRunner):
        assert any(runner.tier(digest) for digest in digests)
        return
    assert isinstance(runner, SegmentRunner)
    prepared = [split.mixed_program.prepared.keys() for split in runner.splits if split.mixed_program is not None]
    assert set().union(*prepared) <= digests
    assert [digest for digest in digests if digest in runner.programs.cache]
