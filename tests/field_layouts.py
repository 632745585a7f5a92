"""Layouts of public data sets and of tools, drawn small: what each is read as, or how its refusal is mended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tests.layouts import CATS, Files, Good, expected, first, images, same, split_of


def parts(*tops: str, classes: tuple[str, ...] = ("cat", "dog"), below: str = "") -> Files:
    """Two images in each class folder of each part."""
    return images(*(f"{below}{top}/{name}" for top in tops for name in classes))


def move(old: str, new: str) -> Callable[[Files], Files]:
    """Rename a folder or the beginning of it, as a refusal advises."""
    return lambda files: {name.replace(old, new, 1) if name.startswith(old) else name: c for name, c in files.items()}


def without(*starts: str) -> Callable[[Files], Files]:
    """Leave files out, as a refusal advises."""
    return lambda files: {name: content for name, content in files.items() if not name.startswith(starts)}


@dataclass(frozen=True)
class Bad:
    """Files, what their refusal says, and its advice followed: other files or a depth. `classes` are what that gives.

    `zip_differs`: a zip of these files is refused as a zip, in other words.
    """

    files: Files
    found: str
    classes: tuple[str, ...]
    mend: Callable[[Files], Files] | None = None
    depth: int | None = None
    zip_differs: bool = False


XRAY = ("NORMAL", "PNEUMONIA")
LC25000 = ("colon_image_sets/colon_aca", "colon_image_sets/colon_n", "lung_image_sets/lung_aca")
INTEL = {
    **parts("seg_train/seg_train", "seg_test/seg_test", classes=("sea", "street")),
    "seg_pred/seg_pred/1.png": None,
    "seg_pred/seg_pred/2.png": None,
}


def kaggle(*folders: str) -> dict[str, tuple[str, str | None]]:
    """Two images of each class in each folder, with the part that the folder begins with."""
    return {
        f"{folder}/{label}/{n}.png": (label, folder.partition("_")[0].replace("training", "train").partition("/")[0])
        for folder in folders
        for label in ("cat", "dog")
        for n in range(2)
    }


MVTEC = images("train/good", "test/good", "test/broken")


def seen(files: Files) -> Files:
    return move("seg_train/seg_train", "train")(move("seg_test/seg_test", "test")(without("seg_pred")(files)))


FIELD_GOOD = {
    "chest X-rays: three parts in a folder": Good(
        parts("train", "test", "val", classes=XRAY, below="chest_xray/"),
        expected(parts("train", "test", "val", classes=XRAY), split_of),
    ),
    "malaria of NIH: a folder with Thumbs.db": same(
        images("cell_images/Parasitized", "cell_images/Uninfected"),
        {"cell_images/Parasitized/Thumbs.db": "x"},
        {"hidden": 1},
        "cell_images/",
    ),
    "PlantVillage: commas in names": same(images("Tomato___healthy", "Pepper,_bell___healthy")),
    "CUB: numbered names and text lists": Good(
        images("CUB/images/001.Black_footed_Albatross", "CUB/images/002.Laysan_Albatross")
        | {"CUB/classes.txt": "1 001.Black_footed_Albatross\n"},
        expected(images("001.Black_footed_Albatross", "002.Laysan_Albatross"), first),
        {".txt": 1},
    ),
    "ImageNet: WordNet's numbers": same(images("n01440764", "n01443537", "n02102040")),
    "Imagenette": Good(
        parts("train", "val", classes=("n01440764", "n02102040"), below="imagenette2/"),
        expected(parts("train", "val", classes=("n01440764", "n02102040")), split_of),
    ),
    "Kaggle's cats and dogs: each part in a folder of its own name": Good(
        parts("training_set/training_set", "test_set/test_set"),
        kaggle("training_set/training_set", "test_set/test_set"),
    ),
    "each part in a folder of its own name, in a folder and once more": Good(
        parts("training_set/training_set/training_set", "test_set/test_set", below="archive/dataset/"),
        kaggle("training_set/training_set/training_set", "test_set/test_set"),
    ),
    "one part in a folder of its own name": Good(
        parts("train/Training", "test"),
        kaggle("train/Training", "test"),
    ),
    "letters of two scripts": same(images("cat", "c\u0430t")),
    "wide letters": same(images("cat", "\uff43\uff41\uff54")),
    "MNIST as PNG": Good(
        parts("training", "testing", classes=("0", "1", "2"), below="mnist_png/"),
        expected(parts("training", "testing", classes=("0", "1", "2")), split_of),
    ),
    "Teachable Machine": same(images("Class 1", "Class 2"), {"metadata.json": "{}", "model.json": "{}"}),
    "YOLO: classification": Good(
        {f"pets/{name}": None for name in parts("train", "val")} | {"pets/data.yaml": "nc: 2", "pets/train.cache": "x"},
        expected(parts("train", "val"), split_of),
        {".yaml": 1, ".cache": 1},
    ),
    "Roboflow: folders": Good(parts("train", "valid", "test"), expected(parts("train", "valid", "test"), split_of)),
    "DVC": same(CATS, {"cat.dvc": "x", "dvc.yaml": "x", ".dvc/cache/aa/bb": "x", "dog/.gitignore": "x"}),
    "a notebook's folder": same(CATS, {".ipynb_checkpoints/0.png": None, "__pycache__/a.pyc": "x", "fit.py": "x"}),
    "a preview next to the one folder": Good(
        {f"data/{name}": None for name in CATS} | {"preview.png": None},
        expected(CATS, first),
        {"outside class folders": 1},
    ),
    "BreakHis: long chains of folders": Good(
        images("slides/benign/SOB/adenosis/SOB_B_A_14-1/40X", "slides/malignant/SOB/ductal/SOB_M_D_14-2/40X"),
        expected(images("benign/SOB/adenosis/SOB_B_A_14-1/40X", "malignant/SOB/ductal/SOB_M_D_14-2/40X"), first),
    ),
    "trainset and testdata": Good(
        parts("trainset", "TestData"),
        {
            f"{top}/{label}/{n}.png": (label, part)
            for top, part in (("trainset", "train"), ("TestData", "test"))
            for label in ("cat", "dog")
            for n in range(2)
        },
    ),
    "years in classes": same(images("cat/2019", "cat/2020", "dog/2019")),
    "Synology, QNAP and a recycle bin": same(
        CATS,
        {"#snapshot/cat/0.png": None, "cat/0.png@SynoEAStream": "x", ".@__thumb/0.png": None, "RECYCLER/1.png": None},
    ),
    "Capture One's cache": same(CATS, {"cat/CaptureOne/Cache/Thumbnails/0.png": None}, {"hidden folders": 1}),
    "Dropbox and OneDrive": same(
        CATS,
        {".dropbox.cache/a.png": None, "Vault.lnk": "x", "Icon\r": "x"},
        {".lnk": 1, "hidden": 1, "hidden folders": 1},
    ),
    "emoji, Arabic and Hangul": same(images("🐱", "قطة", "한국")),
    "names that programs use": same(images("CON", "NaN", "None", "null", "True", "1.0")),
    "quotes, commas and percents": same(images('say "hi"', "cat's", "50%", "#1", "a;b", "[x]", "c?t*")),
    "names of 255 bytes": same(images("é" * 127, "x" * 255)),
    "folders named like files": same(images("cat.png", "a.csv", "labels.csv", "cat.zip")),
}

FIELD_BAD = {
    "chest X-rays, packed twice": Bad(
        parts("train", "test", classes=XRAY) | parts("train", "test", classes=XRAY, below="chest_xray/"),
        "two ways",
        XRAY,
        without("chest_xray"),
    ),
    "LC25000": Bad(images(*LC25000), "two ways.*--class-depth 2", LC25000, depth=2),
    "PlantVillage: three versions": Bad(
        parts("color", "grayscale", classes=("Apple___scab", "Apple___healthy")),
        "if the classes are Apple___healthy, Apple___scab, move these folders to the top",
        ("Apple___healthy", "Apple___scab"),
        lambda files: move("color/", "")(without("grayscale")(files)),
    ),
    "Intel: seg_train/seg_train": Bad(INTEL, "seg_test, seg_train.*next to seg_pred", ("sea", "street"), seen),
    "COCO's names of parts": Bad(
        images("train2017/cat", "train2017/dog", "val2017/cat"),
        "two ways: as parts",
        ("cat", "dog"),
        lambda files: move("train2017", "train")(move("val2017", "validation")(files)),
    ),
    "Hugging Face's shards": Bad(
        parts("train-00000-of-1", "test-00000-of-1"),
        "two ways: as parts",
        ("test-00000-of-1", "train-00000-of-1"),
        depth=1,
    ),
    "Tiny ImageNet: images without labels in val/images": Bad(
        images("train/n01/images", "train/n02/images", "val/images"),
        "found images in other parts than training.*two ways",
        ("n01", "n02"),
        without("val"),
    ),
    "a test part without labels": Bad(
        parts("train") | images("test/unknown"),
        "found unknown in other parts than training",
        ("cat", "dog"),
        without("test"),
    ),
    "MVTec: defects only in test": Bad(
        MVTEC, "found broken in other parts", ("broken", "good"), lambda files: files | images("train/broken")
    ),
    "defects only in the test part of a class": Bad(
        images("good/train", "good/test", "bad/test"),
        "found bad in other parts",
        ("bad", "good"),
        lambda files: files | images("bad/train"),
    ),
    "CVAT: no_label": Bad(
        images("cat", "dog", "no_label"), "no_label, which can.*two ways", ("cat", "dog"), without("no_")
    ),
    "unlabeled in a part": Bad(
        parts("train", "test") | images("train/Unlabeled"),
        "Unlabeled, which can",
        ("Unlabeled", "cat", "dog"),
        depth=1,
    ),
    "IDC: patients above classes 0 and 1": Bad(
        parts("10253", "10254", classes=("0", "1")),
        "if the classes are 0, 1, move",
        ("0", "1"),
        lambda files: {f"{p.split('/')[1]}/{p.split('/')[0]}_{p.split('/')[2]}": c for p, c in files.items()},
    ),
    "sites above parts and classes": Bad(
        parts("siteA/train", "siteA/test", "siteB/train", "siteB/test"),
        "two ways: as classes that siteA, siteB have in common.*train/cat",
        ("cat", "dog"),
        lambda files: {f"{p.split('/')[1]}/{p.split('/')[2]}/{p.split('/')[0]}_{p[-5:]}": c for p, c in files.items()},
    ),
    "sites above parts and classes, as classes": Bad(
        parts("siteA/train", "siteA/test", "siteB/train", "siteB/test"), "--class-depth 1", ("siteA", "siteB"), depth=1
    ),
    "an image outside the parts of its class": Bad(
        images("cat/train", "cat/test", "dog/train", "dog/test") | {"dog/9.png": None},
        r"1 image\(s\) outside them",
        ("cat", "dog"),
        move("dog/9", "dog/train/9"),
    ),
    "a duplicate folder in the data": Bad(
        images("Parasitized", "Uninfected", "cell_images/Parasitized", "cell_images/Uninfected"),
        "two ways.*--class-depth 1 .class_depth",
        ("Parasitized", "Uninfected", "cell_images"),
        depth=1,
    ),
    "four folders around": Bad(images("a/b/c/d/cat", "a/b/c/d/dog"), "--class-depth 2", ("d/cat", "d/dog"), depth=2),
    "Oxford Pets: the class is in the file's name": Bad(
        {f"images/{name}_{n}.png": None for name in ("beagle", "pug") for n in range(2)},
        "found one class folder.*put those of each class into a folder",
        ("beagle", "pug"),
        lambda files: {f"{p[7:].split('_')[0]}/{p[7:]}": c for p, c in files.items()},
    ),
    "a space at the end of a name": Bad(
        images("cat ", "dog"),
        "a space, or .* at the beginning or end.*Fix: rename",
        ("cat", "dog"),
        move("cat ", "cat"),
    ),
    "a space at the beginning of a name": Bad(
        images(" cat", "dog"), "a space, or .* at the beginning or end", ("cat", "dog"), move(" cat", "cat")
    ),
    "a character that is not seen at the end of a name": Bad(
        images("cat\u200b", "dog"), "not seen, at the beginning or end", ("cat", "dog"), move("cat\u200b", "cat")
    ),
    "a name with a bar": Bad(
        images("a|b", "dog"), r"several labels of one image \(a.b\)", ("ab", "dog"), move("a|b", "ab")
    ),
    "names of several labels": Bad(
        images("cat", "dog", "cat,dog"), "several labels of one image", ("cat", "dog"), without("cat,")
    ),
    "a backslash": Bad(
        images("a\\b", "dog"), "a backslash, which", ("ab", "dog"), move("a\\b", "ab"), zip_differs=True
    ),
    "a drive's letter": Bad(images("a:b", "dog"), "name a drive", ("ab", "dog"), move("a:b", "ab"), zip_differs=True),
    "a line end in a file's name": Bad(
        CATS | {"cat/a\nb.png": None}, "control character", ("cat", "dog"), move("cat/a\n", "cat/a"), zip_differs=True
    ),
    "a folder named like the list of a dataset": Bad(
        images("Manifest.jsonl", "dog"), "the name of the list", ("dog", "m"), move("Manifest.jsonl", "m")
    ),
    "a name with a character that is not seen": Bad(
        images("cat", "c\u200bat", "dog"), "U.200B, which is not seen", ("cat", "cub", "dog"), move("c\u200bat", "cub")
    ),
    "names that differ in spaces": Bad(
        images("big cat", "big  cat", "dog"), "differ only in spaces", ("big cat", "dog"), without("big  cat")
    ),
}
