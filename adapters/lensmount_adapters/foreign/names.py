"""Which module of the backbone a tensor of another tool belongs to: prefixes, wrappers, and other libraries' names.

A name is read in three steps. Wrappers of PEFT and the adapter's name are taken out: `fc.modules_to_save.oak.weight`
becomes `fc.weight`. Prefixes of wrappers around the network are stripped one after the other, as long as they are
known. What is left must name a module of the backbone, or be the name of one in torchvision or transformers. A name
that can be read in two ways is refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.backbone.weights import config_of
from lensmount_adapters.suggestion import did_you_mean

HEAD = "(head)"  # no module is called so
PREFIXES = (
    *("base_model.model.", "_orig_mod.", "module.", "model.", "timm_model.", "backbone.", "encoder.", "net."),
    *("state_dict.", "ema_model.", "state_dict_ema.", "_fsdp_wrapped_module."),
)
"""Wrappers around a network: PEFT, torch.compile, DDP, Lightning, transformers' TimmWrapper, EMA, FSDP."""

HEADS = ("fc", "classifier", "head", "head.fc", "heads.head", "heads")
SHARED = (
    *("vera_A", "vera_B", "pvera_A", "pvera_B", "vblora_vector_bank", "randlora_A", "randlora_B", "unilora_theta_d"),
    *("tinylora_v", "frod_V", "frod_s_indices", "frod_s_size"),
)
"""Tensors of PEFT that belong to no module, and those before the name of a group of modules: `tinylora_v.0`."""

_WRAPPED = re.compile(
    r"\.((?:lora|hada|lokr|oft|boft|hra|ia3|miss|bone|shira|vera|vblora|randlora|fourierft|waveft|c3a|delora|hira|gralora"
    r"|road|frod_lambda|deft|glora|unilora|beft|osf|peanut|supertuning|pvera|trainable_tokens)_\w+"
    r"|tinylora_[ABP]|ln_tuning_layers|modules_to_save|ranknum)\.(?!(?:weight|bias|running_mean|running_var|num_batches_tracked"
    r"|X|Xd|Xu|zeros|[USV]_low|\d+\.weight|\w+_prior|expert_weights)$)([^.]+)"
)
_VIT = (
    (r"(?:vit\.)?layers\.(\d+)\.attention\.q_proj", r"blocks.\1.attn.qkv", 0),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.k_proj", r"blocks.\1.attn.qkv", 1),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.v_proj", r"blocks.\1.attn.qkv", 2),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.query", r"blocks.\1.attn.qkv", 0),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.key", r"blocks.\1.attn.qkv", 1),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.attention\.value", r"blocks.\1.attn.qkv", 2),
    (r"(?:vit\.)?layers\.(\d+)\.attention\.o_proj", r"blocks.\1.attn.proj", None),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.attention\.output\.dense", r"blocks.\1.attn.proj", None),
    (r"(?:vit\.)?layers\.(\d+)\.mlp\.(fc[12])", r"blocks.\1.mlp.\2", None),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.intermediate\.dense", r"blocks.\1.mlp.fc1", None),
    (r"(?:vit\.)?encoder\.layer\.(\d+)\.output\.dense", r"blocks.\1.mlp.fc2", None),
    (r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.layernorm_before", r"blocks.\1.norm1", None),
    (r"(?:vit\.)?(?:encoder\.layer|layers)\.(\d+)\.layernorm_after", r"blocks.\1.norm2", None),
    (r"(?:vit\.)?layernorm", "norm", None),
    (r"(?:vit\.)?embeddings\.patch_embeddings\.projection", "patch_embed.proj", None),
    (r"(?:vit\.)?embeddings\.cls_token", "cls_token", None),
    (r"(?:vit\.)?embeddings\.position_embeddings", "pos_embed", None),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention", r"blocks.\1.attn.qkv", None),
    (r"encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj", r"blocks.\1.attn.proj", None),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.0", r"blocks.\1.mlp.fc1", None),
    (r"encoder\.layers\.encoder_layer_(\d+)\.mlp\.3", r"blocks.\1.mlp.fc2", None),
    (r"encoder\.layers\.encoder_layer_(\d+)\.ln_([12])", r"blocks.\1.norm\2", None),
    (r"encoder\.ln", "norm", None),
    (r"conv_proj", "patch_embed.proj", None),
    (r"class_token", "cls_token", None),
    (r"encoder\.pos_embedding", "pos_embed", None),
    (r"((?:embeddings|pre_layrnorm|encoder|post_layernorm)\b.*)", r"vision_model.\1", None),
)
"""Names in transformers and torchvision -> the name here, and the third of a fused qkv matrix that it is."""

_TRANSLATIONS = tuple((re.compile(theirs), ours, third) for theirs, ours, third in _VIT)
_PACKED = {"in_proj_weight": "weight", "in_proj_bias": "bias"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where one tensor of a file belongs.

    `path` is a module of the backbone, HEAD, or "" for what all modules share. `part` is the rest of the name, and ""
    for a parameter that no module owns. `theirs` is the module's path as the tool names it. `third` is 0, 1 or 2 for
    the rows of q, k or v in a fused matrix. `base` marks the tool's copy of a weight that it adapts.
    """

    path: str
    part: str
    theirs: str
    third: int | None = None
    base: bool = False


@dataclass(slots=True)
class Names:
    """Reads the names of one file for one backbone, and notes what it did on the way.

    >>> names = Names.of(backbone)                                                     # doctest: +SKIP
    >>> names.place("base_model.model.layer4.0.conv1.lora_A.weight")                   # doctest: +SKIP
    Place(path='layer4.0.conv1', part='lora_A.weight', theirs='layer4.0.conv1', ...)
    """

    paths: frozenset[str]
    heads: tuple[str, ...]
    prefixes: set[str] = field(default_factory=set)
    adapters: set[str] = field(default_factory=set)
    translated: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, backbone: Backbone) -> Names:
        known = config_of(backbone.module).get("classifier") or ()
        own = (known,) if isinstance(known, str) else tuple(known)
        paths = frozenset(_owner(name) for name in backbone.targets)
        return cls(paths, tuple(name for name in dict.fromkeys((*own, *HEADS)) if name not in paths))

    def place(self, name: str) -> Place | str:
        """Where the tensor belongs, or in words why it cannot be said."""
        plain, adapters = _unwrapped(name)
        self.adapters |= adapters
        last = plain.removeprefix("base_model.")
        if last.partition(".")[0] in SHARED:
            return Place("", last, "")
        stems = list(_stripped(plain))
        found = [(stem, place) for stem in stems if (place := self._known(stem, ".base_layer.weight" in f".{name}"))]
        if not found:
            owner = re.split(r"\.(?:lora|hada|lokr)_", stems[-1])[0]
            return f"no module of this backbone.{did_you_mean(owner, sorted(self.paths))}"
        if len({(place.path, place.part, place.third) for _, place in found}) > 1:
            return f"two modules: {found[0][1].path} and {found[1][1].path}"
        stem, place = found[0]
        if prefix := plain[: len(plain) - len(stem)]:
            self.prefixes.add(prefix)
        if place.path not in ("", HEAD, place.theirs):
            self.translated[place.theirs] = place.path
        return place

    def _known(self, stem: str, base: bool) -> Place | None:
        """Read a name without prefixes. The longest module path in it counts."""
        pieces = stem.split(".")
        for end in range(len(pieces), 0, -1):
            theirs, part = ".".join(pieces[:end]), ".".join(pieces[end:])
            if theirs in self.paths:
                return Place(theirs, part, theirs, base=base)
            for pattern, ours, third in _TRANSLATIONS:
                if (match := pattern.fullmatch(theirs)) and (path := match.expand(ours)) in self.paths:
                    return Place(path, _PACKED.get(part, part), theirs, third, base)
            if theirs in self.heads and part:
                return Place(HEAD, part, theirs, base=base)
        return None


def suggestion(unknown: Mapping[str, str], shown: int = 12) -> str:
    """The unknown names of a file with the reasons, for a message."""
    lines = [f"{name[:120]!r} ({reason})" for name, reason in list(unknown.items())[:shown]]
    more = f" and {len(unknown) - shown} others" if len(unknown) > shown else ""
    return "; ".join(lines) + more


def _owner(target: str) -> str:
    """The module of a target; a parameter that no layer owns stands for itself."""
    owner, _, last = target.rpartition(".")
    return owner if last in ("weight", "bias", "running_mean", "running_var") and owner else target


def _unwrapped(name: str) -> tuple[str, set[str]]:
    """The name without PEFT's wrappers, and the adapter's name that it held, such as "default"."""
    adapters: set[str] = set()

    def kept(match: re.Match[str]) -> str:
        adapters.add(match[2])
        return f".{match[1]}"

    plain = _WRAPPED.sub(kept, f".{name}")
    for wrapper in ("base_layer", "ln_tuning_layers", "modules_to_save"):
        plain = plain.replace(f".{wrapper}.", ".")
    plain = re.sub(r"\.(lora_magnitude_vector)\.weight$", r".\1", plain)
    return plain.removeprefix("."), adapters


def _stripped(name: str) -> Iterable[str]:
    """The name, and then what is left after each known prefix."""
    yield name
    while prefix := next((prefix for prefix in PREFIXES if name.startswith(prefix)), None):
        name = name.removeprefix(prefix)
        yield name
