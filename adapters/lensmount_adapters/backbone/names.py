"""What a backbone's name says about its inputs."""

from __future__ import annotations

import re

OF_VOLUMES = re.compile(r"(?P<flat>.+)-3d(?P<depth>[1-9]\d?)?")


def is_of_volumes(name: str) -> bool:
    """Whether a backbone of this name takes volumes."""
    return OF_VOLUMES.fullmatch(name) is not None
