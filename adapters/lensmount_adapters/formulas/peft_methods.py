"""The methods of PEFT by their names in adapter_config.json: which are read, and why the others cannot be."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from lensmount_adapters.errors import AdapterUnsupported
from lensmount_adapters.formulas.module import Method
from lensmount_adapters.formulas.peft_from_base import DEFT, OSF, FRoD, GLoRA, PEANuT
from lensmount_adapters.formulas.peft_lora_variants import BDLoRA, KaSA
from lensmount_adapters.formulas.peft_low_rank import MERGE, AdaLoRA, DeLoRA, LoRA, MiSS, VBLoRA, VeRA
from lensmount_adapters.formulas.peft_orthogonal import BOFT, HRA, OFT, RoAd
from lensmount_adapters.formulas.peft_products import GraLoRA, HiRA, LoHa, LoKr, RandLoRA
from lensmount_adapters.formulas.peft_shared import AS_LORA, PVeRA, TinyLoRA, UniLoRA
from lensmount_adapters.formulas.peft_wavelets import WaveFT
from lensmount_adapters.formulas.peft_whole import BEFT, C3A, IA3, FourierFT, SHiRA, SuperTuning, Whole

METHODS: Mapping[str, Method] = {
    "LORA": LoRA(),
    "ADALORA": AdaLoRA(),
    "VERA": VeRA(),
    "VBLORA": VBLoRA(),
    "MISS": MiSS(),
    "DELORA": DeLoRA(),
    "LOHA": LoHa(),
    "LOKR": LoKr(),
    "HIRA": HiRA(),
    "GRALORA": GraLoRA(),
    "RANDLORA": RandLoRA(),
    "OFT": OFT(),
    "BOFT": BOFT(),
    "HRA": HRA(),
    "ROAD": RoAd(),
    "IA3": IA3(),
    "SHIRA": SHiRA(),
    "FOURIERFT": FourierFT(),
    "C3A": C3A(),
    "WAVEFT": WaveFT(),
    "SUPERTUNING": SuperTuning(),
    "BEFT": BEFT(),
    "GLORA": GLoRA(),
    "DEFT": DEFT(),
    "PEANUT": PEANuT(),
    "OSF": OSF(),
    "FROD": FRoD(),
    "PVERA": PVeRA(),
    "TINYLORA": TinyLoRA(),
    "UNILORA": UniLoRA(),
    "LN_TUNING": Whole(),
}
"""`peft_type` in adapter_config.json -> the method that reads the file. PEFT before 0.16 wrote BONE for MISS."""

_INPUT = "it decides for each input what to add, so no fixed change of the weights does the same"
_TOKENS = "it adds tokens or modules to the network and changes no weight"
_TRAIN = "Fix: train with LoRA, or with another method of docs/adapters.md"
REFUSED: Mapping[str, tuple[str, str]] = {
    **dict.fromkeys(("XLORA", "POLY", "SHADOW", "LILY"), (_INPUT, _TRAIN)),
    **dict.fromkeys(("PROMPT_TUNING", "MULTITASK_PROMPT_TUNING", "P_TUNING", "PREFIX_TUNING"), (_TOKENS, _TRAIN)),
    **dict.fromkeys(("CPT", "CARTRIDGE", "ADAPTION_PROMPT"), (_TOKENS, _TRAIN)),
    "TRAINABLE_TOKENS": ("it changes rows of a text embedding, and a vision backbone has none", _TRAIN),
    "PSOFT": (
        "it turns singular vectors of the base weight, which are not in the file and whose signs differ from one "
        "machine to another",
        AS_LORA,
    ),
    "ADAMSS": (
        "which rows each of its parts changes is not in the file: PEFT finds them by clustering the base weight's "
        "singular vectors",
        MERGE,
    ),
}
"""`peft_type` -> why such a file is refused, and what helps."""

VARIANTS: Mapping[str, Method] = {"kasa_config": KaSA(), "use_bdlora": BDLoRA()}
"""Options of LoRA that make another formula of it."""

_ROUTERS = {
    "alora_invocation_tokens": f"aLoRA, expected plain LoRA: {_INPUT}",
    "arrow_config": f"Arrow, expected plain LoRA: {_INPUT}",
    "use_qalora": "QALoRA, expected LoRA of unquantised weights: its base is a network that GPTQ has rounded",
    "layer_replication": "layer replication, expected plain LoRA: its network has other layers than the backbone",
    "trainable_token_indices": "trainable tokens, expected plain LoRA: a vision backbone has no text embedding",
}
"""Options of LoRA that cannot be imported, and the reasons."""


def method_of(config: Mapping[str, Any]) -> Method:
    """The method of a file. Raises AdapterUnsupported with the reason for one that cannot be imported."""
    kind = str(config.get("peft_type", "")).upper().removeprefix("PEFTTYPE.")
    kind = "MISS" if kind == "BONE" else kind
    if kind in REFUSED:
        reason, fix = REFUSED[kind]
        raise AdapterUnsupported(
            f"found {kind} of PEFT: {reason}, expected a fixed change of weights in the file. {fix}"
        )
    if kind not in METHODS:
        raise AdapterUnsupported(
            f"adapter_config.json: found peft_type {kind[:40]!r}, expected one of {', '.join(METHODS)}. {MERGE}"
        )
    if special := next((words for option, words in _ROUTERS.items() if config.get(option)), None):
        raise AdapterUnsupported(f"found LoRA with {special}. Fix: train with plain LoRA")
    return next((method for option, method in VARIANTS.items() if config.get(option) is not None), METHODS[kind])
