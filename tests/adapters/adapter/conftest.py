"""Shared by the tests of an adapter file: a backbone, a valid adapter, and proof that a refusal changes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from lensmount_adapters import Backbone, ExactSwapper, admit, load_backbone

MODULES = r"blocks\.1\.0\.conv_exp|blocks\.3\.0\.conv_dw"  # a plain convolution and a depthwise one


@pytest.fixture(scope="module")
def backbone() -> Backbone:
    return load_backbone("test_efficientnet", "random:0")


@pytest.fixture
def parts(backbone: Backbone, draw_adapter: Callable[..., Any]) -> Any:
    """A valid adapter of rank 4 on two convolutions; each test breaks its own copy."""
    return draw_adapter(backbone, modules=MODULES)


@pytest.fixture
def nothing_moves(
    backbone: Backbone, draw_adapter: Callable[..., Any], digest_of_state: Callable[[Backbone], str]
) -> Iterator[None]:
    """An adapter is mounted throughout; afterwards it still is, the weights are the same, the next admission works."""
    swapper = ExactSwapper(backbone)
    mounted = admit(draw_adapter(backbone, "mixed", seed=1).dump(), backbone)
    swapper.mount(mounted)
    before = digest_of_state(backbone)
    yield
    assert swapper.mounted is mounted
    assert digest_of_state(backbone) == before
    following = admit(draw_adapter(backbone, "mixed", seed=2).dump(), backbone)
    swapper.mount(following)
    swapper.unmount()
    assert backbone.changed() == []
