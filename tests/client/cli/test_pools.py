"""`lensmount feedback` and the commands of `lensmount datasets` for images that wait for labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _url(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LENSMOUNT_URL", server.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_a_person_labels_what_is_proposed_and_publishes_it(server: Any, lensmount: Any, folder: Path) -> None:
    code, out, err = lensmount("datasets", "unlabelled", "cells", str(folder), "--who", "reader1", "--group", "slide 1")
    assert (code, err, out.strip()) == (0, "", "2 different images wait for labels in cells")

    shown = folder.parent / "shown"
    code, out, _ = lensmount(
        "datasets", "next", "cells", "-a", "malaria", "--who", "reader1", "--out", str(shown), "--json"
    )
    found = json.loads(out)
    assert [path.name for path in sorted(shown.iterdir())] == sorted(
        f"{item['digest'].removeprefix('sha256:')}.png" for item in found["items"]
    )

    pairs = [f"{item['digest']}=a=b" for item in found["items"]]  # a label may have the sign
    code, out, _ = lensmount("datasets", "label", "cells", *pairs, "--who", "reader1")
    assert (code, out.strip()) == (0, "2 labels kept in cells")
    assert {label["label"] for label in server.pools.labels} == {"a=b"}
    code, out, _ = lensmount("datasets", "pools")
    assert (code, out.split()) == (0, ["pool", "images", "labelled", "reserved", "cells", "2", "2", "reader2", "1"])

    code, out, err = lensmount("datasets", "publish", "cells")
    assert (code, out.strip()) == (0, "cells@2  9 images, 2 of them from labels")
    assert "1 images about which people disagree" in err


def test_what_is_proposed_is_a_table_with_what_was_left_out(server: Any, lensmount: Any, folder: Path) -> None:
    lensmount("datasets", "unlabelled", "cells", str(folder / "a.png"))

    code, out, err = lensmount("datasets", "next", "cells", "-a", "malaria")

    assert code == 0
    assert "Parasitized" in out
    assert "60.0%" in out
    assert "Left out 1 images unlike those of malaria" in err


def test_a_label_without_a_digest_is_refused(lensmount: Any) -> None:
    code, _, err = lensmount("datasets", "label", "cells", "Parasitized")

    assert code == 2
    assert "Fix: write sha256:...=LABEL" in err


def test_feedback_is_kept_or_refused_as_the_operator_says(server: Any, lensmount: Any, folder: Path) -> None:
    image = str(folder / "a.png")
    code, out, _ = lensmount("feedback", image, "-a", "malaria", "--label", "Uninfected", "--who", "reader1")
    assert (code, out.strip()) == (0, f"kept {image} as Uninfected in malaria-feedback")

    code, out, _ = lensmount("feedback", "-a", "malaria", "--label", "Uninfected", "--request-id", "0" * 32)
    assert (code, out.split()[2:]) == (0, ["as", "Uninfected", "in", "malaria-feedback"])
    code, _, err = lensmount("feedback", "-a", "malaria", "--label", "Uninfected")
    assert (code != 0, "Fix: name its file, or the answer with --request-id ID" in " ".join(err.split())) == (
        True,
        True,
    )

    server.pools.feedback_on = False
    assert lensmount("feedback", image, "-a", "malaria", "--label", "Uninfected")[0] == 1


def test_a_user_without_a_name_is_asked_for_one_which_works(
    lensmount: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found: 1234")

    monkeypatch.setattr("getpass.getuser", nameless)
    code, _, err = lensmount("datasets", "unlabelled", "cells", str(folder))
    assert (code != 0, "Fix: give yours with --who NAME" in " ".join(err.split())) == (True, True)

    assert lensmount("datasets", "unlabelled", "cells", str(folder), "--who", "reader1")[0] == 0
