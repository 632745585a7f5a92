"""Adapters on one frozen vision backbone: the file, its admission, the deltas, exact swap.

>>> backbone = load_backbone()                                        # doctest: +SKIP
>>> malaria = admit(Path("malaria.safetensors").read_bytes(), backbone)   # doctest: +SKIP
>>> ExactSwapper(backbone).mount(malaria)                             # doctest: +SKIP
>>> x = preprocess(decode_image(Path("cell.png").read_bytes()), malaria.manifest.preprocessing)   # doctest: +SKIP
>>> malaria.scores(backbone.features(x[None]))                        # doctest: +SKIP

Training needs the extra `train` and lives in `lensmount_adapters.training`.
"""

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
