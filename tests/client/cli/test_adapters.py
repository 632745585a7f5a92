from __future__ import annotations

import hashlib
import json
import struct
from pathlib import Path
from typing import Any

import pytest

MANIFEST = {
    "method": "lora",
    "labels": ["cat", "dog"],
    "backbone": {"name": "tiny", "fingerprint": "sha256:ff"},
    "training": {"metrics": {"accuracy": 0.5}},
}


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


@pytest.fixture
def adapter_file(tmp_path: Path) -> Path:
    tensor = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    header = json.dumps({"__metadata__": {"lensmount": json.dumps(MANIFEST)}, "w": tensor}).encode()
    path = tmp_path / "pets.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(24))
    return path


def test_list_is_a_table_or_json(lensmount: Any) -> None:
    code, out, _ = lensmount("adapters", "list")
    assert code == 0
    assert all(word in out for word in ("malaria", "smoking", "parasitized, uninfected", "prod=1", "12 B", "ready"))
    document = json.loads(lensmount("adapters", "list", "--json")[1])
    assert [info["name"] for info in document["adapters"]] == ["malaria", "smoking"]
    assert document["adapters"][0]["created_at"] == "2026-01-02T03:04:05+00:00"


def test_a_delete_is_listed_and_undone(lensmount: Any) -> None:
    lensmount("adapters", "delete", "malaria")
    out = lensmount("adapters", "list", "--deleted")[1]
    assert all(word in out for word in ("malaria", "12 B", "2026-01-02 03:04", "2026-01-09 03:04", "adapters undelete"))
    document = json.loads(lensmount("adapters", "list", "--deleted", "--json")[1])
    assert [each["name"] for each in document["deleted"]] == ["malaria"]
    assert lensmount("adapters", "undelete", "malaria") == (0, "malaria: version 1 is back\n", "")
    lensmount("adapters", "delete", "malaria", "--purge")
    assert lensmount("adapters", "undelete", "malaria", "--json")[0] == 1


def test_an_empty_list_says_what_to_do(server: Any, lensmount: Any) -> None:
    server.files.clear()
    assert "lensmount adapters push" in lensmount("adapters", "list")[1]


def test_push_pull_and_delete(lensmount: Any, adapter_file: Path, tmp_path: Path) -> None:
    digest = f"sha256:{hashlib.sha256(adapter_file.read_bytes()).hexdigest()}"
    assert lensmount("adapters", "push", str(adapter_file)) == (0, f"pets@1  {digest}\n", "")
    pushed = json.loads(lensmount("adapters", "push", str(adapter_file), "--name", "zoo", "--json")[1])
    assert pushed == {"name": "zoo", "version": 1, "digest": digest}

    pulled = tmp_path / "again.safetensors"
    document = json.loads(lensmount("adapters", "pull", "pets", "--out", str(pulled), "--json")[1])
    assert document == {"path": str(pulled), "digest": digest, "size_bytes": pulled.stat().st_size}
    assert pulled.read_bytes() == adapter_file.read_bytes()

    assert lensmount("adapters", "delete", "pets") == (0, "deleted pets with all its versions\n", "")
    deleted = json.loads(lensmount("adapters", "delete", "zoo", "--version", "1", "--json")[1])
    assert deleted == {"deleted": {"name": "zoo", "version": 1}}


def test_pull_without_a_target_writes_here(lensmount: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lensmount("adapters", "pull", "malaria")[0] == 0
    assert (tmp_path / "malaria.safetensors").read_bytes() == b"malaria file"


@pytest.mark.parametrize("reference", ["malaria", "malaria@1", "malaria:prod", "malaria@{digest}"])
def test_inspect_shows_what_an_adapter_of_the_server_is(reference: str, lensmount: Any) -> None:
    digest = f"sha256:{hashlib.sha256(b'malaria file').hexdigest()}"
    code, out, _ = lensmount("adapters", "inspect", reference.format(digest=digest))
    assert code == 0
    for word in ("malaria@1", digest, "lora", "parasitized, uninfected", "tiny", "test accuracy", "0.9512", "CC0-1.0"):
        assert word in out
    assert json.loads(lensmount("adapters", "inspect", "malaria", "--json")[1])["manifest"]["method"] == "lora"


def test_inspect_shows_what_a_local_file_is(lensmount: Any, adapter_file: Path) -> None:
    code, out, _ = lensmount("adapters", "inspect", str(adapter_file))
    assert code == 0
    assert all(word in out for word in ("pets.safetensors", "cat, dog", "accuracy", "0.5000", "lora"))
    document = json.loads(lensmount("adapters", "inspect", str(adapter_file), "--json")[1])
    assert (document["parameters"], document["manifest"]) == (6, MANIFEST)


@pytest.mark.parametrize(
    ("what", "code", "message"),
    [
        ("none", 1, "no adapter is called none (adapter_not_found, request r-2)"),
        ("malaria:stable", 1, "found no alias stable. Existing aliases: prod (alias_not_found)"),
        ("malaria@sha256:" + "0" * 64, 1, "none of its 1 versions has sha256:000"),
        ("none.safetensors", 2, "no such file"),
        ("NO", 2, "expected name"),
    ],
)
def test_a_missing_adapter_version_or_alias_is_one_line(what: str, code: int, message: str, lensmount: Any) -> None:
    found, out, err = lensmount("adapters", "inspect", what)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert message in err


def test_import_prints_the_version_and_the_report(lensmount: Any, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    path.write_bytes(b"weights")
    names = tmp_path / "names.txt"
    names.write_text("oak\n\nelm, or wych\n")

    code, out, _ = lensmount("adapters", "import", str(path), "--labels", str(names))
    assert code == 0
    assert out.startswith("style@1  sha256:")
    assert "PEFT LoRA: 2 modules, 50.0% of the file's numbers, largest relative error 1.0e-08" in out
    assert "labels: oak, elm, or wych" in out
    assert "ignored counter: a counter" in out

    code, out, _ = lensmount("adapters", "import", str(path), "--name", "dry", "--labels", "a, b", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "dry run: nothing is stored")
    document = json.loads(lensmount("adapters", "import", str(path), "--dry-run", "--json")[1])
    assert (document["adapter"], document["report"]["labels"]) == (None, ["0", "1"])


@pytest.mark.parametrize("rule", ["pad", "[1]", "{resize: pad}"])
def test_preprocessing_that_is_no_object_is_refused_with_an_example(rule: str, lensmount: Any, tmp_path: Path) -> None:
    path = tmp_path / "style.safetensors"
    path.write_bytes(b"weights")

    code, _, error = lensmount("adapters", "import", str(path), "--preprocessing", rule)

    assert code != 0
    assert '{"resize": "squash"}' in error.replace("\n", " ")
    assert lensmount("adapters", "import", str(path), "--preprocessing", '{"resize": "squash"}')[0] == 0


def test_export_writes_a_folder_and_prints_the_notes(lensmount: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"

    assert lensmount("adapters", "export", "malaria", "--to", "timm", "--out", str(out)) == (
        0,
        f"{out}  lensmount.json, model.bin\nNote: mind the gap\n",
        "",
    )
    again = lensmount("adapters", "export", "malaria", "--to", "timm", "--out", str(out))
    assert again[0] == 2
    assert "Fix: choose another with --out" in again[2]
    document = json.loads(lensmount("adapters", "export", "malaria", "--to", "peft", "--out", f"{out}2", "--json")[1])
    assert (document["path"], document["to"], document["notes"]) == (f"{out}2", "peft", ["mind the gap"])


def test_export_of_a_file_or_of_a_name_has_its_own_options(lensmount: Any, adapter_file: Path) -> None:
    code, _, err = lensmount("adapters", "export", str(adapter_file), "--to", "peft", "--version", "2")
    assert (code, "Fix: leave --version out" in err) == (2, True)
    code, _, err = lensmount("adapters", "export", "malaria", "--to", "peft", "--weights", "hub")
    assert (code, "Fix: leave --weights out" in err) == (2, True)
