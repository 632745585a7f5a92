from __future__ import annotations

import pytest

pytest.importorskip("google.protobuf", reason='needs protobuf: pip install "lensmount[grpc]"')

from lensmount_service.access.policy import POLICY
from lensmount_service.oip.servicer import IN_STREAMS, NEEDS, WRITES


def test_only_what_changes_nothing_needs_no_scope() -> None:
    """What each method answers is in test_grpc_server.py, with the clients that ask."""
    assert {method for method in NEEDS if NEEDS[method] is None} == {"ServerLive", "ServerReady"}
    assert {method for method in NEEDS if NEEDS[method] == "predict"} == {"ModelInfer", IN_STREAMS}
    assert {method for method in NEEDS if NEEDS[method] == "upload"} == WRITES
    assert set(NEEDS.values()) <= {None, "any", "predict", "upload"}


def test_a_method_needs_what_its_twin_over_http_needs() -> None:
    assert NEEDS["ModelInfer"] == POLICY["POST", "/v2/models/{name}/infer"] == POLICY["POST", "/predict"]
    assert NEEDS["RepositoryModelUnload"] == POLICY["DELETE", "/adapters/{name}"]
