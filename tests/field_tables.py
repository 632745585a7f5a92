"""Files of labels as people, spreadsheets and tools write them: what each is read as, or how its refusal is mended."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.field_layouts import Bad
from tests.layouts import FLAT, PETS, Files, Good, coco, rows_of, table

ROWS = [(f"images/{n}.png", "cat" if n < 2 else "dog") for n in range(4)]


def lines(**more: Any) -> str:
    """JSON lines of path and label, with more keys in each."""
    return "".join(json.dumps({"path": path, "label": label} | more) + "\n" for path, label in ROWS)


def written(text: str, name: str = "labels.csv") -> Callable[[Files], Files]:
    """Write the file of labels again, as a refusal advises."""
    return lambda files: files | {name: text}


def edited(old: str, new: str, name: str = "labels.csv") -> Callable[[Files], Files]:
    """Replace a part of the file of labels, as a refusal advises."""
    return lambda files: files | {name: files[name].replace(old, new)}


def bad(text: str, found: str, mend: Callable[[Files], Files], name: str = "labels.csv") -> Bad:
    return Bad(FLAT | {name: text}, found, ("cat", "dog"), mend)


CSV = rows_of("path,label", "images/{n}.png,{label}")
TIDY = written(CSV)

TABLES_GOOD = {
    "a line end in a quoted cell": table(rows_of("path,label,note", 'images/{n}.png,{label},"a\nb"')),
    "European decimals": table(rows_of("path;label;age", "images/{n}.png;{label};3,5")),
    "UTF-32": table(CSV, encoding="utf-32"),
    "CR CR LF": table(CSV.replace("\n", "\r\r\n")),
    "mixed line ends": table("path,label\r\nimages/0.png,cat\nimages/1.png,cat\rimages/2.png,dog\r\nimages/3.png,dog"),
    "a separator at the end of the first row": table(rows_of("path,label,", "images/{n}.png,{label}")),
    "a separator at the end of the rows": table(rows_of("path,label", "images/{n}.png,{label},")),
    "equal names of other columns": table(rows_of("path,label,x,x", "images/{n}.png,{label},1,2")),
    "blank rows": table("\n\n" + CSV.replace("\n", "\n\n") + ",\n"),
    "a column of numbers from pandas": table(rows_of(",path,label", "{n},images/{n}.png,{label}")),
    "file: addresses": table(rows_of("path,label", "file:///home/me/images/{n}.png,{label}")),
    "a path of a Windows server": table(rows_of("path,label", "\\\\server\\share\\images\\{n}.png,{label}")),
    "two slashes": table(rows_of("path,label", "images//{n}.png,{label}")),
    "two byte-order marks": table("\ufeff\ufeff" + CSV),
    "a byte-order mark before the second column": table(CSV.replace("label", "\ufefflabel")),
    "spaces that are not seen": table(rows_of("path,\u00a0label\u200b", "images/{n}.png,{label}\u200b")),
    "a number and a name of the class": table(rows_of("path,class_id,class", "images/{n}.png,7,{label}")),
    "APTOS 2019: id_code, diagnosis": Good(FLAT | {"labels.csv": rows_of("id_code,diagnosis", "{n},{label}")}, PETS),
    "ISIC: lesion_id, image_id, dx": Good(
        FLAT | {"labels.csv": rows_of("lesion_id,image_id,dx,age", "L{n},{n},{label},80.0")}, PETS
    ),
    "one label in a list": table(lines().replace('"cat"', '["cat"]').replace('"dog"', '["dog"]'), "labels.jsonl"),
    "JSON lines with a mark and CR LF": table(lines().replace("\n", "\r\n"), "labels.jsonl", "utf-8-sig"),
    "Prodigy's accepted rows": table(lines(answer="accept"), "labels.jsonl"),
    "a name with a space as an address": Good(
        {"a b.png": None, "b.png": None, "c.png": None, "50%25.png": None}
        | {"labels.csv": "path,label\na%20b.png,x\nb.png,x\nc.png,y\n50%25.png,y\n"},
        {"a b.png": ("x", None), "b.png": ("x", None), "c.png": ("y", None), "50%25.png": ("y", None)},
    ),
    "equal names in two folders": Good(
        {f"{folder}/{n}.png": None for folder in "ab" for n in range(2)}
        | {"labels.csv": "path,label\na/0.png,x\nb/0.png,y\na/1.png,x\nb/1.png,y\n"},
        {f"{folder}/{n}.png": ("x" if folder == "a" else "y", None) for folder in "ab" for n in range(2)},
    ),
    "words for parts": Good(
        FLAT
        | {"labels.csv": "id,label,split\n0.png,cat,TRAINING\n1.png,cat,Val\n2.png,dog,trainset\n3.png,dog,hold-out\n"},
        {
            "images/0.png": ("cat", "train"),
            "images/1.png": ("cat", "validation"),
            "images/2.png": ("dog", "train"),
            "images/3.png": ("dog", "test"),
        },
    ),
    "the number of a fold is no part": table(rows_of("path,label,fold", "images/{n}.png,{label},{n}")),
    "COCO: equal names in two parts": Good(
        {f"{part}/{n}.png": None for part in ("train2017", "test") for n in range(2)}
        | {f"annotations/{part}.json": coco(("0.png", "cat"), ("1.png", "dog")) for part in ("train", "test")},
        {
            f"{folder}/{n}.png": ("dog" if n else "cat", part)
            for folder, part in (("train2017", "train"), ("test", "test"))
            for n in range(2)
        },
    ),
    "CVAT: subsets": Good(
        FLAT
        | {
            "annotations.xml": "<annotations>"
            + "".join(
                f'<image name="{n}.png" subset="{"Test" if n % 2 else "Train"}"><tag label="{label}"/></image>'
                for n, (_, label) in enumerate(ROWS)
            )
            + "</annotations>"
        },
        {path: (label, "test" if n % 2 else "train") for n, (path, label) in enumerate(ROWS)},
    ),
    "commas in a label": Good(
        FLAT | {"labels.csv": rows_of("path,label", 'images/{n}.png,"Pepper, {label}"')},
        {f"images/{n}.png": (f"Pepper, {'cat' if n < 2 else 'dog'}", None) for n in range(4)},
    ),
}

EACH = json.dumps({f"{n}.png9": {"filename": f"{n}.png", "regions": []} for n in range(4)})

TABLES_BAD = {
    "VGG's annotator": Bad(
        FLAT | {"via.json": EACH},
        "via.json is an export of VGG's annotator VIA, which is not read",
        ("cat", "dog"),
        TIDY,
    ),
    "a JSON list of rows": Bad(
        FLAT | {"labels.json": json.dumps([{"path": path, "label": label} for path, label in ROWS])},
        "labels.json is a JSON list of rows, which is not read",
        ("cat", "dog"),
        TIDY,
    ),
    "a table of another name": Bad(
        FLAT | {"train.csv": CSV}, "If train.csv has the labels, rename it to labels.csv", ("cat", "dog"), TIDY
    ),
    "a text list": Bad(
        FLAT | {"train.txt": "images/0.png 0\n"}, "If train.txt has labels, write them into", ("cat", "dog"), TIDY
    ),
    "Roboflow's _classes.csv in each part": Bad(
        {f"{part}/{n}.png": None for part in ("train", "valid") for n in range(2)}
        | {f"{part}/_classes.csv": "filename, cat, dog\n0.png, 1, 0\n1.png, 0, 1\n" for part in ("train", "valid")},
        "If train/_classes.csv has labels, write them into a labels.csv",
        ("cat", "dog"),
        written("path,label,split\ntrain/0.png,cat,train\ntrain/1.png,dog,train\nvalid/0.png,cat,val\n"),
    ),
    "images without a suffix": Bad(
        {f"{name}/IM000{n}": b"DICM" for name in ("cat", "dog") for n in range(2)},
        "not those of images: 4 without a suffix",
        ("cat", "dog"),
        lambda files: {f"{name}.dcm": content for name, content in files.items()},
    ),
    "decimals without quotes": bad(
        rows_of("path,label,age", "images/{n}.png,{label},3,5"), "4 cells, expected the 3", edited(",3,5", ',"3,5"')
    ),
    "a column twice": bad(
        rows_of("path,label,label", "images/{n}.png,{label},x"), "label twice", edited("l,l", "l,old_l")
    ),
    "no first row": bad("\n".join(CSV.splitlines()[1:]), "no column path and label.*name the columns", TIDY),
    "Google AutoML": bad(
        rows_of("TRAIN,gs://b/images/9.png,cat", "TRAIN,gs://b/images/{n}.png,{label}"),
        "no column path and label",
        TIDY,
    ),
    "web addresses": bad(
        rows_of("path,label", "https://x.org/{n}.png,{label}"), "the web address", edited("https://x.org/", "images/")
    ),
    "an empty label": bad(
        CSV.replace("0.png,cat", "0.png,"), "row 2: found no label.*remove the row", edited("images/0.png,\n", "")
    ),
    "NaN where a label is missing": bad(
        CSV.replace("0.png,cat", "0.png,NaN"), "row 2: found the label NaN", edited("images/0.png,NaN\n", "")
    ),
    "an error of Excel as label": bad(
        CSV.replace("0.png,cat", "0.png,#REF!"), "the label #REF!", edited("#REF!", "cat")
    ),
    "run lengths of masks": bad(
        "ImageId,EncodedPixels\n0.png,1 5 6 7\n", "row 1: found the columns encodedpixels of boxes or outlines", TIDY
    ),
    "VGG's annotator in CSV": bad(
        "filename,file_size,region_count,region_id,region_shape_attributes,region_attributes\n0.png,9,0,0,{},{}\n",
        "row 1: found the columns region_shape_attributes, region_attributes of boxes",
        TIDY,
    ),
    "measurements": bad(
        "path,label\nimages/0.png,0.132\nimages/1.png,4.5\nimages/2.png,2.25\nimages/3.png,9\n",
        "row 2: found the number 0.132.*a measurement cannot be a class",
        TIDY,
    ),
    "1 and 1.0": Bad(
        FLAT | {"labels.csv": "path,label\nimages/0.png,1\nimages/1.png,1.0\nimages/2.png,0\n"},
        "row 3: .*how a number is written",
        ("0", "1"),
        edited("1.0", "1"),
    ),
    "labels that differ in spaces": bad(
        CSV.replace("1.png,cat", "1.png,c  at").replace("0.png,cat", "0.png,c at"), "differ only in spaces", TIDY
    ),
    "lists of Python": bad(
        rows_of("path,label", "images/{n}.png,\"['{label}', 'ring']\""),
        r"row 2: found the list \['cat', 'ring'\]",
        TIDY,
    ),
    "true and false for each label": bad(
        "path,cat,dog\nimages/0.png,True,False\nimages/1.png,False,True\n", "a column of 0 and 1 for each label", TIDY
    ),
    "a path with '..'": bad(rows_of("path,label", "../images/{n}.png,{label}"), "'..' in the path", edited("../", "")),
    "another suffix": bad(CSV.replace(".png", ".jpg"), r"\(there is images/0.png\)", edited(".jpg", ".png")),
    "a folder too many": bad(
        rows_of("path,label", "pets/images/{n}.png,{label}"), r"\(there is images/0.png\)", edited("pets/", "")
    ),
    "a row in the list twice": bad(
        CSV + "images/0.png,dog\n", "row 6: .*row 2 already has it", edited("images/0.png,dog\n", "")
    ),
    "only a first row": bad("path,label\n", "found no rows", TIDY),
    "an empty file": bad("", "found nothing", TIDY),
    "an array in JSON lines": bad(
        json.dumps([{"path": path, "label": label} for path, label in ROWS]),
        "row 1: found a value that is not a JSON object",
        written(lines(), "labels.jsonl"),
        "labels.jsonl",
    ),
    "other keys": bad(
        lines().replace("label", "sort"),
        'row 1: found no column label.*name the keys so: {"path"',
        written(lines(), "labels.jsonl"),
        "labels.jsonl",
    ),
    "an object as label": bad(
        lines().replace('"cat"', '{"name": "cat"}'),
        "a label that is not text",
        written(lines(), "labels.jsonl"),
        "labels.jsonl",
    ),
    "Prodigy's rejected rows": bad(
        lines() + json.dumps({"path": "images/0.png", "label": "dog", "answer": "reject"}),
        "row 5: found the answer 'reject' of Prodigy",
        written(lines(), "labels.jsonl"),
        "labels.jsonl",
    ),
}
