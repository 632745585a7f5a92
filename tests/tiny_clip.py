"""A fixture for all folders of tests: a CLIP of 0.3 MB made from the real classes of transformers, without the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def make_clip() -> Callable[..., Path]:
    """`make_clip(folder, seed=0)`: both halves and a tokenizer of letters, in the layout of save_pretrained."""
    transformers = pytest.importorskip("transformers", reason="needs transformers: pip install 'lensmount[clip]'")
    import torch

    letters = [f"{letter}{end}" for letter in "abcdefghijklmnopqrstuvwxyz0123456789.,-&" for end in ("", "</w>")]
    words = {word: index for index, word in enumerate([*letters, "<|startoftext|>", "<|endoftext|>"])}
    end = words["<|endoftext|>"]
    text = {"vocab_size": len(words), "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    text |= {"num_attention_heads": 2, "max_position_embeddings": 77, "eos_token_id": end, "bos_token_id": end - 1}
    image = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    image |= {"image_size": 32, "patch_size": 8}
    config = transformers.CLIPConfig(text_config=text, vision_config=image, projection_dim=24)

    def make(folder: Path, seed: int = 0) -> Path:
        transformers.utils.logging.disable_progress_bar()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            transformers.CLIPModel(config).save_pretrained(folder)
        transformers.CLIPTokenizer(vocab=words, merges=[], model_max_length=77).save_pretrained(folder)
        rule = {"size": {"shortest_edge": 36}, "crop_size": {"height": 32, "width": 32}, "resample": 2}
        transformers.CLIPImageProcessor(image_mean=[0.7, 0.5, 0.6], **rule).save_pretrained(folder)
        return folder

    return make
