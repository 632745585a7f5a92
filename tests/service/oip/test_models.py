from __future__ import annotations

import pytest

from lensmount_service.errors import RequestInvalid
from lensmount_service.oip.models import reference_of
from lensmount_service.store.references import Reference

DIGEST = "sha256:" + "0" * 64


@pytest.mark.parametrize(
    ("model", "version", "reference"),
    [
        ("cells", "", Reference("cells")),
        ("cells", "3", Reference("cells", version=3)),
        ("cells", "prod", Reference("cells", alias="prod")),
        ("cells", "3-beta", Reference("cells", alias="3-beta")),
        ("cells", DIGEST, Reference("cells", digest=DIGEST)),
        ("cells@3", "", Reference("cells", version=3)),
        ("cells:prod", "", Reference("cells", alias="prod")),
        (f"public/cells@{DIGEST}", "", Reference("public/cells", digest=DIGEST)),
        ("public/cells", "3", Reference("public/cells", version=3)),
    ],
)
def test_a_version_is_a_number_an_alias_or_a_digest(model: str, version: str, reference: Reference) -> None:
    assert reference_of(model, version) == reference


@pytest.mark.parametrize(
    ("model", "version"),
    [("Cells", ""), ("", ""), ("cells", "0"), ("cells", "-1"), ("cells", "A"), ("cells", "sha256:0"), ("cells", "٣"),
     ("cells@3", "3"), ("cells:prod", "3"), ("cells,tiles", ""), ("cells", "1,2"), ("cells", "9" * 12)],
)  # fmt: skip
def test_anything_else_is_refused(model: str, version: str) -> None:
    with pytest.raises(RequestInvalid) as told:
        reference_of(model, version)
    assert told.value.code == "invalid_reference"
