"""What /metrics says of a real server: refusals, queues, jobs, the store and the disk."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import sqlalchemy as sa
from fastapi.testclient import TestClient

from lensmount_adapters import dump_adapter, parse_adapter
from lensmount_service.jobs.records import STATES
from lensmount_service.metrics import MIN_DRIFT_IMAGES

if TYPE_CHECKING:
    from tests.service.conftest import MakeParts, MakePng, MakeTrusted


def value(client: TestClient, series: str) -> float:
    """The value of one series of the page, for example `lensmount_jobs{state="queued"}`."""
    (found,) = re.findall(rf"^{re.escape(series)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found)


def refusals(client: TestClient) -> dict[str, float]:
    """The counts of refusals by code that are not 0."""
    found = re.findall(
        r'^lensmount_refusals_total\{code="(\w+)",status="\d+"\} (\S+)$', client.get("/metrics").text, re.M
    )
    return {code: float(count) for code, count in found if float(count)}


def test_every_refusal_is_counted_by_its_code_whatever_answered_it(
    shared_client: TestClient, make_png: MakePng
) -> None:
    before = refusals(shared_client)
    asked: list[tuple[str, str, dict[str, Any], str]] = [
        ("POST", "/predict?adapter=nothing", {"content": make_png()}, "adapter_not_found"),
        ("POST", "/predict?adapter=cells", {"content": b"no image"}, "unsupported_format"),
        ("POST", "/v2/models/cells/infer", {"content": b"{"}, "bad_request"),
        ("GET", "/nothing", {}, "not_found"),
        ("PATCH", "/predict", {}, "method_not_allowed"),
        ("GET", "/adapters/" + "a" * 5000, {}, "uri_too_long"),  # of the middleware
        ("POST", "/predict?adapter=cells", {"headers": {"Host": "evil.example"}}, "host_not_allowed"),
    ]
    expected = dict(before)
    for method, path, more, _ in asked:
        code = shared_client.request(method, path, **more).json()["code"]
        expected[code] = expected.get(code, 0) + 1
    assert refusals(shared_client) == expected
    assert sum(expected.values()) == sum(before.values()) + len(asked)
    assert {"adapter_not_found", "not_found", "method_not_allowed", "uri_too_long", "host_not_allowed"} <= set(expected)


def test_what_waits_and_what_is_free_is_told(shared_client: TestClient, tmp_path: Any) -> None:
    assert value(shared_client, "lensmount_queue_length") == 0
    assert [value(shared_client, f'lensmount_jobs{{state="{state}"}}') for state in STATES] == [0] * 5
    assert value(shared_client, "lensmount_workers") == 0
    assert value(shared_client, "lensmount_store_readable") == 1
    assert value(shared_client, "lensmount_store_degraded") == 0
    assert value(shared_client, "lensmount_disk_size_bytes") == shutil.disk_usage(tmp_path).total


def test_images_that_wait_for_the_engine_are_the_length_of_the_queue(
    shared_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = shared_client.app.state.context.engine  # type: ignore[attr-defined]
    monkeypatch.setattr(type(engine), "waiting", 7)
    assert value(shared_client, "lensmount_queue_length") == 7


def test_a_database_that_cannot_be_read_is_told_and_the_page_is_still_answered(make_parts: MakeParts) -> None:
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        with parts.training.jobs.database.write() as connection:
            connection.exec_driver_sql("DROP TABLE jobs")
        assert value(client, "lensmount_store_readable") == 0


def test_no_manifest_is_read_for_the_page_however_many_adapters_there_are(shared_client: TestClient) -> None:
    read: list[str] = []

    def note(*arguments: Any) -> None:
        read.append(arguments[2])

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        shared_client.get("/metrics").raise_for_status()
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert read
    assert [statement for statement in read if "manifest" in statement] == []


def test_answers_of_a_calibrated_adapter_show_how_far_its_scores_have_drifted(
    make_parts: MakeParts, make_trusted: MakeTrusted, make_png: MakePng
) -> None:
    accuracy, file = 0.99, parse_adapter(make_trusted())
    training = {"metrics": {"test": {"accuracy": accuracy}}}
    data = dump_adapter(file.manifest.model_copy(update={"training": training}), file.tensors)
    with make_parts() as parts, TestClient(parts.app, base_url="http://127.0.0.1") as client:
        client.put("/adapters/sure", content=data).raise_for_status()
        top_scores = []
        for start in range(0, MIN_DRIFT_IMAGES, 10):
            images = [("file", make_png(seed)) for seed in range(start, start + 10)]
            results = client.post("/predict?adapter=sure", files=images).json()["results"]
            top_scores += [result["trust"]["confidence"] for result in results]
        drift = value(client, 'lensmount_calibration_drift{adapter="sure"}')
    assert drift == pytest.approx(sum(top_scores) / len(top_scores) - accuracy, abs=1e-6)


def test_until_somebody_writes_no_row_of_an_adapter_is_read_again(
    shared_client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared_client.get("/metrics").raise_for_status()
    rows: list[int] = []
    looked: list[str] = []
    catalog = shared_client.app.state.context.catalog  # type: ignore[attr-defined]
    tier = type(catalog).tier_in_memory

    def look(self: Any, digest: str) -> str:
        looked.append(digest)
        return str(tier(self, digest))

    monkeypatch.setattr(type(catalog), "tier_in_memory", look)

    def note(connection: Any, cursor: Any, statement: str, *_: Any) -> None:
        if "FROM versions" in statement and "LIMIT" not in statement:
            rows.append(1)

    sa.event.listen(sa.Engine, "before_cursor_execute", note)
    try:
        page = shared_client.get("/metrics").text
    finally:
        sa.event.remove(sa.Engine, "before_cursor_execute", note)
    assert rows == []
    assert len(looked) == len(set(looked)) == 2  # those in memory
    assert 'lensmount_adapter_resident{adapter="cells",pinned="false",tier="memory"}' in page
