"""Adapters on one frozen vision backbone: the file, its admission, the deltas, exact swap.

>>> backbone = load_backbone()                                        # doctest: +SKIP
>>> malaria = admit(Path("malaria.safetensors").read_bytes(), backbone)   # doctest: +SKIP
>>> ExactSwapper(backbone).mount(malaria)                             # doctest: +SKIP
>>> x = preprocess(decode_image(Path("cell.png").read_bytes()), malaria.manifest.preprocessing)   # doctest: +SKIP
>>> malaria.scores(backbone.features(x[None]))                        # doctest: +SKIP

Training needs the extra `train` and lives in `lensmount_adapters.training`.

A name's module is imported when the name is first used: most of them import torch, which takes seconds, and
`lensmount train --help` needs none of them.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lensmount_adapters.adapter import Adapter
    from lensmount_adapters.admission import admit
    from lensmount_adapters.backbone import DEFAULT_BACKBONE, Backbone, fingerprint_of, load_backbone, tensor_digest
    from lensmount_adapters.delta import Delta, Layer, Target
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.files import AdapterFile, digest_of, dump_adapter, parse_adapter, write_adapter
    from lensmount_adapters.header import Limits
    from lensmount_adapters.images import ImageLimits, decode_image, preprocess
    from lensmount_adapters.inflate import VolumeBackbone, inflate
    from lensmount_adapters.manifest import Manifest, Preprocessing
    from lensmount_adapters.subtract import SubtractingSwapper
    from lensmount_adapters.swap import ExactSwapper, Swapper

__all__ = [
    "DEFAULT_BACKBONE",
    "Adapter",
    "AdapterFile",
    "Backbone",
    "Delta",
    "ExactSwapper",
    "ImageLimits",
    "Layer",
    "LensmountError",
    "Limits",
    "Manifest",
    "Preprocessing",
    "SubtractingSwapper",
    "Swapper",
    "Target",
    "VolumeBackbone",
    "admit",
    "decode_image",
    "digest_of",
    "dump_adapter",
    "fingerprint_of",
    "inflate",
    "load_backbone",
    "parse_adapter",
    "preprocess",
    "tensor_digest",
    "write_adapter",
]

_MODULE_OF = {  # the imports above once more, for Python; a test compares the two
    name: module
    for module, names in {
        "adapter": ["Adapter"],
        "admission": ["admit"],
        "backbone": ["DEFAULT_BACKBONE", "Backbone", "fingerprint_of", "load_backbone", "tensor_digest"],
        "delta": ["Delta", "Layer", "Target"],
        "errors": ["LensmountError"],
        "files": ["AdapterFile", "digest_of", "dump_adapter", "parse_adapter", "write_adapter"],
        "header": ["Limits"],
        "images": ["ImageLimits", "decode_image", "preprocess"],
        "inflate": ["VolumeBackbone", "inflate"],
        "manifest": ["Manifest", "Preprocessing"],
        "subtract": ["SubtractingSwapper"],
        "swap": ["ExactSwapper", "Swapper"],
    }.items()
    for name in names
}

if not TYPE_CHECKING:  # else mypy would take any name for one of this package

    def __getattr__(name: str) -> object:
        """PEP 562: a public name, or the module of one, is imported when it is first used."""
        if name in _MODULE_OF:
            value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        elif name in _MODULE_OF.values():
            value = import_module(f"{__name__}.{name}")
        else:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *_MODULE_OF, *_MODULE_OF.values()})

    class _Package(ModuleType):
        """`inflate` is a function and the name of its module: importing the module must not hide the function."""

        def __setattr__(self, name: str, value: object) -> None:
            if isinstance(value, ModuleType) and name in _MODULE_OF:
                value = getattr(value, name)
            super().__setattr__(name, value)

    sys.modules[__name__].__class__ = _Package
