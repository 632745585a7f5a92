"""Only one network is converted at a time, and the conversion's warnings and gradients end with it."""

from __future__ import annotations

import threading
import warnings

import pytest
import torch

from lensmount_adapters.programs.tracing import converting


def test_warnings_and_gradients_are_off_inside_and_on_afterwards() -> None:
    with converting():
        warnings.warn("not seen", FutureWarning, stacklevel=1)
        assert not torch.is_grad_enabled()

    assert torch.is_grad_enabled()
    with pytest.warns(FutureWarning, match="seen again"):
        warnings.warn("seen again", FutureWarning, stacklevel=1)


def test_a_second_conversion_waits_for_the_first() -> None:
    order: list[str] = []

    def second() -> None:
        with converting():
            order.append("second")

    with converting():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.05)
        order.append("first")
    thread.join()

    assert order == ["first", "second"]
