"""The extras: which are installed, with their versions, and how to install the others."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, packages_distributions, version

from lensmount_client._cli.extras import MODULES, is_installed
from lensmount_client._doctor.finding import Finding

PURPOSES = {  # what each extra is for; a test compares the names with those of pyproject.toml
    "torch": "adapters as a library",
    "train": "training on this machine",
    "serve": "a server on this machine",
    "openvino": "fast answers on CPUs",
    "int8": "faster answers on CPUs, by a trunk in int8",
    "onnx": "export to ONNX",
    "onnxruntime": "fast answers on CPUs without OpenVINO",
    "llvm": "faster merging of adapters",
    "postgres": "a database for several servers",
    "s3": "adapter files in S3, Google Cloud or Azure",
    "grpc": "the Open Inference Protocol over gRPC",
    "otel": "traces",
    "ray": "several engines behind one door, on Ray",
    "oidc": "tokens of an identity provider",
    "signing": "signatures of adapters",
    "lite": "weights of EfficientNet-Lite1 and -Lite2",
    "clip": "CLIP and PLIP",
    "monai": "MONAI's networks for masks",
    "heif": "HEIC photos",
    "dicom": "DICOM files",
    "volumes": "NIfTI and multi-page TIFF",
    "parquet": "results of `lensmount batch` as Parquet",
}


def packages(installed: Callable[[str], bool] = is_installed) -> list[Finding]:
    """One finding per extra. Imports none of the packages."""
    distributions = packages_distributions()
    findings = []
    for extra, modules in MODULES.items():
        missing = [name for name in modules if not installed(name)]
        if missing:
            found = f"not installed, for {PURPOSES[extra]} (no {', '.join(missing)})"
            findings.append(Finding(extra, "note", found, f'pip install "lensmount[{extra}]"'))
        else:
            names = dict.fromkeys(distributions.get(module, [module])[0] for module in modules)
            findings.append(Finding(extra, "ok", ", ".join(f"{name} {_version(name)}".strip() for name in names)))
    return findings


def _version(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return ""
