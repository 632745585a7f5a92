"""The manifests of deploy/kubernetes fit the schemas of Kubernetes and what the server does."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from lensmount_service.access.policy import POLICY
from lensmount_service.app import PROBES
from lensmount_service.metrics import Metrics
from lensmount_service.server import LAST_S
from lensmount_service.settings import Settings

FOLDER = Path(__file__).parent.parent / "deploy" / "kubernetes"
VERSIONS = ("1.32", kubernetes_validate.latest_version())
KUSTOMIZATIONS = sorted(FOLDER.glob("*/kustomization.yaml"))
Document = dict[str, Any]


def documents(folder: str) -> dict[str, Document]:
    """By file, without the kustomization."""
    files = sorted(path for path in (FOLDER / folder).glob("*.yaml") if path.name != "kustomization.yaml")
    return {path.name: yaml.safe_load(path.read_text()) for path in files}


def patched(base: Any, patch: Any) -> Any:
    """A strategic merge, as far as the patches here need it: lists with names are merged by name."""
    if isinstance(base, dict) and isinstance(patch, dict):
        merged = {key: patched(base[key], value) if key in base else value for key, value in patch.items()}
        return base | merged
    if isinstance(base, list) and base and isinstance(base[0], dict) and "name" in base[0]:
        by_name = {each["name"]: each for each in base}
        for each in patch:
            by_name[each["name"]] = patched(by_name.get(each["name"], {}), each)
        return list(by_name.values())
    return deepcopy(patch)


def whole() -> Iterator[tuple[str, Document]]:
    """Every object that a cluster of no further kinds would get."""
    for folder in ("fleet", "one"):
        yield from ((f"{folder}/{name}", found) for name, found in documents(folder).items())
    gpu = patched(documents("fleet")["deployment.yaml"], documents("gpu")["deployment.yaml"])
    yield "gpu/deployment.yaml", gpu
    runtime = documents("kserve")["servingruntime.yaml"]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "lensmount"}}
    yield "kserve/servingruntime.yaml", pod | {"spec": {key: runtime["spec"][key] for key in ("containers", "volumes")}}


OBJECTS = dict(whole())
PODS = {name: found for name, found in OBJECTS.items() if found["kind"] in ("Deployment", "StatefulSet", "Pod")}


def spec_of(found: Document) -> Document:
    spec: Document = found["spec"] if found["kind"] == "Pod" else found["spec"]["template"]["spec"]
    return spec


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_each_object_fits_the_strict_schema_of_its_kind(name: str, version: str) -> None:
    kubernetes_validate.validate(OBJECTS[name], version, strict=True)


def test_the_schemas_refuse_a_word_that_kubernetes_does_not_know() -> None:
    wrong = deepcopy(OBJECTS["fleet/deployment.yaml"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError, match="readynessProbe"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)


@pytest.mark.parametrize("path", KUSTOMIZATIONS, ids=lambda path: path.parent.name)
def test_a_kustomization_names_each_file_of_its_folder(path: Path) -> None:
    found = yaml.safe_load(path.read_text())
    named = {*found["resources"], *(patch["path"] for patch in found.get("patches", []))}
    assert all((path.parent / name).exists() for name in named)
    assert {file.name for file in path.parent.glob("*.yaml")} - {path.name} == {n for n in named if n.endswith(".yaml")}


@pytest.mark.parametrize("name", PODS)
def test_probes_ask_routes_that_need_no_token_on_the_port_that_is_served(name: str) -> None:
    (container,) = spec_of(PODS[name])["containers"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    args = container["args"]
    served = int(args[args.index("--port") + 1]) if "--port" in args else 8000
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = container[probe]["httpGet"]
        assert ports.get(asked["port"], asked["port"]) == served
        assert asked["path"] in PROBES
        assert ("GET", asked["path"]) not in POLICY
        assert asked["path"].rpartition("/")[2] == ("live" if probe == "livenessProbe" else "ready")
    assert container["startupProbe"]["periodSeconds"] * container["startupProbe"]["failureThreshold"] >= 300


@pytest.mark.parametrize("name", [name for name in PODS if not name.startswith("kserve")])
def test_a_pod_has_the_time_to_be_forgotten_by_the_service_and_to_finish_what_it_accepted(name: str) -> None:
    spec = spec_of(PODS[name])
    pause_s = spec["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    drain_s = Settings.model_fields["drain_timeout_s"].default
    assert pause_s >= 2 * spec["containers"][0]["readinessProbe"]["periodSeconds"]
    assert spec["terminationGracePeriodSeconds"] >= pause_s + drain_s + LAST_S


def test_kserve_gives_the_server_the_same_time_and_finds_its_runtime() -> None:
    found = documents("kserve")
    runtime, service = found["servingruntime.yaml"], found["inferenceservice.yaml"]["spec"]["predictor"]
    pause_s = runtime["spec"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert (
        service["terminationGracePeriodSeconds"] >= pause_s + Settings.model_fields["drain_timeout_s"].default + LAST_S
    )
    assert service["model"]["runtime"] == runtime["metadata"]["name"]
    assert service["model"]["modelFormat"]["name"] == runtime["spec"]["supportedModelFormats"][0]["name"]
    assert service["model"]["protocolVersion"] in runtime["spec"]["protocolVersions"]
    assert runtime["spec"]["containers"][0]["name"] == "kserve-container"  # the name that KServe looks for


@pytest.mark.parametrize("name", PODS)
def test_a_pod_runs_without_root_and_writes_only_into_its_volumes(name: str) -> None:
    spec = spec_of(PODS[name])
    (container,) = spec["containers"]
    context = spec.get("securityContext", {}) | container["securityContext"]
    assert context["runAsNonRoot"] is True
    assert context["runAsUser"] == 1000  # the first user that useradd makes in the image
    assert context["readOnlyRootFilesystem"] is True
    assert context["allowPrivilegeEscalation"] is False
    assert context["capabilities"] == {"drop": ["ALL"]}
    volumes = {volume["name"] for volume in spec["volumes"]}
    volumes |= {claim["metadata"]["name"] for claim in PODS[name]["spec"].get("volumeClaimTemplates", [])}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/state", "/tmp"}
    assert {mount["name"] for mount in container["volumeMounts"]} == volumes


@pytest.mark.parametrize("name", PODS)
def test_secrets_come_from_the_secret_and_each_variable_is_a_setting(name: str) -> None:
    (container,) = spec_of(PODS[name])["containers"]
    for variable in container["env"]:
        assert variable["valueFrom"]["secretKeyRef"]["name"] == "lensmount"
    variables = {variable["name"] for variable in container["env"]}
    variables |= set(documents("fleet")["configmap.yaml"]["data"])
    settings = {f"LENSMOUNT_{field.upper()}" for field in Settings.model_fields}
    assert {each for each in variables if not each.startswith("AWS_")} <= settings


def test_what_is_scaled_and_kept_available_is_the_fleet_by_a_metric_that_it_exports() -> None:
    fleet = documents("fleet")
    deployment, scaler = fleet["deployment.yaml"], fleet["horizontalpodautoscaler.yaml"]["spec"]
    labels = deployment["spec"]["selector"]["matchLabels"]
    assert fleet["poddisruptionbudget.yaml"]["spec"]["selector"]["matchLabels"] == labels
    assert fleet["service.yaml"]["spec"]["selector"] == labels == deployment["spec"]["template"]["metadata"]["labels"]
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert scaler["minReplicas"] == deployment["spec"]["replicas"] == 2
    exported = {family.name for family in Metrics("0", "resnet", "sha256:0").registry.collect()}
    assert {metric["pods"]["metric"]["name"] for metric in scaler["metrics"]} <= exported
