"""An error response becomes an exception of its class."""

from __future__ import annotations

import gc

import pytest
from tests.client.answers import refused

import lensmount_client
from lensmount_client import ProblemError, UnexpectedResponse
from lensmount_client._errors import CLASS_OF_CODE
from lensmount_client._http.problem import error_of

CONTRACT = {
    400: "bad_request duplicate_key multipart_malformed multipart_truncated",
    401: "unauthorized",
    403: "origin_not_allowed feedback_off image_not_kept scope_missing alias_protected public_read_only "
    "signature_invalid signature_key_unknown signature_required source_not_allowed",
    404: "not_found adapter_not_found version_not_found alias_not_found dataset_not_found job_not_found file_not_found "
    "rollout_not_found token_not_found",
    405: "method_not_allowed",
    406: "not_acceptable",
    408: "request_timeout",
    409: "backbone_mismatch dataset_in_use job_finished job_not_finished lease_lost upload_offset_mismatch gate_stale "
    "public_name_taken draft_would_replace",
    410: "version_deleted dataset_gone audit_gone",
    412: "precondition_failed",
    413: "body_too_large image_too_large adapter_too_large batch_too_large zip_too_large image_too_many_frames "
    "volume_too_large adapter_header_too_large adapter_too_many_tensors rank_too_large dataset_too_large",
    414: "uri_too_long",
    415: "unsupported_image_format unsupported_adapter_format unsupported_content_encoding unsupported_volume_format",
    421: "host_not_allowed",
    422: "image_empty image_truncated image_invalid invalid_name invalid_reference invalid_request adapter_malformed "
    "adapter_invalid adapter_not_finite adapter_unknown_target adapter_no_effect digest_mismatch missing_part "
    "expected_file duplicate_part idempotency_key_reuse dataset_invalid dataset_too_small dataset_unreadable "
    "draft_needs_images zip_bad_path zip_duplicate_name zip_encrypted zip_malformed zip_method_not_supported "
    "zip_overlap zip_size_mismatch zip_symlink unsupported_color_mode volume_empty volume_truncated volume_invalid "
    "adapter_empty empty_tensor unsupported_dtype adapter_incomplete adapter_shape_mismatch adapter_overflow "
    "adapter_norm_limit manifest_missing manifest_invalid head_missing head_mismatch preprocessing_mismatch "
    "trust_mismatch explanation_not_possible unknown_label "
    "rollout_invalid single_image_required too_many_regions token_exists training_failed export_not_possible "
    "export_unavailable source_unavailable",
    429: "queue_full jobs_full quota_exceeded",
    431: "headers_too_large",
    500: "internal_error",
    503: "draining swap_failed adapter_corrupt output_not_finite out_of_memory forward_failed store_unavailable "
    "dataset_corrupt integrity_violated overloaded identity_unavailable store_read_only "
    "adapter_quarantined adapter_untrusted device_lost",
    504: "deadline_exceeded",
    507: "storage_full",
}
ANOTHER_NAME = {(409, "job_cancelled"): "CancelRequested"}  # JobCancelled is what `Job.wait` raises
CODES = [(status, code) for status, codes in CONTRACT.items() for code in codes.split()]


@pytest.mark.parametrize(("status", "code"), CODES)
def test_each_code_of_the_contract_becomes_the_class_of_its_name(status: int, code: str) -> None:
    error = error_of(refused(status, {"code": code, "detail": "found x", "request_id": "r-9"}), 0.0)
    assert isinstance(error, ProblemError)
    assert type(error).__name__ == "".join(word.title() for word in code.split("_"))
    assert (error.code, error.status, error.request_id, str(error)) == (code, status, "r-9", "found x")


@pytest.mark.parametrize(("status", "code"), ANOTHER_NAME)
def test_a_code_whose_name_is_taken_becomes_a_class_of_another_name(status: int, code: str) -> None:
    error = error_of(refused(status, {"code": code}), 0.0)
    assert type(error).__name__ == ANOTHER_NAME[status, code]
    assert error.code == code


def test_the_table_holds_the_contract_and_nothing_else() -> None:
    assert set(CLASS_OF_CODE) == {code for _, code in [*CODES, *ANOTHER_NAME]}


@pytest.mark.parametrize(
    ("code", "parents"),
    [
        ("volume_empty", ["ImageEmpty", "ImageRejected", "Unprocessable"]),
        ("volume_invalid", ["ImageInvalid", "ImageRejected", "Unprocessable"]),
        ("volume_truncated", ["ImageTruncated", "ImageRejected", "Unprocessable"]),
        ("volume_too_large", ["ImageTooLarge", "TooLarge"]),
        ("unsupported_volume_format", ["UnsupportedImageFormat", "Unsupported"]),
        ("manifest_invalid", ["AdapterRejected", "Unprocessable"]),
        ("head_mismatch", ["AdapterRejected", "Unprocessable"]),
        ("preprocessing_mismatch", ["AdapterRejected", "Unprocessable"]),
        ("empty_tensor", ["AdapterMalformed", "AdapterRejected", "Unprocessable"]),
    ],
)
def test_the_class_for_an_image_or_an_adapter_catches_every_code_about_one(code: str, parents: list[str]) -> None:
    status = next(status for status, known in CODES if known == code)
    error = error_of(refused(status, {"code": code}), 0.0)
    assert [kind.__name__ for kind in type(error).__mro__[1:-5]] == parents


def test_a_subclass_that_a_caller_makes_takes_no_code_from_ours() -> None:
    class Mine(lensmount_client.QueueFull, code="queue_full", status=429):
        pass

    assert Mine.code == "queue_full"
    for code in ("queue_full", "brand_new"):
        assert not isinstance(error_of(refused(429, {"code": code}), 0.0), Mine)
    del Mine
    gc.collect()  # else the test of the public names finds it among the subclasses


@pytest.mark.parametrize(
    ("status", "code", "name"),
    [
        (422, "image_too_dark", "ImageRejected"),
        (422, "volume_too_dark", "ImageRejected"),
        (422, "adapter_too_odd", "AdapterRejected"),
        (422, "manifest_odd", "AdapterRejected"),
        (422, "head_odd", "AdapterRejected"),
        (422, "zip_odd", "DatasetRejected"),
        (422, "dataset_odd", "DatasetRejected"),
        (422, "brand_new", "Unprocessable"),
        (403, "brand_new", "Forbidden"),
        (414, "brand_new", "UriTooLong"),
        (418, "brand_new", "ProblemError"),
        (431, "brand_new", "HeadersTooLarge"),
        (500, "internal", "ServerFailed"),
        (599, "brand_new", "ServerFailed"),
        (799, "brand_new", "ServerFailed"),
    ],
)
def test_the_codes_of_a_newer_server_fall_back_by_prefix_and_status(status: int, code: str, name: str) -> None:
    assert type(error_of(refused(status, {"code": code}), 0.0)) is getattr(lensmount_client, name)


@pytest.mark.parametrize(
    "body",
    [b"<html>nginx</html>", b"", b"[]", b"null", b'{"detail": "Not Found"}', b'{"code": 5}', b"\xff\xfe", b"[" * 9999],
)
def test_the_response_of_a_proxy_is_an_error_by_its_status(body: bytes) -> None:
    error = error_of(refused(503, body=body, content_type="text/html", retry_after="3"), 0.0)
    assert isinstance(error, lensmount_client.Unavailable)
    assert (error.code, error.retry_after_s) == ("http_503", 3.0)
    assert "text/html" in str(error)
    assert "proxy" in str(error)


def test_a_redirect_is_not_followed_and_says_where_to() -> None:
    error = error_of(refused(307, body=b"", location="https://elsewhere/"), 0.0)
    assert isinstance(error, UnexpectedResponse)
    assert "https://elsewhere/" in str(error)


@pytest.mark.parametrize("value", [-1, "5", True, None, [], float("nan"), float("inf"), 10**400])
def test_a_hostile_retry_after_in_the_body_is_ignored(value: object) -> None:
    error = error_of(refused(429, {"code": "queue_full", "retry_after_s": value}), 0.0)
    assert isinstance(error, ProblemError)
    assert error.retry_after_s is None


def test_the_header_takes_precedence_over_the_body() -> None:
    error = error_of(refused(429, {"code": "queue_full", "retry_after_s": 9}, retry_after="2"), 0.0)
    assert isinstance(error, ProblemError)
    assert error.retry_after_s == 2.0


def test_odd_fields_of_a_problem_are_dropped_not_raised() -> None:
    document = {"code": "invalid_request", "title": 5, "detail": [], "errors": "x", "limit": 3, "request_id": {}}
    error = error_of(refused(422, document, x_request_id="r-3"), 0.0)
    assert isinstance(error, ProblemError)
    assert (error.problem.errors, error.problem.limit, error.request_id) == ((), {}, "r-3")
    assert str(error) == "Unprocessable Entity"


def test_other_members_of_a_problem_are_kept() -> None:
    error = error_of(refused(409, {"code": "upload_offset_mismatch", "received": 7, "title": "x"}), 0.0)
    assert isinstance(error, lensmount_client.UploadOffsetMismatch)
    assert (error.received, dict(error.problem.more)) == (7, {"received": 7})
    odd = error_of(refused(409, {"code": "upload_offset_mismatch", "received": True}), 0.0)
    assert isinstance(odd, lensmount_client.UploadOffsetMismatch)
    assert odd.received is None
