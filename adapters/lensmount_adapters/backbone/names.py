"""Tell from a backbone's name whether it takes images or volumes."""

from __future__ import annotations

import re

OF_VOLUMES = re.compile(r"(?P<flat>.+)-3d(?P<depth>[1-9]\d?)?")


def is_of_volumes(name: str) -> bool:
    """Return True if a backbone of this name takes volumes."""
    return OF_VOLUMES.fullmatch(name) is not None
