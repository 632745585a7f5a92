"""Training on a CUDA device: a resumed run with dropout is the uninterrupted one, and no other state is touched."""

from __future__ import annotations

import pytest
import torch

from lensmount_adapters.training.trainable import isolated_random_state

pytestmark = pytest.mark.gpu


def test_the_random_state_of_the_gpu_is_restored() -> None:
    before = torch.cuda.get_rng_state("cuda")
    with isolated_random_state("cuda"):
        torch.manual_seed(1)
        torch.rand(8, device="cuda")

    assert torch.equal(torch.cuda.get_rng_state("cuda"), before)
