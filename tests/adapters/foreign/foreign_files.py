"""Files of forty kinds that people bring, most of them small enough to write down, each with what it must be called."""

from __future__ import annotations

import io
import json
import pickle
import struct
import tarfile
import zipfile
from collections.abc import Callable

import numpy as np
import torch
from safetensors.torch import save


def zipped(**files: bytes) -> bytes:
    """A zip file; "__" in a name stands for "/" and "_dot_" for "."."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name.replace("__", "/").replace("_dot_", "."), data)
    return buffer.getvalue()


def torch_file(contents: object, old: bool = False) -> bytes:
    buffer = io.BytesIO()
    torch.save(contents, buffer, _use_new_zipfile_serialization=not old)
    return buffer.getvalue()


def _arrays() -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, a=np.ones(2))
    return buffer.getvalue()


def _array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(3))
    return buffer.getvalue()


def _tar() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("model.pt"), io.BytesIO())
    return buffer.getvalue()


def _traced() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("model/code/__torch__.py", "")
        archive.writestr("model/constants.pkl", b"\x80\x02]q\x00.")
        archive.writestr("model/data.pkl", b"\x80\x02]q\x00.")
    return buffer.getvalue()


ONE = torch.ones(1)
CONFIG = json.dumps({"peft_type": "LORA", "r": 2, "lora_alpha": 4}).encode()
LORA = save({f"base_model.model.fc1.lora_{part}.weight": torch.ones(2, 2) for part in "AB"})

FILES: dict[str, tuple[Callable[[], bytes], str]] = {
    "PEFT's safetensors": (lambda: LORA, "an adapter of PEFT"),
    "PEFT's IA3": (lambda: save({"base_model.model.up.ia3_l": ONE}), "an adapter of PEFT"),
    "PEFT without its prefix": (lambda: save({"up.lora_A.weight": ONE}), "an adapter of PEFT"),
    "PEFT in memory": (lambda: save({"up.hada_w1_a.default": ONE}), "an adapter of PEFT"),
    "SHiRA with int32": (lambda: save({"base_model.model.up.shira_indices": ONE.int()}), "an adapter of PEFT"),
    "a prompt": (lambda: save({"prompt_embeddings": ONE}), "an adapter of PEFT"),
    "PEFT's folder": (
        lambda: zipped(adapter_config_dot_json=CONFIG, adapter_model_dot_safetensors=LORA),
        "a zip file with an adapter of PEFT",
    ),
    "PEFT's folder in a folder": (
        lambda: zipped(oak__adapter_config_dot_json=CONFIG, oak__adapter_model_dot_bin=b""),
        "a zip file with an adapter of PEFT",
    ),
    "PEFT's config": (lambda: CONFIG, "PEFT's adapter_config.json without the weights"),
    "PEFT's config with a space": (lambda: b"\n " + CONFIG, "PEFT's adapter_config.json without the weights"),
    "another JSON": (lambda: b'{"architectures": ["ViT"]}', "a JSON document"),
    "kohya": (lambda: save({"lora_unet_layer4_2_conv2.lora_up.weight": ONE}), "an adapter of LyCORIS"),
    "LyCORIS": (lambda: save({"lycoris_layer4_2_conv2.lokr_w1": ONE}), "an adapter of LyCORIS"),
    "diffusers": (lambda: save({"unet.down_blocks.0.lora_A.weight": ONE}), "an adapter for an image generator"),
    "a text encoder": (lambda: save({"lora_te1_text_model.lora_up.weight": ONE}), "an adapter for an image generator"),
    "a network": (
        lambda: save({"conv1.weight": ONE, "bn1.num_batches_tracked": ONE.long()}),
        "the weights of a whole network",
    ),
    "a network in float64": (lambda: save({"conv1.weight": ONE.double()}), "the weights of a whole network"),
    "torch.save": (lambda: torch_file({"up.weight": ONE}), "a file of torch.save"),
    "torch.save before 1.6": (lambda: torch_file({"up.weight": ONE}, old=True), "a file of torch.save"),
    "TorchScript": (_traced, "a program of TorchScript"),
    "torch.export": (lambda: zipped(model__archive_format=b"pt2"), "a program of torch.export"),
    "a pickle": (lambda: pickle.dumps({"model": [1, 2]}), "a pickle of Python objects"),
    "a pickle of protocol 2": (lambda: pickle.dumps(range(3), 2), "a pickle of Python objects"),
    "npz": (_arrays, r"arrays of NumPy \(.npz\)"),
    "npy": (_array, r"an array of NumPy \(.npy\)"),
    "Keras": (lambda: zipped(config_dot_json=b"{}", model_dot_weights_dot_h5=b""), "a model of Keras"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(40), "an HDF5 file"),
    "ONNX": (lambda: b"\x08\x08\x12\x07pytorch" + bytes(20), "an ONNX program"),
    "SavedModel": (lambda: b"\x08\x01\x12\x05" + bytes(20), "a SavedModel of TensorFlow"),
    "TensorFlow Lite": (lambda: b"\x1c\0\0\0TFL3" + bytes(20), "a TensorFlow Lite program"),
    "GGUF": (lambda: b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "a GGUF file"),
    "OpenVINO": (lambda: b'<?xml version="1.0"?><net name="m">', "XML"),
    "a web page": (lambda: b"<!DOCTYPE html><html>", "a web page"),
    "Git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "a pointer of Git LFS"),
    "gzip": (lambda: b"\x1f\x8b\x08" + bytes(20), "a gzip file"),
    "tar": (_tar, "a tar archive"),
    "7z": (lambda: b"7z\xbc\xaf\x27\x1c" + bytes(20), "a 7z archive"),
    "Zstandard": (lambda: b"\x28\xb5\x2f\xfd" + bytes(20), "a Zstandard file"),
    "a PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(20), "a PNG image"),
    "a JPEG": (lambda: b"\xff\xd8\xff\xe0" + bytes(20), "a JPEG image"),
    "a PDF": (lambda: b"%PDF-1.7", "a PDF document"),
    "a zip of images": (lambda: zipped(cat__1_dot_png=b""), "a zip file without weights"),
    "a zip of weights": (lambda: zipped(best_dot_ckpt=b""), r"a zip file with weights \(best.ckpt\)"),
    "a damaged zip": (lambda: b"PK\x03\x04" + bytes(50), "a damaged zip file"),
}
