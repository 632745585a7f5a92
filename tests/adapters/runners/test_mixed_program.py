"""A mixed program keeps the prepared factors of the adapters that were used last, and answers with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lensmount_adapters import Backbone
from lensmount_adapters.programs.eager import Eager
from lensmount_adapters.runners import mixed_program
from lensmount_adapters.runners.mixed_layout import Layout
from lensmount_adapters.runners.mixed_program import Mixable, MixedProgram

if TYPE_CHECKING:
    from tests.adapters.runners.conftest import Mixing


class Small(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.last = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
        self.pretrained_cfg: dict[str, Any] = {}

    def forward(self, x: Tensor) -> Tensor:
        features: Tensor = self.last(F.relu(self.conv(x)).mean((2, 3)))
        return features


@pytest.fixture
def made(
    seeded: Callable[[Callable[[], nn.Module]], Backbone], draw_adapter: Callable[..., Any], mixing: type[Mixing]
) -> tuple[MixedProgram, list[Mixable], list[Tensor]]:
    """The program, three adapters, and the features that each gives to the same image, computed in float64."""
    backbone = seeded(Small)
    drawn = [draw_adapter(backbone, "lora", rank=2, seed=seed) for seed in range(3)]
    branch = mixing.branch_for(backbone, drawn, slots=3, rank=2)
    deltas = [mixing.deltas_of(backbone, parts) for parts in drawn]
    members = [Mixable(str(number), each, branch.layout, 2) for number, each in enumerate(deltas)]
    example = (mixing.images_for(backbone, 2), branch.mask([0, 0]))
    compiled = Eager().compile(branch.module, example, branch.pack([]), key="")
    expected = []
    for each in deltas:
        module = seeded(Small).module.double()
        for delta in each:
            weight = module.state_dict()[delta.target.name]
            weight.copy_(delta.merged(weight))
        with torch.no_grad():
            expected.append(module(mixing.images_for(backbone, 1).double()))
    return MixedProgram(branch, compiled, example[0].shape), members, expected


def test_sample_i_gets_the_answer_of_the_adapter_in_its_row(
    made: tuple[MixedProgram, list[Mixable], list[Tensor]], mixing: type[Mixing], seeded: Any
) -> None:
    program, members, expected = made
    images = mixing.images_for(seeded(Small), 1).expand(4, -1, -1, -1)

    factors = program.mixed.pack([program.factors_of(member) for member in members])
    found = program.run(images, [2, 0, 1, 2], factors)
    fused = program.fuse(members)(images, program.mixed.mask([2, 0, 1, 2]))

    right = torch.cat([expected[row] for row in (2, 0, 1, 2)])
    torch.testing.assert_close(found.double(), right, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(fused.double(), right, rtol=1e-4, atol=1e-5)


def test_factors_are_prepared_once_until_the_adapter_is_forgotten(
    made: tuple[MixedProgram, list[Mixable], list[Tensor]],
) -> None:
    program, (member, *_), _ = made

    first = program.factors_of(member)
    again = program.factors_of(member)
    program.forget(member.digest)

    assert again is first
    assert program.factors_of(member) is not first


def test_the_factors_that_were_not_used_for_longest_are_dropped(
    made: tuple[MixedProgram, list[Mixable], list[Tensor]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mixed_program, "KEPT_PREPARED", 2)
    program, members, _ = made

    kept = program.factors_of(members[0])
    dropped = program.factors_of(members[1])
    assert program.factors_of(members[0]) is kept  # now used last
    program.factors_of(members[2])

    assert program.factors_of(members[0]) is kept
    assert program.factors_of(members[1]) is not dropped


def test_it_has_room_for_what_it_was_made_for(made: tuple[MixedProgram, list[Mixable], list[Tensor]]) -> None:
    program, (member, *_), _ = made

    assert program.has_room(member.layout, 2)
    assert not program.has_room(member.layout, 3)
    assert not program.has_room(Layout(gains=("conv",)), 1)
