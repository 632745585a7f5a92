from __future__ import annotations

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import safetensors.torch
import torch
from fastapi.testclient import TestClient

from lensmount_adapters import parse_adapter

if TYPE_CHECKING:
    from tests.service.conftest import CompareAnswers, ListPublished, MakeAdapter, MakeParts, MakePng, MakeTrusted


def test_an_upload_returns_its_digest_and_the_file_comes_back_byte_for_byte(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    data = make_adapter(5)
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"

    made = client.put("/adapters/new", content=data)
    assert made.status_code == 201
    assert made.json() == {"name": "new", "version": 1, "digest": digest}
    back = client.get("/adapters/new/file")
    assert back.content == data
    assert back.headers["ETag"] == f'"{digest}"'


def test_the_same_bytes_again_create_no_new_version(shared_client: TestClient, make_adapter: MakeAdapter) -> None:
    again = shared_client.put("/adapters/cells", content=make_adapter(1, ("a", "b")))

    assert (again.status_code, again.json()["version"]) == (200, 1)
    assert shared_client.get("/adapters/cells").json()["versions"] == [1]


def test_other_bytes_create_the_next_version_and_old_versions_stay(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    old = client.get("/adapters/cells/file").content
    assert client.put("/adapters/cells", content=make_adapter(9)).json()["version"] == 2

    info = client.get("/adapters/cells").json()
    assert (info["version"], info["versions"]) == (2, [1, 2])
    assert client.get("/adapters/cells/file?version=1").content == old
    assert client.get("/adapters/cells/versions/1").json()["manifest"]["labels"] == ["a", "b"]


def test_a_form_upload_takes_its_name_from_the_field_or_from_the_manifest(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    named = client.post("/adapters", files={"file": ("a.safetensors", make_adapter(5))}, data={"name": "mine"})
    assert (named.status_code, named.json()["name"]) == (201, "mine")
    own = client.post("/adapters", files={"file": ("a.safetensors", make_adapter(6, name="manifest-name"))})
    assert (own.status_code, own.json()["name"]) == (201, "manifest-name")


def test_the_list_describes_each_adapter(shared_client: TestClient) -> None:
    listed = shared_client.get("/adapters").json()["adapters"]

    assert [(a["name"], a["labels"], a["status"], a["method"]) for a in listed] == [
        ("cells", ["a", "b"], "ready", "lora"),
        ("tiles", ["x", "y", "z"], "ready", "lora"),
    ]


def test_a_deleted_version_answers_410_and_its_number_is_never_used_again(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    client.put("/adapters/cells", content=make_adapter(9))
    assert client.delete("/adapters/cells/versions/2").status_code == 204

    gone = client.post("/predict?adapter=cells@2", content=make_png())
    assert (gone.status_code, gone.json()["code"]) == (410, "version_deleted")
    assert client.post("/predict?adapter=cells", content=make_png()).json()["adapter"]["version"] == 1
    assert client.put("/adapters/cells", content=make_adapter(9)).json()["version"] == 3


def test_a_deleted_adapter_is_unknown_and_the_other_one_still_answers(client: TestClient, make_png: MakePng) -> None:
    assert client.delete("/adapters/cells").status_code == 204

    gone = client.post("/predict?adapter=cells", content=make_png())
    assert (gone.status_code, gone.json()["code"]) == (404, "adapter_not_found")
    assert client.delete("/adapters/cells").status_code == 404
    assert client.post("/predict?adapter=tiles", content=make_png()).status_code == 200


def test_one_file_under_two_names_outlives_the_deletion_of_one(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    client.put("/adapters/twin", content=make_adapter(1, ("a", "b")))
    client.delete("/adapters/cells")

    assert client.get("/adapters/twin/file").content == make_adapter(1, ("a", "b"))
    assert client.post("/predict?adapter=twin", content=make_png()).status_code == 200


def test_an_alias_can_be_moved_and_removed(client: TestClient, make_adapter: MakeAdapter, make_png: MakePng) -> None:
    client.put("/adapters/cells", content=make_adapter(9))
    assert client.put("/adapters/cells/aliases/prod", json={"version": 1}).json()["version"] == 1
    assert client.put("/adapters/cells/aliases/prod", json={"version": 2}).json()["version"] == 2
    assert client.get("/adapters/cells").json()["aliases"] == {"prod": 2}

    assert client.delete("/adapters/cells/aliases/prod").status_code == 204
    gone = client.post("/predict?adapter=cells:prod", content=make_png())
    assert (gone.status_code, gone.json()["code"]) == (404, "alias_not_found")
    missing = client.put("/adapters/cells/aliases/prod", json={"version": 7})
    assert (missing.status_code, missing.json()["code"]) == (404, "version_not_found")


def test_the_thresholds_of_an_alias_are_set_shown_kept_and_removed(
    shared_client: TestClient, make_trusted: MakeTrusted
) -> None:
    shared_client.put("/adapters/sure", content=make_trusted())
    path = "/adapters/sure/aliases/prod"
    body = {"version": 1, "trust": {"accept_confidence": 0.9, "unfamiliar_percentile": 99.5}}

    assert shared_client.put(path, json=body).json()["trust"] == body["trust"]
    assert shared_client.get("/adapters/sure").json()["alias_trust"] == {"prod": body["trust"]}
    assert shared_client.put(path, json={"version": 1}).json()["trust"] == body["trust"]
    one = shared_client.put(path, json={"version": 1, "trust": {"accept_confidence": 1}}).json()["trust"]
    assert one == {"accept_confidence": 1.0, "unfamiliar_percentile": None}
    listed = {adapter["name"]: adapter["alias_trust"] for adapter in shared_client.get("/adapters").json()["adapters"]}
    assert listed == {"cells": {}, "tiles": {}, "sure": {"prod": one}}
    assert shared_client.put(path, json={"version": 1, "trust": {}}).json()["trust"] is None
    assert shared_client.get("/adapters/sure").json()["alias_trust"] == {}
    shared_client.delete("/adapters/sure")


@pytest.mark.parametrize(
    "trust",
    [
        *({"accept_confidence": value} for value in (-0.1, 1.1, "0.9", True, [0.9])),
        *({"unfamiliar_percentile": value} for value in (0, -1, 100.5, "99")),
        {"accept": 0.9},
        [],
        0.9,
        {"accept_confidence": 0.5},  # of an adapter that measures nothing
    ],
)
def test_thresholds_that_decide_nothing_are_refused(shared_client: TestClient, trust: Any) -> None:
    refused = shared_client.put("/adapters/cells/aliases/prod", json={"version": 1, "trust": trust})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_request")
    assert shared_client.get("/adapters/cells").json()["aliases"] == {}


def test_everything_survives_a_restart(
    make_parts: MakeParts,
    make_adapter: MakeAdapter,
    make_trusted: MakeTrusted,
    make_png: MakePng,
    published: ListPublished,
    same_scores: CompareAnswers,
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1))
        client.put("/adapters/cells", content=make_adapter(2))
        client.put("/adapters/cells/aliases/prod", json={"version": 1})
        client.put("/adapters/sure", content=make_trusted())
        trust = {"accept_confidence": 0.9}
        assert client.put("/adapters/sure/aliases/lab", json={"version": 1, "trust": trust}).status_code == 200
        before = published(client)
        answer = client.post("/predict?adapter=cells:prod", content=make_png()).json()

    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        assert published(client) == before
        again = client.post("/predict?adapter=cells:prod", content=make_png()).json()
        assert same_scores(again, answer)
        assert again["adapter"] == answer["adapter"]


def test_a_damaged_blob_is_never_served_and_its_upload_heals_it(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, tmp_path: Path
) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        digest = client.put("/adapters/cells", content=make_adapter(1)).json()["digest"]
        client.put("/adapters/tiles", content=make_adapter(2))
    blob = tmp_path / "blobs" / digest.removeprefix("sha256:")
    data = bytearray(blob.read_bytes())
    data[-1] ^= 1
    blob.write_bytes(data)

    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for answer in (client.post("/predict?adapter=cells", content=make_png()), client.get("/adapters/cells/file")):
            assert (answer.status_code, answer.json()["code"]) == (503, "adapter_corrupt")
        assert client.post("/predict?adapter=tiles", content=make_png()).status_code == 200
        assert client.put("/adapters/cells", content=make_adapter(1)).status_code == 200
        assert client.get("/adapters/cells/file").content == make_adapter(1)


def test_an_adapter_for_another_backbone_is_listed_but_not_served(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    from lensmount_adapters import load_backbone

    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/cells", content=make_adapter(1))
    with make_parts(load_backbone("test_resnet", "random:1")) as parts:
        with TestClient(parts.app, base_url="http://127.0.0.1") as client:
            assert client.get("/adapters/cells").json()["status"] == "backbone_mismatch"
            refused = client.post("/predict?adapter=cells", content=make_png())
            assert (refused.status_code, refused.json()["code"]) == (409, "backbone_mismatch")


def test_an_export_is_a_zip_with_its_digest_and_an_unknown_format_is_refused(shared_client: TestClient) -> None:
    answer = shared_client.get("/adapters/cells/export?to=timm")

    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/zip")
    assert answer.headers["ETag"] == f'"sha256:{hashlib.sha256(answer.content).hexdigest()}"'
    assert answer.headers["Content-Length"] == str(len(answer.content))
    assert 'filename="cells-timm.zip"' in answer.headers["Content-Disposition"]
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert names == ["README.md", "config.json", "lensmount.json", "model.safetensors"]
    refused = shared_client.get("/adapters/cells/export?to=tensorflow")
    assert (refused.status_code, refused.json()["code"]) == (422, "export_not_possible")
    assert "expected peft, lycoris, timm" in refused.json()["detail"]
    assert shared_client.get("/adapters/none/export?to=peft").status_code == 404
    assert shared_client.get("/adapters/cells/export").json()["code"] == "invalid_request"


def test_an_adapter_for_the_same_weights_in_another_precision_is_accepted_when_asked(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng
) -> None:
    from lensmount_adapters import Backbone, load_backbone

    whole = load_backbone("test_resnet", "random:0")
    half = load_backbone("test_resnet", "random:1").module
    half.load_state_dict({name: tensor.half().float() for name, tensor in whole.tensors.items()}, strict=False)
    rounded = Backbone("test_resnet", half, whole.preprocessing, torch.float32)
    data = edited(make_adapter(5), {"training": {"backbone_rounded": dict(whole.rounded_fingerprints)}})
    with make_parts(rounded) as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        refused = client.put("/adapters/new", content=data)
        accepted = client.put("/adapters/new?accept_rounded_backbone=true", content=data)

        assert (refused.status_code, refused.json()["code"]) == (409, "backbone_mismatch")
        assert "--accept-rounded-backbone" in refused.json()["detail"]
        assert accepted.status_code == 201
        assert "the logits change by" in accepted.json()["note"]
        assert accepted.json()["digest"] != f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert client.post("/predict?adapter=new", content=make_png()).status_code == 200
        assert client.get("/adapters/new").json()["status"] == "ready"
        again = client.put("/adapters/new?accept_rounded_backbone=true", content=data)
        assert (again.status_code, again.json()["digest"]) == (200, accepted.json()["digest"])


def edited(data: bytes, manifest: dict[str, Any]) -> bytes:
    """The adapter file with other fields in its manifest."""
    length = int.from_bytes(data[:8], "little")
    document = json.loads(json.loads(data[8 : 8 + length])["__metadata__"]["lensmount"])
    saved: bytes = safetensors.torch.save(
        safetensors.torch.load(data), metadata={"lensmount": json.dumps(document | manifest)}
    )
    return saved


def test_a_deleted_adapter_comes_back_with_its_aliases_and_answers_as_before(
    client: TestClient, make_adapter: MakeAdapter, make_png: MakePng, tmp_path: Path
) -> None:
    client.put("/adapters/cells", content=make_adapter(5))
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    before = client.get("/adapters/cells").json() | {"tier": None}
    answer = client.post("/predict?adapter=cells:prod", content=make_png()).json()["predictions"]
    assert client.delete("/adapters/cells").status_code == 204

    refused = client.post("/predict?adapter=cells", content=make_png())
    assert (refused.status_code, refused.json()["code"]) == (404, "adapter_not_found")
    assert "POST /adapters/cells/undelete" in refused.json()["detail"]
    listed = client.get("/adapters?deleted=true").json()["deleted"]
    assert [(each["name"], each["version"]) for each in listed] == [("cells", 1), ("cells", 2)]
    assert listed[0]["deleted_at"] < listed[0]["kept_until"]

    back = client.post("/adapters/cells/undelete")
    assert (back.status_code, back.json() | {"tier": None}) == (200, before | {"manifest": back.json()["manifest"]})
    assert client.post("/predict?adapter=cells:prod", content=make_png()).json()["predictions"] == answer
    assert client.get("/adapters?deleted=true").json() == {"deleted": []}
    assert client.post("/adapters/cells/undelete").status_code == 200  # again changes nothing
    assert client.post("/adapters/none/undelete").status_code == 404


def test_a_deleted_name_is_free_and_its_old_version_comes_back_below_the_new_one(
    client: TestClient, make_adapter: MakeAdapter
) -> None:
    client.put("/adapters/cells/aliases/prod", json={"version": 1})
    client.delete("/adapters/cells/versions/1")
    assert client.put("/adapters/cells", content=make_adapter(5)).json()["version"] == 2
    client.put("/adapters/cells/aliases/prod", json={"version": 2})
    gone = client.get("/adapters/cells/versions/1")
    assert (gone.status_code, gone.json()["code"]) == (410, "version_deleted")
    assert "POST /adapters/cells/versions/1/undelete" in gone.json()["detail"]

    assert client.post("/adapters/cells/versions/1/undelete").json()["version"] == 1
    detail = client.get("/adapters/cells").json()
    assert (detail["version"], detail["versions"], detail["aliases"]) == (2, [1, 2], {"prod": 2})


def test_a_purge_frees_the_file_at_once_also_of_what_was_deleted_before(client: TestClient, tmp_path: Path) -> None:
    files = {path.name for path in (tmp_path / "blobs").iterdir()}
    client.delete("/adapters/cells")
    assert {path.name for path in (tmp_path / "blobs").iterdir()} == files
    assert client.delete("/adapters/cells?purge=true").status_code == 204

    assert len({path.name for path in (tmp_path / "blobs").iterdir()}) == len(files) - 1
    assert client.post("/adapters/cells/undelete").json()["code"] == "adapter_not_found"
    assert client.delete("/adapters/cells?purge=true").json()["code"] == "adapter_not_found"
    assert client.delete("/adapters/tiles/versions/1?purge=true").status_code == 204
    assert client.get("/adapters").json() == {"adapters": []}


def test_statistics_of_a_layer_that_the_server_does_not_compute_are_refused(
    shared_client: TestClient, make_trusted: MakeTrusted
) -> None:
    trust = parse_adapter(make_trusted()).manifest.trust
    assert trust is not None
    assert trust.familiarity is not None
    space = trust.familiarity.space.replace("layer3_0_act3", "layer2_0_act2")
    moved = trust.familiarity.model_copy(update={"space": space})

    refused = shared_client.put("/adapters/elsewhere", content=make_trusted(familiarity=moved))

    assert (refused.status_code, refused.json()["code"]) == (422, "trust_mismatch")
    assert "found statistics of the layer layer2_0_act2, expected those of layer3_0_act3" in refused.json()["detail"]
    assert shared_client.get("/adapters/elsewhere").status_code == 404
    without = make_trusted(familiarity=None)  # as the advice says
    assert shared_client.put("/adapters/elsewhere", content=without).status_code == 201
