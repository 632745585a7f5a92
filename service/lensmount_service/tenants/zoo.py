"""The adapters of the zoo belong to the default tenant and are shared with all from the start."""

from __future__ import annotations

import contextlib
from pathlib import Path

from lensmount_adapters.adapter.file import digest_of
from lensmount_service.errors import NameTaken, NotFound
from lensmount_service.store.catalog import Catalog
from lensmount_service.store.shares import Shares


def share_zoo(catalog: Catalog, shares: Shares, folder: Path) -> list[str]:
    """Share the adapters of a folder under their own names, once: what an operator unshares stays so.

    An adapter that the operator replaced is not shared. Returns the names that are shared now and were not before.
    """
    shared = []
    for path in sorted(folder.glob("*.safetensors")):
        name = path.stem
        if shares.was_ever("adapter", name):
            continue
        with contextlib.suppress(NotFound, NameTaken):  # it is for another backbone, or a tenant was first
            if catalog.entry(name).latest.digest == digest_of(path.read_bytes()):
                shared.append(shares.add("adapter", name, name, None).name)
    return shared
