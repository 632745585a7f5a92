"""Files of PEFT's WaveFT against the weights that PEFT itself merges, and its filters against PEFT's table."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch
from peft.tuners.waveft.wavelet import Wavelet
from tests.adapters.foreign.peft_networks import CLOSE, LINEAR, difference, saved, trained

from lensmount_adapters.errors import AdapterInvalid, AdapterUnsupported
from lensmount_adapters.formulas.module import ForeignModule
from lensmount_adapters.formulas.peft_wavelets import MOST_MOMENTS, WaveFT, daubechies

FC = {"target_modules": LINEAR, "modules_to_save": ["fc"]}


@pytest.mark.parametrize("moments", range(1, MOST_MOMENTS + 1))
def test_the_weights_equal_those_that_peft_merges_with_each_wavelet(moments: int, tmp_path: Path) -> None:
    config = peft.WaveFTConfig(n_frequency=40, scaling=3.0, random_loc_seed=5, wavelet_family=f"db{moments}", **FC)
    error, _ = difference(config, tmp_path)

    assert error < CLOSE


def test_coefficients_without_a_transform_are_elements_of_the_weight(tmp_path: Path) -> None:
    error, reading = difference(peft.WaveFTConfig(n_frequency=9, use_idwt=False, **FC), tmp_path)

    assert error < CLOSE
    assert int(reading.deltas["up"]["weight.delta"].count_nonzero()) == 9


@pytest.mark.parametrize("moments", range(1, MOST_MOMENTS + 1))
def test_the_formula_gives_the_filters_of_the_table(moments: int) -> None:
    expected = torch.tensor(Wavelet(f"db{moments}").rec_lo, dtype=torch.float64)

    assert torch.allclose(daubechies(moments), expected, rtol=0, atol=1e-9)


def test_every_daubechies_wavelet_that_peft_has_is_read() -> None:
    with pytest.raises(ValueError, match="Unknown wavelet"):
        Wavelet(f"db{MOST_MOMENTS + 1}")


@pytest.mark.parametrize("family", ["sym4", "coif1", "db0", "db38", "haar"])
def test_another_wavelet_is_refused_with_what_helps(family: str) -> None:
    module = ForeignModule(
        "up", {"waveft_spectrum": torch.ones(4)}, torch.ones(16, 12).double(), config={"wavelet_family": family}
    )

    with pytest.raises(AdapterUnsupported, match=rf"the wavelet '{family}'.*Fix: .*lensmount adapters extract"):
        WaveFT().read(module)


def test_more_coefficients_than_the_weight_has_are_refused(tmp_path: Path) -> None:
    trained(peft.WaveFTConfig(n_frequency=40, **FC), tmp_path)
    spectrum = saved(tmp_path)[0]["base_model.model.up.waveft_spectrum"]
    module = ForeignModule("up", {"waveft_spectrum": spectrum}, torch.ones(3, 13).double())

    with pytest.raises(AdapterInvalid, match="40 coefficients, expected a fit"):
        WaveFT().read(module)
