"""POST /adapters/{name}/import: adapters of PEFT and LyCORIS on a real app, with what is refused and how."""

from __future__ import annotations

import copy
import io
import json
import re
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import timm
import torch
import typer
from fastapi.testclient import TestClient
from safetensors.torch import load_file, save, save_file
from tests.adapters.foreign.foreign_files import FILES
from typer.testing import CliRunner

from lensmount_adapters import Backbone, Preprocessing, decode_image, preprocess
from lensmount_adapters.cli.extract import extract
from lensmount_client._api.adapters import import_
from lensmount_client._files.foreign_adapter import packed
from lensmount_client._http.response import Response

if TYPE_CHECKING:
    from tests.service.conftest import MakePng


EXTRACT = typer.Typer()
EXTRACT.command("extract")(extract)


@pytest.fixture(scope="module")
def model(backbone: Backbone) -> Any:
    """LoRA on a classifier of three classes over the server's backbone, every factor random."""
    import peft  # takes seconds, in every process that collects this file
    from tests.adapters.foreign.peft_networks import randomise

    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3).eval()
    net.load_state_dict(dict(backbone.tensors), strict=False)
    config = peft.LoraConfig(r=4, lora_alpha=6, target_modules=r"layer[34].*conv[12]", modules_to_save=["fc"])
    adapted: Any = peft.get_peft_model(copy.deepcopy(net), config)
    randomise(adapted, 0.02)
    return adapted.eval()


@pytest.fixture(scope="module")
def folder(model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("peft")
    model.save_pretrained(path)
    return path


def _zip(folder: Path, **more: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for path in sorted(folder.iterdir()):
            archive.write(path, path.name)
        for name, data in more.items():
            archive.writestr(name.replace("_", "."), data)
    return buffer.getvalue()


def test_an_imported_adapter_answers_as_peft_s_own_model(
    client: TestClient, folder: Path, model: Any, make_png: MakePng
) -> None:
    made = client.post("/adapters/oaks/import", content=_zip(folder), params={"labels": ["oak", "elm", "ash"]})

    assert made.status_code == 201
    report = made.json()["report"]
    assert (report["tool"], report["method"], report["stored_as"]) == ("PEFT", "LoRA", "float32")
    assert report["error"] < 1e-6
    assert made.headers["Location"] == "/adapters/oaks/versions/1"
    manifest = client.get("/adapters/oaks").json()["manifest"]
    assert manifest["labels"] == ["oak", "elm", "ash"]
    assert "does not name the weights" in manifest["training"]["import"]["unproven"]
    image = make_png(1)
    pixels = preprocess(decode_image(image), Preprocessing.model_validate(manifest["preprocessing"]))
    with torch.no_grad():
        expected = model(pixels[None]).softmax(1)[0]
    answer = client.post("/predict?adapter=oaks", content=image).json()
    found = {each["label"]: each["score"] for each in answer["predictions"]}
    for label, score in zip(("oak", "elm", "ash"), expected.tolist(), strict=True):
        assert found[label] == pytest.approx(score, abs=1e-5)


def test_a_dry_run_reports_and_stores_nothing(shared_client: TestClient, folder: Path) -> None:
    reported = shared_client.post("/adapters/dry/import", content=_zip(folder), params={"dry_run": "true"})

    assert (reported.status_code, reported.json()["adapter"]) == (200, None)
    assert reported.json()["report"]["labels"] == ["0", "1", "2"]
    assert shared_client.get("/adapters/dry").status_code == 404


def test_the_same_import_again_makes_no_new_version(shared_client: TestClient, folder: Path) -> None:
    answers = [shared_client.post("/adapters/twice/import?labels=a,b,c", content=_zip(folder)) for _ in range(2)]

    assert [answer.status_code for answer in answers] == [201, 200]
    assert answers[0].json() == answers[1].json()


def test_labels_and_a_head_may_be_in_the_zip_file(shared_client: TestClient, folder: Path) -> None:
    data = _zip(folder, labels_json=json.dumps(["x, y", "b", "c"]).encode())

    report = shared_client.post("/adapters/named/import", content=data).json()["report"]

    assert report["labels"] == ["x, y", "b", "c"]


def test_a_file_of_lycoris_is_imported_with_the_head_next_to_it(shared_client: TestClient, backbone: Backbone) -> None:
    target = backbone.targets["layer4.0.conv2.weight"]
    up, down = torch.randn(target.shape[0], 2, 1, 1) * 0.01, torch.randn(2, *target.shape[1:]) * 0.01
    name = "lycoris_layer4_0_conv2"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("style.safetensors", save({f"{name}.lora_up.weight": up, f"{name}.lora_down.weight": down}))
        archive.writestr("head.safetensors", save({"weight": torch.randn(2, backbone.feature_dim)}))

    made = shared_client.post("/adapters/style/import?labels=a,b", content=buffer.getvalue())

    assert made.status_code == 201, made.json()
    assert made.json()["report"]["method"] == "LoRA"
    assert {each["module"] for each in made.json()["report"]["matched"]} == {"layer4.0.conv2"}


def test_preprocessing_and_the_source_are_kept(shared_client: TestClient, folder: Path) -> None:
    params = {"preprocessing": '{"resize": "pad"}', "source": "hub:someone/oaks", "labels": "a,b,c"}

    assert shared_client.post("/adapters/padded/import", content=_zip(folder), params=params).status_code == 201

    manifest = shared_client.get("/adapters/padded").json()["manifest"]
    assert manifest["preprocessing"]["resize"] == "pad"
    assert manifest["training"]["import"]["source"] == "hub:someone/oaks"


REFUSED: dict[str, tuple[dict[str, str], int, str]] = {
    "another number of labels": ({"labels": "a,b"}, 422, "head_mismatch"),
    "a label twice": ({"labels": "a,a,b"}, 422, "manifest_invalid"),
    "an empty label": ({"labels": "a,,b"}, 422, "manifest_invalid"),
    "preprocessing without JSON": ({"preprocessing": "pad"}, 422, "preprocessing_mismatch"),
    "an unknown field of preprocessing": ({"preprocessing": '{"crop": 1}'}, 422, "preprocessing_mismatch"),
    "a size that the rule does not have": ({"preprocessing": '{"size": [8, 8]}'}, 422, "preprocessing_mismatch"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_options_are_refused(case: str, shared_client: TestClient, folder: Path) -> None:
    params, status, code = REFUSED[case]

    answer = shared_client.post("/adapters/wrong/import", content=_zip(folder), params=params)

    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert shared_client.get("/adapters/wrong").status_code == 404


NOT_IMPORTABLE = [kind for kind in FILES if not kind.startswith("PEFT's folder")]


@pytest.mark.parametrize("kind", NOT_IMPORTABLE)
def test_files_of_other_kinds_are_refused_by_name(kind: str, shared_client: TestClient) -> None:
    answer = shared_client.post("/adapters/wrong/import", content=FILES[kind][0]())

    assert answer.status_code in (413, 415, 422)
    assert "Fix: " in answer.json()["detail"]


def test_a_hostile_zip_file_is_refused(shared_client: TestClient) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("adapter_config.json", bytes(2**24))

    answer = shared_client.post("/adapters/bomb/import", content=buffer.getvalue())

    assert (answer.status_code, answer.json()["code"]) == (413, "zip_too_large")


@pytest.mark.parametrize("kind", ["PEFT's safetensors", "PEFT's folder", "PEFT's config", "kohya", "a network", "ONNX"])
def test_an_upload_of_a_foreign_file_says_what_it_is_and_which_command_helps(
    kind: str, shared_client: TestClient
) -> None:
    write, words = FILES[kind]
    for answer in (
        shared_client.put("/adapters/wrong", content=write()),
        shared_client.post("/adapters", files={"file": ("x", write())}),
    ):
        assert answer.status_code in (415, 422)
        detail = answer.json()["detail"]
        assert words in detail
        assert "Fix: " in detail


def test_the_advice_of_a_refused_upload_works(shared_client: TestClient, folder: Path) -> None:
    """An upload of the folder as a zip file is told to import it, and importing it succeeds."""
    data = _zip(folder)
    refused = shared_client.put("/adapters/advised", content=data).json()["detail"]

    assert "lensmount adapters import FILE.zip" in refused
    assert shared_client.post("/adapters/advised/import", content=data).status_code == 201


def test_a_body_over_the_limit_is_refused_before_it_is_read(shared_client: TestClient) -> None:
    limit = shared_client.get("/limits").json()["max_adapter_bytes"]

    answer = shared_client.post("/adapters/big/import", content=b"", headers={"Content-Length": str(limit + 1)})

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


@pytest.mark.parametrize("kind", ["safetensors", "float16", "checkpoint"])
def test_a_whole_network_sent_as_an_adapter_names_extract_and_what_that_writes_is_accepted(
    kind: str, shared_client: TestClient, backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = timm.create_model("test_resnet", num_classes=2)
    network.load_state_dict(dict(backbone.tensors), strict=False)
    network.fc.weight.data.normal_()
    network = network.half() if kind == "float16" else network
    file = tmp_path / "whole"
    (torch.save if kind == "checkpoint" else save_file)(network.state_dict(), file)
    refused = shared_client.put("/adapters/whole", content=file.read_bytes()).json()["detail"]
    found = re.search(r"lensmount adapters extract (FILE --base NAME --rank 16 --labels A,B)", refused)

    assert found, refused
    monkeypatch.chdir(tmp_path)
    words = [{"FILE": str(file), "NAME": "test_resnet"}.get(word, word) for word in found[1].split()]
    extracted = CliRunner().invoke(EXTRACT, [*words, "--weights", "random:0", "--out", "whole-adapter.safetensors"])
    assert extracted.exit_code == 0, extracted.output
    made = shared_client.put(f"/adapters/whole-{kind}", content=(tmp_path / "whole-adapter.safetensors").read_bytes())
    assert made.status_code == 201, made.json()


@pytest.mark.parametrize("send", ["put", "form", "import"])
def test_a_body_over_the_limit_names_what_helps_with_a_whole_network(send: str, shared_client: TestClient) -> None:
    """A network of 32-bit numbers is often larger than any adapter may be, and so it is not even read."""
    method, path = {"put": ("PUT", "/adapters/big"), "form": ("POST", "/adapters")}.get(
        send, ("POST", "/adapters/big/import")
    )
    limit = shared_client.get("/limits").json()["max_adapter_bytes"]
    headers = {"Content-Length": str(2 * limit), "Content-Type": "multipart/form-data; boundary=x"}

    answer = shared_client.request(method, path, content=b"", headers=headers)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert "`lensmount adapters extract FILE --base NAME --rank 16 --labels A,B`" in answer.json()["detail"]


def test_what_the_client_packs_and_reads_is_what_the_server_takes_and_sends(
    shared_client: TestClient, folder: Path, tmp_path: Path
) -> None:
    head = tmp_path / "classifier.pth"
    torch.save({"weight": torch.ones(3, 96), "bias": torch.ones(3)}, head)
    call = import_("packed", packed(folder, ["a", "b, c", "d"], head), preprocessing=None, source="here", dry_run=False)

    answer = shared_client.request(call.method, call.path, params=dict(call.params), content=call.content)
    imported = call.read(Response(answer.status_code, answer.headers, answer.content))

    assert imported.adapter is not None
    assert (imported.adapter.name, imported.report.labels) == ("packed", ("a", "b, c", "d"))
    assert "left out the head file" in " ".join(imported.report.notes)
    assert imported.report.matched[-1].form == "head"


def test_the_report_lists_every_tensor(shared_client: TestClient, folder: Path) -> None:
    names = set(load_file(folder / "adapter_model.safetensors"))

    report = shared_client.post("/adapters/told/import?dry_run=1", content=_zip(folder)).json()["report"]

    assert {name for each in report["matched"] for name in each["tensors"]} | set(report["ignored"]) == names
