"""The classifier of an imported adapter, from its file or from one next to it, and the names of its classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from lensmount_adapters.backbone.model import Backbone
from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.foreign.names import HEAD, Names


def head_of(
    own: Mapping[str, Tensor], given: Mapping[str, Tensor], backbone: Backbone, notes: list[str]
) -> dict[str, Tensor]:
    """Return weight [classes, features] and bias [classes]: the adapter's `own`, or that of the file `given` with it.

    Raises AdapterInvalid (`head_missing`, `head_mismatch`), or AdapterUnsupported for a backbone that gives maps.
    """
    if backbone.dense:
        raise AdapterUnsupported(
            f"{backbone.name} gives maps of features, expected a backbone with one vector per image: other tools' "
            "classifiers do not fit maps. Fix: train with `lensmount train`"
        )
    head = dict(own) or (given_head(given, backbone) if given else {})
    if own and given:
        notes.append("left out the head file: the adapter has a trained classifier of its own")
    if not head:
        raise AdapterInvalid(
            "found no classifier in the file, expected one: an adapter answers with its own classes. Fix: train with "
            "modules_to_save=['fc'] or what the classifier is called, or put the classifier's weight and bias next to "
            "the adapter as head.safetensors, and import the folder",
            code="head_missing",
        )
    if head["weight"].shape[1] != backbone.feature_dim or head["bias"].shape != head["weight"].shape[:1]:
        raise AdapterInvalid(
            f"found a classifier of shape {list(head['weight'].shape)} with a bias of {list(head['bias'].shape)}, "
            f"expected [classes, {backbone.feature_dim}] for the features of {backbone.name}. "
            "Fix: serve the backbone that the adapter was trained on",
            code="head_mismatch",
        )
    return head


def given_head(tensors: Mapping[str, Tensor], backbone: Backbone) -> dict[str, Tensor]:
    """Return weight and bias of a file with a classifier, or with a whole network. Without a bias it is 0.

    Raises AdapterInvalid (`head_missing`) if there is none.
    """
    names = Names.of(backbone)
    head = {name: tensor.double() for name, tensor in tensors.items() if name in ("weight", "bias")}
    for name, tensor in tensors.items():
        place = names.place(name)
        if not isinstance(place, str) and place.path == HEAD:
            head[place.part] = tensor.double()
    if "weight" not in head or head["weight"].ndim != 2:
        raise AdapterInvalid(
            f"head file: found {', '.join(tensors)[:160]}, expected weight and bias of a linear classifier. "
            "Fix: save them as weight and bias",
            code="head_missing",
        )
    return {"weight": head["weight"], "bias": head.get("bias", head["weight"].new_zeros(len(head["weight"])))}


def labels_of(labels: Sequence[str], classes: int, notes: list[str]) -> tuple[str, ...]:
    """Return one label for each row of the classifier; without labels the classes are called by their numbers.

    Raises AdapterInvalid (`head_mismatch`) for another number of labels.
    """
    if not labels:
        notes.append(f"the file names no classes; they are called 0 to {classes - 1}. Give labels to name them")
        return tuple(map(str, range(classes)))
    if len(labels) != classes:
        raise AdapterInvalid(
            f"found {len(labels)} labels, expected {classes}, one for each row of the classifier, in its order. "
            f"Fix: give {classes} labels",
            code="head_mismatch",
        )
    return tuple(labels)
