"""The adapters of a job that labels a dataset are versions from the start to the end."""

from __future__ import annotations

from dataclasses import asdict

from lensmount_service.routes.archives.request import Asked, adapters_of
from lensmount_service.store.references import Reference


def test_the_adapters_of_a_queued_job_are_read_back() -> None:
    asked = [Asked("cells:prod", "cells", 2, "sha256:2"), Asked("public/tiles", "public/tiles", 1, "sha256:1")]
    assert adapters_of({"adapters": [asdict(each) for each in asked]}) == asked
    assert [each.reference for each in asked] == [Reference("cells", 2), Reference("public/tiles", 1)]
