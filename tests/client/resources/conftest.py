"""A server that can train."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def training(server: Any) -> Any:
    """A server that has the dataset `pets`."""
    from io import BytesIO
    from zipfile import ZipFile

    buffer = BytesIO()
    with ZipFile(buffer, "w") as archive:
        archive.writestr("cat/a.png", b"a")
        archive.writestr("dog/b.png", b"b")
    server.training.stored["pets"] = [buffer.getvalue()]
    return server.training
