"""An export that the server sent as a zip, unpacked into a folder that appears when it is complete."""

from __future__ import annotations

import json
import shutil
import tempfile
import zipfile
from pathlib import Path
from types import TracebackType

from lensmount_client._errors import CannotWrite, InvalidInput, UnexpectedResponse
from lensmount_client._types.results import DownloadedFile, Export

DESCRIPTION = "lensmount.json"
MAX_FILES = 1000


class ExportFolder:
    """`with ExportFolder("malaria-peft") as folder: ...; folder.unpack(download, "peft")`.

    `zip_path` is where the zip is to be downloaded; it is removed at the end. Raises InvalidInput, before anything is
    sent, if the folder has files, and CannotWrite.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        try:
            if self._path.exists() and (not self._path.is_dir() or any(self._path.iterdir())):
                raise InvalidInput(
                    f"{path}: found files there, expected a new or empty folder. Fix: choose another with --out"
                )
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._temporary = Path(tempfile.mkdtemp(prefix=f".{self._path.name}.", dir=self._path.parent))
        except OSError as error:
            raise CannotWrite(f"{path}: cannot be written ({error.strerror})") from error
        self.zip_path = self._temporary / "export.zip"

    def __enter__(self) -> ExportFolder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        shutil.rmtree(self._temporary, ignore_errors=True)

    def unpack(self, zipped: DownloadedFile, to: str) -> Export:
        """Unpack the files and put the folder in its place. Raises UnexpectedResponse for a zip of something else."""
        part = self._temporary / "files"
        try:
            part.mkdir()
            names = _unpack(zipped.path, part)
            notes = _notes(part / DESCRIPTION)
            if self._path.exists():
                self._path.rmdir()
            part.chmod(0o755)
            part.rename(self._path)
        except OSError as error:
            raise CannotWrite(f"{self._path}: cannot be written ({error.strerror})") from error
        return Export(self._path, to, zipped.digest, names, notes)


def _unpack(path: Path, folder: Path) -> tuple[str, ...]:
    """Unpack a zip of plain, uncompressed files without folders, so it cannot grow or leave `folder`."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            for entry in entries:
                plain = Path(entry.filename).name == entry.filename and "\\" not in entry.filename
                if not plain or entry.filename in ("", ".", "..") or entry.compress_type != zipfile.ZIP_STORED:
                    raise UnexpectedResponse(f"export: found the entry {entry.filename[:80]!r}, expected a plain file")
            if len(entries) > MAX_FILES:
                raise UnexpectedResponse(f"export: found {len(entries)} files, expected at most {MAX_FILES}")
            for entry in entries:
                with archive.open(entry) as source, (folder / entry.filename).open("xb") as sink:
                    shutil.copyfileobj(source, sink)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, FileExistsError) as error:
        raise UnexpectedResponse(f"export: found a file that is not a zip of an export ({error})") from error
    return tuple(sorted(entry.filename for entry in entries))


def _notes(path: Path) -> tuple[str, ...]:
    try:
        notes = json.loads(path.read_text(encoding="utf-8")).get("notes", [])
    except (OSError, ValueError, AttributeError):
        return ()
    return tuple(str(note) for note in notes) if isinstance(notes, list) else ()
