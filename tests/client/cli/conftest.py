"""A server that has a dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def pushed(server: Any, lensmount: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Two classes, pushed as `pets`."""
    monkeypatch.setenv("LENSMOUNT_URL", server.url)
    folder = tmp_path / "pets"
    for name in ("cat/a.png", "dog/b.png"):
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_bytes(name.encode())
    lensmount("datasets", "push", str(folder))
    return folder
