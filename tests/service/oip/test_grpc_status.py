from __future__ import annotations

import pytest

pytest.importorskip("grpc", reason='needs gRPC: pip install "lensmount[grpc]"')

import grpc

from lensmount_service.errors import NotFound, QueueFull, Unavailable, Unusable
from lensmount_service.oip.grpc_status import MOST_DETAIL, OF_HTTP, refusal_of
from lensmount_service.web.problems import CODES, NEVER_SENT


def test_every_status_of_an_error_has_one_of_grpc() -> None:
    statuses = {CODES[code] for code in CODES.keys() - NEVER_SENT}
    assert statuses - OF_HTTP.keys() == {405, 408, 414, 431, 500}  # of heads and paths, which gRPC has not; bugs


def test_a_refusal_has_the_code_in_its_details_and_its_metadata() -> None:
    refusal = refusal_of(NotFound("found nothing", code="adapter_not_found"), "r1")
    assert (refusal.status, refusal.http_status) == (grpc.StatusCode.NOT_FOUND, 404)
    assert refusal.details == "adapter_not_found: found nothing"
    assert dict(refusal.metadata) == {"lensmount-code": "adapter_not_found", "x-request-id": "r1"}


def test_what_may_be_tried_again_says_when_and_what_lasts_is_no_unavailable() -> None:
    assert dict(refusal_of(QueueFull("full", retry_after_s=3), "r").metadata)["retry-after"] == "3"
    assert dict(refusal_of(Unavailable("away"), "r").metadata)["retry-after"] == "1"
    lasting = refusal_of(Unusable("broken"), "r")
    assert lasting.status == grpc.StatusCode.FAILED_PRECONDITION
    assert "retry-after" not in dict(lasting.metadata)


def test_an_error_of_no_kind_of_ours_tells_nothing_of_itself() -> None:
    refusal = refusal_of(KeyError("secret"), "r")
    assert refusal.status == grpc.StatusCode.INTERNAL
    assert "secret" not in refusal.details
    assert refusal_of(MemoryError(), "r").details.startswith("out_of_memory: ")


def test_long_details_are_cut_to_what_the_headers_of_an_answer_have_room_for() -> None:
    assert len(refusal_of(NotFound("x" * 100_000), "r").details) == MOST_DETAIL
