"""Images of an archive: behind all requests, from what the trunk gave before, each of which may fail alone."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from fastapi.testclient import TestClient
from torch import Tensor

from lensmount_adapters.inputs.prepare import prepare
from lensmount_service.archive.entry import read
from lensmount_service.build import Parts
from lensmount_service.routes.archives import answers
from lensmount_service.store.references import Reference

if TYPE_CHECKING:
    from tests.service.conftest import MakeAdapter, MakeParts, MakePng, MakeTrusted

LOW = "/predict?priority=low&adapter="


class Seen:
    """What the trunk computed, and how many images were decoded."""

    def __init__(self, parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
        self.trunk: list[int] = []
        self.decoded = 0
        self._parts, self._patch = parts, monkeypatch

        def counted(*arguments: Any) -> Any:
            self.decoded += 1
            return prepare(*arguments)

        monkeypatch.setattr(answers, "prepare", counted)

    def watch(self) -> None:
        """Count the images that go through each trunk that there is by now."""
        for split in self._parts.engine.runner.splits:  # type: ignore[attr-defined]
            trunk = split.trunk

            def counted(images: Tensor, trunk: Any = trunk) -> Tensor:
                self.trunk.append(len(images))
                result: Tensor = trunk(images)
                return result

            self._patch.setattr(split, "trunk", counted)


@pytest.fixture
def parts(make_parts: MakeParts) -> Iterator[Parts]:
    with make_parts(executor="eager") as parts:
        yield parts


@pytest.fixture
def api(parts: Parts, make_adapter: MakeAdapter) -> Iterator[TestClient]:
    with TestClient(parts.app, base_url="http://127.0.0.1") as client:
        for number, name in enumerate(("cells", "tiles", "third"), start=1):
            assert client.put(f"/adapters/{name}", content=make_adapter(number, ("a", "b"))).status_code == 201
        yield client


def files(make_png: MakePng, count: int = 3) -> list[tuple[str, tuple[str, bytes]]]:
    return [("file", (f"{number}.png", make_png(number))) for number in range(count)]


def close(one: list[Any], other: list[Any]) -> bool:
    """Whether answers are equal except for the last bits of scores, which depend on how many images share a batch."""

    def scores(results: list[Any]) -> list[float]:
        return [p["score"] for each in results for p in sorted(each["predictions"], key=lambda p: str(p["label"]))]

    rest = [[{**each, "predictions": None} for each in results] for results in (one, other)]
    return rest[0] == rest[1] and scores(one) == pytest.approx(scores(other), abs=1e-6)


def told(answer: Any) -> list[Any]:
    """What an answer says, without its times."""
    assert answer.status_code == 200, answer.text
    return [
        {name: value for name, value in each.items() if name not in ("timing_ms", "request_id")}
        for each in answer.json()["results"]
    ]


def test_the_next_adapter_reads_no_image_again_and_answers_with_the_bits_of_a_fresh_server(
    parts: Parts, api: TestClient, make_png: MakePng, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images, seen = files(make_png), Seen(parts, monkeypatch)
    fresh = {name: told(api.post(LOW + name, files=images)) for name in ("cells", "tiles")}
    for path in (tmp_path / "trunk").rglob("*"):
        if path.is_file():
            path.unlink()
    seen.decoded = 0
    assert told(api.post(LOW + "cells", files=images)) == fresh["cells"]
    assert seen.decoded == 3

    seen.watch()
    assert told(api.post(LOW + "tiles", files=images)) == fresh["tiles"]
    assert told(api.post(LOW + "cells", files=images)) == fresh["cells"]
    assert seen.decoded == 3
    assert seen.trunk == []


def test_several_adapters_share_one_pass_through_the_trunk(
    parts: Parts, api: TestClient, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, seen = files(make_png), Seen(parts, monkeypatch)
    alone = [told(api.post(LOW + "third", files=files(make_png, 6)[3:]))[0]["adapter"]["name"]]
    assert alone == ["third"]
    seen.watch()
    results = told(api.post(LOW + "cells,tiles,third", files=images))
    assert [(each["image"]["index"], each["adapter"]["name"]) for each in results] == [
        (number, name) for number in range(3) for name in ("cells", "tiles", "third")
    ]
    assert sum(seen.trunk) == 3


@pytest.mark.parametrize("kept_bytes", [answers.KEPT_BYTES, 0])  # with 0, every file is read again
def test_answers_are_those_of_requests(
    api: TestClient, make_png: MakePng, kept_bytes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answers, "KEPT_BYTES", kept_bytes)
    images = files(make_png)
    assert close(*(told(api.post(f"{way}cells,tiles", files=images)) for way in (LOW, "/predict?adapter=")))


def test_an_image_that_cannot_be_read_fails_alone(api: TestClient, make_png: MakePng) -> None:
    images = [*files(make_png, 1), ("file", ("bad.png", b"no image")), ("file", ("2.png", make_png(2)))]
    answer = api.post(LOW + "cells,tiles", files=images)
    assert answer.status_code == 207
    results = answer.json()["results"]
    assert [each["error"]["code"] if "error" in each else None for each in results] == [
        *(None, None, "unsupported_image_format", "unsupported_image_format", None, None)
    ]
    assert results[2]["image"] == {"index": 1, "name": "bad.png"}
    alone = api.post(LOW + "cells", content=b"no image")
    assert (alone.status_code, alone.json()["code"]) == (415, "unsupported_image_format")


def test_a_damaged_file_is_computed_again(
    parts: Parts, api: TestClient, make_png: MakePng, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = told(api.post(LOW + "cells,tiles", files=files(make_png)))
    kept = [path for path in (tmp_path / "trunk").rglob("*") if path.is_file()]
    assert len(kept) == 3
    kept[0].write_bytes(kept[0].read_bytes()[:-1] + b"?")
    seen = Seen(parts, monkeypatch)
    assert close(told(api.post(LOW + "cells,tiles", files=files(make_png))), first)
    assert seen.decoded == 1
    assert read(kept[0].name, kept[0].read_bytes()) is not None


def test_trust_is_judged_from_what_was_kept(api: TestClient, make_trusted: MakeTrusted, make_png: MakePng) -> None:
    assert api.put("/adapters/trusted", content=make_trusted()).status_code == 201
    first, second = (told(api.post(LOW + "trusted", files=files(make_png))) for _ in range(2))
    assert close(first, second)
    assert first[0]["trust"]["unfamiliarity"] is not None


def test_a_tenant_finds_only_what_its_own_images_left(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_parts(token="first", executor="eager") as parts, TestClient(parts.app) as client:
        tokens = {}
        for tenant in ("one", "two"):
            asked = {"name": f"{tenant}-all", "scopes": ["predict", "upload"], "tenant": tenant}
            made = client.post("/tokens", json=asked, headers={"Authorization": "Bearer first"})
            assert made.status_code == 201, made.text
            tokens[tenant] = {"Authorization": f"Bearer {made.json()['secret']}"}
            client.put("/adapters/cells", content=make_adapter(1), headers=tokens[tenant])
        seen = Seen(parts, monkeypatch)
        for tenant, decoded in (("one", 3), ("one", 3), ("two", 6), ("two", 6), ("one", 6)):
            told(client.post(LOW + "cells", files=files(make_png), headers=tokens[tenant]))
            assert seen.decoded == decoded


def test_a_server_that_keeps_nothing_answers_all_the_same(
    make_parts: MakeParts, make_adapter: MakeAdapter, make_png: MakePng, tmp_path: Path
) -> None:
    with (
        make_parts(trunk_disk_bytes=0, executor="merged") as parts,
        TestClient(parts.app, base_url="http://127.0.0.1") as client,
    ):
        client.put("/adapters/cells", content=make_adapter(1))
        first, second = (told(client.post(LOW + "cells", files=files(make_png))) for _ in range(2))
        assert first == second
    assert not (tmp_path / "trunk").exists()


def test_keys_are_the_digests_of_the_bytes_as_they_were_sent(api: TestClient, make_png: MakePng, parts: Parts) -> None:
    told(api.post(LOW + "cells", files=files(make_png)))
    outputs = parts.app.state.context.outputs
    adapter = parts.catalog.resolve(Reference("cells")).adapter
    key = outputs.key("default", hashlib.sha256(make_png(1)).hexdigest(), adapter)
    found = outputs.find(key, disk=True)
    assert found.size == (48, 40)
    assert found.x.dtype is torch.float32


def test_small_images_are_decoded_together_and_a_large_one_alone() -> None:
    pixels = [90_000, 90_000, 90_000, answers.COST, 10, 250_000, 10, 10]
    begun: list[Any] = [SimpleNamespace(pixels=each) for each in pixels]

    grouped = [[each.pixels for each in group] for group in answers.groups(begun)]
    assert grouped == [[90_000, 90_000], [90_000], [answers.COST], [10], [250_000], [10, 10]]
