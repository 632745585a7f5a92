"""lib/zip.js and lib/digest.js in Node: Python reads what they write, and they read what Python writes."""

from __future__ import annotations

import hashlib
import io
import json
import random
import shutil
import subprocess
import unicodedata
import zipfile
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from lensmount_adapters.zips.reader import open_archive

NODE = shutil.which("node")
LIB = Path(str(files("lensmount_service").joinpath("page", "lib")))
NAMES = [
    *("Größe.png", "GRÖSSE.png", "straße.png", "STRASSE.PNG", "白血球.png", "リンパ球.png", "эритроцит.png"),
    *("κύτταρο.png", "خلية.png", "תא.png", "กข.png", "कोशिका.png", "🍁.png", "e\u0301.png", "\u00e9.png"),
    *(
        "../../etc/passwd",
        "a:b\\c*?.png",
        ".hidden",
        "",
        " .png ",
        "x" * 400 + ".png",
        "白" * 200 + ".jpeg",
        "a\u202eb.png",
    ),
]
WRITE = """
import { pack, uniqueNames } from "./zip.js";
import { Sha256 } from "./digest.js";
import { writeFileSync } from "node:fs";
const unique = uniqueNames();
const paths = JSON.parse(process.argv[2]).map((name) => `cells/${unique(name)}`);
const zip = await pack(paths.map((path, at) => ({ path, blob: new Blob([path.repeat(at * 50)]) })));
writeFileSync(process.argv[3], Buffer.from(await zip.arrayBuffer()));
const sums = JSON.parse(process.argv[4]).map((size) => {
  const bytes = Uint8Array.from({ length: size }, (_, at) => (at * 7 + size) % 256);
  return Buffer.from(new Sha256().add(bytes.subarray(0, size / 3)).add(bytes.subarray(size / 3)).end()).toString("hex");
});
console.log(JSON.stringify({ paths, sums }));
"""
READ = """
import { unpack } from "./zip.js";
import { readFileSync } from "node:fs";
const said = [];
for (const name of process.argv.slice(2)) {
  try {
    const found = await unpack(new Blob([readFileSync(name)]));
    said.push(Object.fromEntries(await Promise.all(found.map(async ({ path, blob }) => [path, await blob.text()]))));
  } catch (error) {
    said.push(error.message);
  }
}
console.log(JSON.stringify(said));
"""

pytestmark = pytest.mark.skipif(NODE is None, reason="needs Node.js: apt-get install nodejs")


def run(folder: Path, script: str, *arguments: str) -> Any:
    assert NODE is not None
    for name in ("zip.js", "digest.js"):
        (folder / name).write_bytes((LIB / name).read_bytes())
    (folder / "package.json").write_text('{"type": "module"}')
    (folder / "script.js").write_text(script)
    done = subprocess.run([NODE, folder / "script.js", *arguments], capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def test_python_and_the_server_read_what_the_page_packs_in_every_alphabet(tmp_path: Path) -> None:
    sizes = [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000]
    made = run(tmp_path, WRITE, json.dumps(NAMES), str(tmp_path / "out.zip"), json.dumps(sizes))
    paths = made["paths"]

    with zipfile.ZipFile(tmp_path / "out.zip") as archive:
        assert archive.testzip() is None
        assert archive.namelist() == paths
        assert [archive.read(path).decode() for path in paths] == [path * at * 50 for at, path in enumerate(paths)]
    checked = open_archive(tmp_path / "out.zip")  # refuses names that differ only in case, hidden ones, `..`
    assert list(checked.entries) == paths
    assert paths[:7] == [
        f"cells/{name}" for name in ("Größe.png", "GRÖSSE (2).png", "straße.png", "STRASSE (2).PNG")
    ] + [f"cells/{name}" for name in NAMES[4:7]]
    assert paths[13:15] == ["cells/\u00e9.png", "cells/\u00e9 (2).png"]
    assert all(unicodedata.is_normalized("NFC", path) and len(path.encode()) < 220 for path in paths)
    bytes_of = [bytes((at * 7 + size) % 256 for at in range(size)) for size in sizes]
    assert made["sums"] == [hashlib.sha256(data).hexdigest() for data in bytes_of]


def test_the_page_reads_what_python_packs_and_refuses_what_is_no_zip(tmp_path: Path) -> None:
    texts = {
        f"leaves/{name}/{at}.png": "leaf " * random.Random(at).randrange(2000) for at, name in enumerate(NAMES[4:12])
    }
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        with zipfile.ZipFile(tmp_path / f"{method}.zip", "w", method) as archive:
            archive.mkdir("leaves")
            for name, text in texts.items():
                archive.writestr(name, text)
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a", "x" * 5000)
    data = bytearray(bomb.getvalue())
    at = data.index(b"PK\x01\x02")
    data[at + 24 : at + 28] = (10).to_bytes(4, "little")  # states 10 bytes
    (tmp_path / "bomb.zip").write_bytes(data)
    (tmp_path / "text.zip").write_bytes(b"no zip")

    names = ("0.zip", "8.zip", "bomb.zip", "text.zip")
    stored, deflated, lying, none = run(tmp_path, READ, *(str(tmp_path / name) for name in names))

    assert stored == texts
    assert deflated == texts
    assert lying == "found a larger than its zip states"
    assert none == "found no end of its directory, expected a complete zip file"
