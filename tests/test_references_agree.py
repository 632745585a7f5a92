"""The client and the server take the same texts for references and names, and read the same out of them."""

from __future__ import annotations

from typing import Any

import pytest

import lensmount_client
from lensmount_adapters.adapter.manifest import RESERVED_NAMES, check_name
from lensmount_client._api import jobs as _calls_jobs
from lensmount_client._reference import NAME
from lensmount_client._reference import Reference as ClientReference
from lensmount_service import errors as service
from lensmount_service.store.references import Reference as ServerReference
from lensmount_service.web import job_schemas

DIGEST = "sha256:" + "0a" * 32
REFERENCES = {
    "malaria": ("malaria", None, None, None),
    "9.a_b-c": ("9.a_b-c", None, None, None),
    "a" * 64: ("a" * 64, None, None, None),
    "malaria@3": ("malaria", 3, None, None),
    "malaria@999999999": ("malaria", 999_999_999, None, None),
    f"malaria@{DIGEST}": ("malaria", None, DIGEST, None),
    "malaria:prod": ("malaria", None, None, "prod"),
    "malaria:3": ("malaria", None, None, "3"),
    "public/malaria": ("public/malaria", None, None, None),
    "public/malaria@3": ("public/malaria", 3, None, None),
    "public/malaria:prod": ("public/malaria", None, None, "prod"),
    f"public/malaria@{DIGEST}": ("public/malaria", None, DIGEST, None),
    "latest": ("latest", None, None, None),  # may name no adapter, so there is none: adapter_not_found
}
NO_REFERENCES = [
    *("", " ", "Malaria", "a/b", "../x", ".x", "-x", "_x", "a b", "a\n", "\na", "a?x=1", "a" * 65, "a,b", "с"),  # noqa: RUF001  # the last is Cyrillic
    *("public/", "public//a", "public/public/a", "lab1/a", "/a", "a:public/b", "public/A"),
    *("a@", "a@0", "a@03", "a@-1", "a@+1", "a@1.0", "a@1234567890", "a@٣", "a@latest", "@1", "a@1@2", "a@1:b"),
    *("a@sha256:00", f"a@{DIGEST.upper()}", f"a@{DIGEST}0", f"a@{DIGEST}\n", f"a@md5:{'0' * 32}", f"a:{DIGEST}"),
    *("a:", ":a", "a:B", "a:b:c", "a:b@1", "a:.b", "a:" + "b" * 65, "a\x00", "a@1\x00"),
]


@pytest.mark.parametrize("text", REFERENCES)
def test_a_reference_means_the_same_to_both(text: str) -> None:
    for parser in (ClientReference, ServerReference):
        found = parser.parse(text)
        assert (found.name, found.version, found.digest, found.alias) == REFERENCES[text], parser


@pytest.mark.parametrize("text", NO_REFERENCES)
def test_what_is_no_reference_is_none_to_both(text: Any) -> None:
    with pytest.raises(lensmount_client.InvalidInput):
        ClientReference.parse(text)
    with pytest.raises(service.RequestInvalid) as refused:
        ServerReference.parse(text)
    assert refused.value.code == "invalid_reference"


@pytest.mark.parametrize(
    "name", ["a", "9.a_b-c", "a" * 64, "", "A", "a" * 65, ".a", "a\n", "a/b", "é", *sorted(RESERVED_NAMES)]
)
def test_a_name_is_a_name_to_both_but_for_the_reserved_ones(name: Any) -> None:
    assert check_name(name) == (NAME.fullmatch(name) is not None and name not in RESERVED_NAMES)


@pytest.mark.parametrize(
    ("text", "reference"),
    [
        ("cells", ("cells", None)),
        ("cells@2", ("cells", 2)),
        ("cells@999999999", ("cells", 999_999_999)),
        *((text, None) for text in ("", "Cells", "cells@", "cells@0", "cells@02", "cells@1234567890", "cells:prod")),
        *((text, None) for text in (f"cells@{DIGEST}", "cells@1\n", "cells\n", "a/b", "c" * 65)),
    ],
)
def test_a_dataset_reference_means_the_same_to_both(text: Any, reference: Any) -> None:
    submission = job_schemas.JobSubmission.model_construct(dataset=text)
    if reference is None:
        with pytest.raises(lensmount_client.InvalidInput):
            _calls_jobs.checked_dataset(text)
        with pytest.raises(service.RequestInvalid):
            submission.dataset_reference()
    else:
        assert _calls_jobs.checked_dataset(text) == text
        assert submission.dataset_reference() == reference
