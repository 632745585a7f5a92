"""Every extra of pyproject.toml is in the report: its versions, or the line that installs it."""

from __future__ import annotations

from importlib.metadata import version

from lensmount_client._cli.extras import MODULES
from lensmount_client._doctor.packages import PURPOSES, packages


def test_every_extra_has_a_purpose() -> None:
    assert list(PURPOSES) == list(MODULES)  # which tests/test_extras.py compares with pyproject.toml


def test_an_installed_extra_shows_the_versions_of_its_packages() -> None:
    found = {finding.part: finding for finding in packages()}
    assert found["serve"].level == "ok"
    assert f"fastapi {version('fastapi')}, uvicorn {version('uvicorn')}, " in found["serve"].found


def test_an_extra_without_one_of_its_packages_is_a_note_with_the_line_that_installs_it() -> None:
    found = {finding.part: finding for finding in packages(lambda name: name not in ("nibabel", "torch"))}
    volumes = found["volumes"]
    assert volumes == ("volumes", "note", "not installed, for NIfTI and multi-page TIFF (no nibabel)", volumes.fix)
    assert volumes.fix == 'pip install "lensmount[volumes]"'
    assert {name for name, finding in found.items() if finding.level == "note"} == {"volumes", "torch"}
