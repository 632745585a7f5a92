"""The canonical archive: equal contents give equal bytes, and an archive reads back as the same dataset."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import struct
import time
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from lensmount_adapters.data import dataset_archive as module
from lensmount_adapters.data.dataset import list_folder, read_folder
from lensmount_adapters.data.dataset_archive import ArchiveWriter, DatasetArchive, DatasetLimits, write_dataset_archive
from lensmount_adapters.errors import DatasetError, DatasetTooLarge
from lensmount_adapters.zips.reader import open_archive

if TYPE_CHECKING:
    from tests.adapters.conftest import DrawFolder

DATA = Path(__file__).parents[4] / "shared" / "data"


def written(root: Path, target: Path, limits: DatasetLimits | None = None) -> DatasetArchive:
    with target.open("wb") as file:
        return write_dataset_archive(list_folder(root), file, limits)


def pack(root: Path, target: Path, method: int, backwards: bool) -> Path:
    with zipfile.ZipFile(target, "w", method) as archive:
        for path in sorted(root.rglob("*"), reverse=backwards):
            if path.is_file():
                archive.write(path, f"top/{path.relative_to(root).as_posix()}")
    return target


def test_equal_contents_give_equal_bytes_from_a_folder_or_any_zip(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=4, bee=3)

    ways = [
        written(root, tmp_path / "1.out"),
        written(pack(root, tmp_path / "a.zip", zipfile.ZIP_STORED, False), tmp_path / "2.out"),
        written(pack(root, tmp_path / "b.zip", zipfile.ZIP_DEFLATED, True), tmp_path / "3.out"),
    ]
    shutil.copy(tmp_path / "1.out", tmp_path / "again.zip")
    ways.append(written(tmp_path / "again.zip", tmp_path / "4.out"))

    assert len({way.digest for way in ways}) == 1
    assert len({(tmp_path / f"{number}.out").read_bytes() for number in (1, 2, 3, 4)}) == 1
    assert ways[0].digest == f"sha256:{hashlib.sha256((tmp_path / '1.out').read_bytes()).hexdigest()}"
    assert ways[0].size_bytes == (tmp_path / "1.out").stat().st_size
    assert [way.report.pop("notes") for way in ways][2] == ["The data are in the folder top, which has all the images"]
    assert all(way.report == ways[0].report for way in ways)


def test_the_bytes_of_an_archive_never_change() -> None:
    file = io.BytesIO()
    writer = ArchiveWriter(file)
    writer.add("a/1.png", b"one")
    writer.add("é/2.png", b"two")

    digest, size = writer.finish()

    assert size == len(file.getvalue()) == 210
    assert digest == "sha256:27d971358bb69f46f228b45d7ae9806c912ac115cd4dafd8f138dde2a811c242"


def test_the_archive_reads_back_as_the_same_dataset(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=4, bee=3)
    written(root, tmp_path / "d.zip")

    folder = read_folder(tmp_path / "d.zip", r"^(.+_s\d+)_")

    assert folder.samples == read_folder(root, r"^(.+_s\d+)_").samples
    assert folder.digest == read_folder(root).digest
    rows = [json.loads(line) for line in open_archive(tmp_path / "d.zip").read("manifest.jsonl").splitlines()]
    assert rows[0] == {
        "path": "ant/ant_s00_00.png",
        "label": "ant",
        "group": None,
        "split": None,
        "sha256": hashlib.sha256((root / "ant/ant_s00_00.png").read_bytes()).hexdigest(),
        "width": 40,
        "height": 40,
    }


def test_labels_groups_and_parts_are_kept(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", x=6)
    paths = sorted(path.relative_to(root).as_posix() for path in (root / "x").iterdir())
    rows = [f"{path},{'ab'[index % 2]},g{index},{('train', 'test')[index > 3]}" for index, path in enumerate(paths)]
    (root / "labels.csv").write_text("\n".join(["path,label,group,split", *rows]))

    found = written(root, tmp_path / "d.zip")

    assert read_folder(tmp_path / "d.zip").samples == read_folder(root).samples
    assert found.classes == {"a": 3, "b": 3}
    assert found.report["splits"] == {"train": 4, "validation": 0, "test": 2}
    assert found.report["groups"] == 6


def test_zipfile_agrees_with_what_is_written(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", ant=3, bee=3)
    written(root, tmp_path / "d.zip")

    with zipfile.ZipFile(tmp_path / "d.zip") as archive:
        assert archive.testzip() is None
        images = {i.filename: archive.read(i) for i in archive.infolist() if i.filename != "manifest.jsonl"}

    assert images == {p.relative_to(root).as_posix(): p.read_bytes() for p in root.rglob("*.png")}


def test_more_than_65535_files_are_written_and_read(tmp_path: Path) -> None:
    with (tmp_path / "many.zip").open("wb") as file:
        writer = ArchiveWriter(file)
        for number in range(70_000):
            writer.add(f"a/{number}.png", b"")
        writer.finish()

    assert len(open_archive(tmp_path / "many.zip").entries) == 70_000
    with zipfile.ZipFile(tmp_path / "many.zip") as archive:
        assert len(archive.namelist()) == 70_000


def test_an_entry_beyond_4_gib_is_written_and_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MAX_32_BIT", 100)  # so that the 64-bit fields are used from 100 bytes on

    with (tmp_path / "wide.zip").open("wb") as file:
        writer = ArchiveWriter(file)
        writer.add("a/1.png", b"x" * 200)
        monkeypatch.setattr(module, "MAX_32_BIT", 0xFFFFFFFF)
        writer.add("a/2.png", b"y" * 30)
        size = file.tell()
        writer.finish()
    data = bytearray((tmp_path / "wide.zip").read_bytes())
    at = data.rindex(b"PK\x01\x02")  # write the second offset in 64 bits, as for an entry beyond 4 GiB
    offset = data[at + 42 : at + 46]
    data[at + 42 : at + 46] = b"\xff" * 4
    data[at + 30 : at + 32] = struct.pack("<H", 12)
    extra = struct.pack("<HHQ", 1, 8, int.from_bytes(offset, "little"))
    data[at + 46 + 7 : at + 46 + 7] = extra
    end = data.rindex(b"PK\x05\x06")
    data[end + 12 : end + 16] = struct.pack("<L", end - size)
    (tmp_path / "wide.zip").write_bytes(data)

    assert open_archive(tmp_path / "wide.zip").read("a/2.png") == b"y" * 30


@pytest.mark.parametrize("counts", [{"a": 1, "b": 5}, {"a": 1, "b": 1}])
def test_zip_09_a_class_of_one_image_is_too_small(
    draw_folder: DrawFolder, tmp_path: Path, counts: dict[str, int]
) -> None:
    with pytest.raises(DatasetError, match=r"found 1 image\(s\) of 'a', expected at least 2") as caught:
        written(draw_folder(tmp_path / "d", **counts), tmp_path / "out")

    assert caught.value.code == "dataset_too_small"


def test_zip_09_too_many_classes_are_too_large(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=2, b=2, c=2)

    with pytest.raises(DatasetTooLarge, match="found 3 classes, expected at most 2"):
        written(root, tmp_path / "out", DatasetLimits(max_classes=2))


def test_zip_10_a_few_unreadable_images_are_left_out_and_listed(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=150, b=150)
    for number in (1, 7, 30):
        (root / "a" / f"a_s{number // 2:02d}_{number:02d}.png").write_bytes(b"\x89PNG damaged")

    found = written(root, tmp_path / "out.zip")

    assert found.images == 297
    assert found.report["unreadable"]["files"] == 3
    assert found.report["unreadable"]["examples"][0]["path"] == "a/a_s00_01.png"
    assert found.report["unreadable"]["examples"][0]["reason"]
    assert "unreadable" in {warning["code"] for warning in found.report["warnings"]}
    assert len(read_folder(tmp_path / "out.zip")) == 297


def test_zip_10_more_than_one_percent_unreadable_is_refused(draw_folder: DrawFolder, tmp_path: Path) -> None:
    root = draw_folder(tmp_path / "d", a=10, b=10)
    (root / "a" / "a_s00_00.png").write_bytes(b"\x89PNG damaged")

    with pytest.raises(DatasetError, match=r"1 of 20 images cannot be read:\n  a/a_s00_00\.png") as caught:
        written(root, tmp_path / "out")

    assert caught.value.code == "dataset_unreadable"
    assert written(root, tmp_path / "out", DatasetLimits(max_unreadable_fraction=0.05)).images == 19


def test_an_admission_can_be_stopped(draw_folder: DrawFolder, tmp_path: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise Stop

    with (tmp_path / "out").open("wb") as file, pytest.raises(Stop):
        write_dataset_archive(list_folder(draw_folder(tmp_path / "d", a=3, b=3)), file, on_progress=stop)


def test_real_cells_are_admitted_quickly_and_keep_their_digest(tmp_path: Path) -> None:
    root = DATA / "malaria-nih"
    if not root.is_dir():
        pytest.skip("needs the images of malaria-nih, which are not part of the repository")
    zipped = pack(root, tmp_path / "in.zip", zipfile.ZIP_STORED, True)

    start = time.perf_counter()
    found = written(zipped, tmp_path / "out.zip")

    assert time.perf_counter() - start < 10  # 0.3 s on an idle core
    assert (found.images, found.report["near_duplicates"]["pairs"]) == (279, 0)
    assert read_folder(tmp_path / "out.zip").digest == read_folder(root).digest


@pytest.mark.parametrize(
    "labels",
    [
        ("+ve", "-ve"),
        ("=pos", "@neg"),
        ("aux", "con"),
        ("正常", "感染"),
        ("a,b", 'say "c"'),
        ("manifest.csv", "labels.csv"),
        ("1e5", "0x10"),
        ("null", "NaN"),
        ("a" * 200, "<b>"),
    ],
)
def test_what_push_accepts_a_job_reads_as_the_same_dataset(
    draw_folder: DrawFolder, tmp_path: Path, labels: tuple[str, str]
) -> None:
    root = draw_folder(tmp_path / "d", ant=4, bee=4)
    for old, new in zip(("ant", "bee"), labels, strict=True):
        (root / old).rename(root / new)

    found = written(root, tmp_path / "d.zip")

    assert read_folder(tmp_path / "d.zip").classes == tuple(sorted(labels))
    assert read_folder(tmp_path / "d.zip").digest == read_folder(root).digest
    assert found.classes == dict.fromkeys(sorted(labels), 4)


@pytest.mark.parametrize("name", [" ant", "ant ", "\u00a0ant", "manifest.jsonl", "Manifest.jsonl"])
def test_a_name_that_a_job_would_read_differently_is_refused_at_once(
    draw_folder: DrawFolder, tmp_path: Path, name: str
) -> None:
    root = draw_folder(tmp_path / "d", ant=4, bee=4)
    (root / "ant").rename(root / name)

    with pytest.raises(DatasetError, match=r"(ant|Manifest|manifest)(?s:.*)Fix: rename"):
        written(root, tmp_path / "d.zip")

    (root / name).rename(root / "ant")
    assert written(root, tmp_path / "d.zip").images == 8


def test_zips_of_windows_and_macos_are_read_like_the_folder_that_was_packed(
    draw_folder: DrawFolder, tmp_path: Path
) -> None:
    root = draw_folder(tmp_path / "d", ant=24, bee=24)
    plain = written(root, tmp_path / "plain.out")
    files = {path.relative_to(root).as_posix(): path.read_bytes() for path in sorted(root.rglob("*.png"))}
    ways = {
        "Compress-Archive": {f"d/{name}".replace("/", "\\"): data for name, data in files.items()},
        "Finder": {f"d/{name}": data for name, data in files.items()}
        | {"d/Icon\r": b"", "__MACOSX/d/._Icon\r": b"x", "d/.DS_Store": b"x", "__MACOSX/d/ant/._ant_s00_00.png": b"x"},
    }
    for way, packed in ways.items():
        with zipfile.ZipFile(tmp_path / f"{way}.zip", "w") as archive:
            for name, data in packed.items():
                archive.writestr(name, data)
        found = written(tmp_path / f"{way}.zip", tmp_path / "out")
        assert found.digest == plain.digest, way
        noted = [warning["message"] for warning in found.report["warnings"] if warning["code"] == "names_changed"]
        assert len(noted) == (1 if way == "Compress-Archive" else 0)
        assert set(noted) <= set(read_folder(tmp_path / f"{way}.zip").notes)
        assert found.report["ignored"]["files"] == (0 if way == "Compress-Archive" else 3)  # __MACOSX counts once
