"""Layouts of datasets that are refused, and what the refusal says."""

from __future__ import annotations

from tests.layouts import CATS, CSV, FLAT, SPLITS, Files, coco, cvat, images, tasks, voc

BAD: dict[str, tuple[Files, str]] = {
    "nothing": ({}, "no class folders"),
    "a flat folder": ({"a.png": None, "b.png": None}, r"2 image\(s\), but no class folders.*labels.csv"),
    "a flat folder with a table": ({"a.png": None, "b.png": None, "train.csv": CSV}, "rename it to labels.csv"),
    "one class": (images("cat"), r"one class folder \(cat\)"),
    "one class with patients": (images("cat/patient_1", "cat/patient_2"), r"one class folder \(cat\)"),
    "an empty class": (CATS | {"other/": None}, "no images in other"),
    "a class without an image": (CATS | {"other/notes.txt": "x"}, "no images in other"),
    "a class of leftovers": (CATS | {"other/._1.png": "x"}, "no images in other"),
    "an empty part": (SPLITS | {"holdout/": None}, "no images in holdout"),
    "parts without classes": ({"train/0.png": None, "test/1.png": None}, "named like a part of a split"),
    "one part without classes": (images("train/cat", "train/dog") | {"test/1.png": None}, "leave out a part"),
    "parts next to other folders": (SPLITS | images("extra/cat"), "two ways"),
    "names that look like parts": (
        images("seg_train/cat", "seg_train/dog", "seg_test/cat", "seg_test/dog"),
        "two ways",
    ),
    "nested names": (images("lung/aca", "lung/scc", "colon/aca", "colon/n"), r"lung/scc.*two ways.*--class-depth 2"),
    "nested grades": (images("tumour/grade1", "tumour/grade2", "healthy/young", "healthy/old"), "two ways"),
    "nested names in a part": (images("train/a/b", "train/a/cc", "test/a/b", "test/x/cc"), "two ways"),
    "images and masks": (images("images", "masks"), "train_segmentation"),
    "images and labels as masks": (images("Images", "GroundTruth"), "train_segmentation"),
    "images and masks in parts": (
        images("train/images", "train/masks", "test/images", "test/masks"),
        "train_segmentation",
    ),
    "images and masks in a folder of annotations": (images("images", "annotations/trimaps"), "train_segmentation"),
    "images of several classes in folders that look like parts": (
        {f"train/{name}.{number}.jpg": None for name in ("cat", "dog") for number in range(2)} | images("test1"),
        "found 6 image.* in a folder named like a part of a split.*train/cat/1.png",
    ),
    "two kinds of images in parts": (
        images("trainA", "trainB", "testA", "testB"),
        "in a folder named like a part of a split",
    ),
    "images and masks in classes": (images("cat/images", "cat/masks", "dog/images", "dog/masks"), "train_segmentation"),
    "masks next to their images": (
        CATS | {name.replace(".png", "_mask.png"): None for name in CATS},
        "masks next to their images.*train_segmentation",
    ),
    "folders that differ in case": (images("Cat", "cat", "dog"), "found Cat and cat, which differ only in upper"),
    "files that differ in case": (CATS | {"cat/a.png": None, "cat/A.png": None}, r"cat/A\.png and cat/a\.png"),
    "labels that differ in case": (
        FLAT | {"labels.csv": CSV + "0.png,Cat\n1.png,cat\n2.png,dog\n"},
        r"row 3.*'cat'.*'Cat' in row 2",
    ),
    "patients above the classes": (
        images("patient_1/cat", "patient_1/dog", "patient_2/cat"),
        "only number a part.*group",
    ),
    "patients as classes": (images("Patient01", "Patient02", "Patient03"), "only number a part"),
    "folds": (images("fold1/cat", "fold1/dog", "fold2/cat", "fold2/dog"), "only number a part"),
    "images in pieces": (images("HAM_images_part_1", "HAM_images_part_2") | {"a.csv": CSV}, "only number a part"),
    "a deep path": (CATS | {"x/" * 33 + "1.png": None}, "found 33 folders above this name.*Fix: move it up"),
    "a long path": (
        {f"cat/{'/'.join(letter * 250 for letter in 'wxyz')}/{'a' * 20}.png": None} | CATS,
        "path of 1032 bytes.*Fix: shorten",
    ),
    "several labels with bars": (
        FLAT | {"labels.csv": CSV + "0.png,cat|ring\n1.png,dog|ring\n"},
        "row 2: found several labels",
    ),
    "several labels with semicolons": (
        FLAT | {"labels.csv": CSV + "0.png,cat;ring\n1.png,dog;ring\n"},
        "several labels",
    ),
    "several labels in a list": (
        FLAT | {"manifest.jsonl": '{"path": "0.png", "label": ["a", "b"]}\n'},
        r"row 1: found several labels of one image \(a, b\)",
    ),
    "a column for each label": (
        FLAT | {"labels.csv": "image,cat,dog\n0,1,0\n1,1,1\n"},
        "a column of 0 and 1 for each label",
    ),
    "two columns of labels": (FLAT | {"labels.csv": "image,category,diagnosis\n0,a,b\n"}, "each could be the label"),
    "two files with one name": (
        {"a/1.png": None, "b/1.png": None, "labels.csv": CSV + "1.png,x\n"},
        "row 2: found '1.png', which could be each of a/1.png, b/1.png",
    ),
    "two rows for one file": (FLAT | {"labels.csv": CSV + "0.png,cat\nimages/0.png,dog\n"}, "row 3: .*of row 2"),
    "a web address": (FLAT | {"labels.csv": CSV + "https://x.org/0.png,cat\n"}, "row 2: found the web address"),
    "Cyrillic in Windows-1251": (
        FLAT | {"labels.csv": (CSV + "0.png,болезнь\n").encode("cp1251")},
        "row 2: .*not UTF-8",
    ),
    "a missing file": (FLAT | {"labels.csv": CSV + "7.png,cat\n"}, "row 2: found no file '7.png'"),
    "an unknown part": (FLAT | {"labels.csv": "path,label,split\n0.png,cat,spare\n"}, "row 2: found the split 'spare'"),
    "COCO with several labels": (
        FLAT | {"a.json": coco(("0.png", "cat"), ("0.png", "dog"))},
        "cat, dog for 0.png in a COCO export",
    ),
    "CVAT with boxes": (
        FLAT | {"annotations.xml": cvat("", '<box label="a"></box><box label="b"></box>')},
        "no label for .* in a CVAT export",
    ),
    "Label Studio with several labels": (FLAT | {"a.json": tasks(["cat", "dog"])}, "a Label Studio export"),
    "Pascal VOC with two names": (
        {"JPEGImages/1.png": None, "Annotations/1.xml": voc(1, "cat", "dog")},
        "Pascal VOC export",
    ),
    "YOLO with boxes": (
        {"images/train/1.png": None, "images/val/2.png": None, "labels/train/1.txt": "0 0.5 0.5 0.2 0.2\n"},
        "YOLO with boxes",
    ),
}


# A zip with such names is refused as a zip, in other words.
REFUSED_AS_ZIP = frozenset({"folders that differ in case", "files that differ in case", "a long path"})
