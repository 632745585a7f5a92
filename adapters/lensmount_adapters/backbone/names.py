"""What a backbone's name says: its architecture, and whether it takes images or volumes."""

from __future__ import annotations

import re

_TAG = re.compile(r"\.\w+")
OF_VOLUMES = re.compile(r"(?P<flat>.+)-3d(?P<depth>[1-9]\d?)?")


def is_of_volumes(name: str) -> bool:
    """Return True if a backbone of this name takes volumes."""
    return OF_VOLUMES.fullmatch(name) is not None


def architecture_of(name: str) -> str:
    """Return the name without the tag of its weights: "resnet34" for "resnet34.a1_in1k"."""
    return _TAG.sub("", name)
