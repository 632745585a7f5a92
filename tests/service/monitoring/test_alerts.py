"""Alert rules and dashboard: each fault fires its own alert and no other, and every metric they name is there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from fastapi.testclient import TestClient

from lensmount_adapters import dump_adapter, parse_adapter
from lensmount_service.metrics import MIN_DRIFT_IMAGES

if TYPE_CHECKING:
    from tests.service.conftest import MakePng, MakeTrusted

FOLDER = Path(__file__).parents[3] / "deploy" / "monitoring"
RULES = FOLDER / "alerts.yml"
ALERTS = [rule["alert"] for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]

# One value each minute for half an hour, of a server that is well and busy
WELL = {
    "up": "1x30",
    "lensmount_restore_mismatch_total": "0x30",
    "lensmount_queue_length": "3x30",
    "lensmount_batch_size_count": "0+60x30",
    'lensmount_refusals_total{code="internal_error",status="500"}': "0x30",
    'lensmount_refusals_total{code="draining",status="503"}': "0+20x30",  # probes during a start
    'lensmount_refusals_total{code="queue_full",status="429"}': "0+100x30",
    'lensmount_calibration_drift{adapter="cells"}': "-0.02x30",
    "lensmount_quarantined_adapters": "0x30",
    'lensmount_rollbacks_total{rule="errors"}': "0x30",
    "lensmount_store_readable": "1x30",
    "lensmount_store_degraded": "0x30",
    "lensmount_disk_free_bytes": "500x30",
    "lensmount_disk_size_bytes": "1000x30",
    'lensmount_jobs{state="queued"}': "2x30",
    "lensmount_workers": "1x30",
}

FAULTS: dict[str, dict[str, str]] = {
    "LensmountDown": {"up": "1 1 0x28"},
    "LensmountRestoreMismatch": {"lensmount_restore_mismatch_total": "0x20 1x10"},
    "LensmountQueueStalled": {"lensmount_batch_size_count": "0+60x20 1200x10"},
    "LensmountServerErrors": {'lensmount_refusals_total{code="internal_error",status="500"}': "0x27 20 20 20"},
    "LensmountCalibrationDrift": {'lensmount_calibration_drift{adapter="cells"}': "-0.02x5 -0.2x25"},
    "LensmountAdapterQuarantined": {"lensmount_quarantined_adapters": "0x20 1x10"},
    "LensmountRolloutTakenBack": {'lensmount_rollbacks_total{rule="errors"}': "0x20 1x10"},
    "LensmountStoreUnreadable": {"lensmount_store_readable": "1x20 0x10"},
    "LensmountStoreDegraded": {"lensmount_store_degraded": "0x20 1x10"},
    "LensmountDiskNearlyFull": {"lensmount_disk_free_bytes": "500x20 50x10"},
    "LensmountWorkerGone": {"lensmount_workers": "1x20 0x10"},
}


@pytest.fixture(scope="module")
def promtool() -> str:
    path = shutil.which("promtool")
    if path is None:
        pytest.skip("promtool is not installed (apt-get install prometheus)")
    return path


def with_server(series: str) -> str:
    """A series with the labels that Prometheus adds to each."""
    name, _, labels = series.removesuffix("}").partition("{")
    more = (
        [*labels.split(","), 'job="lensmount"', 'instance="a:8000"']
        if labels
        else ['job="lensmount"', 'instance="a:8000"']
    )
    return f"{name}{{{','.join(more)}}}"


def fired(promtool: str, folder: Path, series: dict[str, str]) -> set[str]:
    """The alerts that fire after half an hour of these series: for each, promtool is told that it does not fire."""
    tests = [
        {
            "interval": "1m",
            "input_series": [{"series": with_server(name), "values": values} for name, values in series.items()],
            "alert_rule_test": [{"eval_time": "29m", "alertname": alert, "exp_alerts": []} for alert in ALERTS],
        }
    ]
    file = folder / "test.yml"
    file.write_text(json.dumps({"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": tests}))
    done = subprocess.run([promtool, "test", "rules", str(file)], capture_output=True, text=True, timeout=60)
    printed = done.stdout + done.stderr
    found = set(re.findall(r"alertname:\s*(\w+)", printed))
    assert (done.returncode == 0) == (not found), printed
    return found


def test_a_server_that_is_well_and_busy_fires_nothing(promtool: str, tmp_path: Path) -> None:
    assert fired(promtool, tmp_path, WELL) == set()


@pytest.mark.parametrize("alert", ALERTS)
def test_each_fault_fires_its_alert_and_no_other(promtool: str, tmp_path: Path, alert: str) -> None:
    assert FAULTS[alert].keys() <= WELL.keys()
    assert fired(promtool, tmp_path, WELL | FAULTS[alert]) == {alert}


def test_promtool_accepts_the_rules_and_the_configuration(promtool: str) -> None:
    for command in (
        ["check", "rules", str(RULES)],
        ["check", "config", "--syntax-only", str(FOLDER / "prometheus.yml")],
    ):
        done = subprocess.run([promtool, *command], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module")
def page(shared_client: TestClient, make_trusted: MakeTrusted, make_png: MakePng) -> str:
    """/metrics of a server that answered enough images of an adapter with trust."""
    file = parse_adapter(make_trusted())
    training = {"metrics": {"test": {"accuracy": 0.9}}}
    data = dump_adapter(file.manifest.model_copy(update={"training": training}), file.tensors)
    shared_client.put("/adapters/sure", content=data).raise_for_status()
    for _ in range(MIN_DRIFT_IMAGES // 20):
        images = [("file", make_png())] * 20
        shared_client.post("/predict?adapter=sure", files=images).raise_for_status()
    return shared_client.get("/metrics").text


def test_promtool_accepts_the_metrics_of_a_server(promtool: str, page: str) -> None:
    done = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def expressions(document: Any) -> list[str]:
    """Every `expr` and `query` of a dashboard or a file of rules."""
    if isinstance(document, list):
        return [found for each in document for found in expressions(each)]
    if not isinstance(document, dict):
        return []
    own = [value for key, value in document.items() if key in ("expr", "query") and isinstance(value, str)]
    return own + [found for value in document.values() for found in expressions(value)]


def test_every_metric_of_rules_and_dashboard_is_in_the_page_of_a_server(page: str) -> None:
    there = set(re.findall(r"^(\w+)[{ ]", page, re.MULTILINE)) | {"up"}  # Prometheus makes `up` itself
    for name, least in ((RULES, 10), (FOLDER / "grafana" / "lensmount.json", 20)):
        found = [each for each in expressions(yaml.safe_load(name.read_text())) if each != "prometheus"]
        assert len(found) >= least
        for expression in found:
            named = set(re.findall(r"\b(lensmount_\w+|up)\b", re.sub(r'"[^"]*"', "", expression)))
            assert named, expression
            assert named <= there, expression


def test_promtool_accepts_every_expression_of_the_dashboard(promtool: str, tmp_path: Path) -> None:
    panels = json.loads((FOLDER / "grafana" / "lensmount.json").read_text())["panels"]
    found = [target["expr"].replace("$instance", ".*") for panel in panels for target in panel["targets"]]
    rules = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(found)]
    file = tmp_path / "rules.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": rules}]}))
    done = subprocess.run([promtool, "check", "rules", str(file)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_docs_say_what_to_do_about_each_alert() -> None:
    text = (FOLDER.parents[1] / "docs" / "operating.md").read_text()
    assert [alert for alert in ALERTS if f"`{alert}`" not in text] == []
