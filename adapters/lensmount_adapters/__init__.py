"""Adapters on one frozen vision backbone: the adapter file, its admission, its deltas and the exact swap.

>>> backbone = load_backbone()                                        # doctest: +SKIP
>>> malaria = admit(Path("malaria.safetensors").read_bytes(), backbone)   # doctest: +SKIP
>>> ExactSwapper(backbone).mount(malaria)                             # doctest: +SKIP
>>> x = preprocess(decode_image(Path("cell.png").read_bytes()), malaria.manifest.preprocessing)   # doctest: +SKIP
>>> malaria.scores(backbone.features(x[None]))                        # doctest: +SKIP

Training needs the extra `train` and lives in `lensmount_adapters.training`.

Each name's module is imported when the name is first used. Most of these modules import torch, which takes seconds,
and `lensmount train --help` needs none of them.
"""

from typing import TYPE_CHECKING

from lensmount_adapters.lazy import lazy_names

if TYPE_CHECKING:
    from lensmount_adapters.adapter.adapter import Adapter
    from lensmount_adapters.adapter.admission import admit
    from lensmount_adapters.adapter.file import (
        AdapterFile,
        digest_of,
        dump_adapter,
        parse_adapter,
        write_adapter,
    )
    from lensmount_adapters.adapter.header import Limits
    from lensmount_adapters.adapter.manifest import Manifest
    from lensmount_adapters.backbone.fingerprint import fingerprint_of, tensor_digest
    from lensmount_adapters.backbone.inflate import VolumeBackbone, inflate
    from lensmount_adapters.backbone.load import DEFAULT_BACKBONE, load_backbone
    from lensmount_adapters.backbone.model import Backbone
    from lensmount_adapters.backbone.target import Layer, Target
    from lensmount_adapters.delta.kinds import Delta
    from lensmount_adapters.errors import LensmountError
    from lensmount_adapters.inputs.images import ImageLimits, decode_image, preprocess
    from lensmount_adapters.inputs.rules import Preprocessing
    from lensmount_adapters.swap.exact import ExactSwapper, Swapper
    from lensmount_adapters.swap.subtract import SubtractingSwapper

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

_NAMES = {  # repeats the imports above for the running program; a test compares the two
    "adapter.adapter": ["Adapter"],
    "adapter.admission": ["admit"],
    "adapter.file": ["AdapterFile", "digest_of", "dump_adapter", "parse_adapter", "write_adapter"],
    "adapter.header": ["Limits"],
    "adapter.manifest": ["Manifest"],
    "backbone.inflate": ["VolumeBackbone", "inflate"],
    "backbone.fingerprint": ["fingerprint_of", "tensor_digest"],
    "backbone.load": ["DEFAULT_BACKBONE", "load_backbone"],
    "backbone.model": ["Backbone"],
    "backbone.target": ["Layer", "Target"],
    "delta.kinds": ["Delta"],
    "errors": ["LensmountError"],
    "inputs.rules": ["Preprocessing"],
    "inputs.images": ["ImageLimits", "decode_image", "preprocess"],
    "swap.exact": ["ExactSwapper", "Swapper"],
    "swap.subtract": ["SubtractingSwapper"],
}

__getattr__, __dir__ = lazy_names(__name__, _NAMES)
