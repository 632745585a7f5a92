"""Quantising needs NNCF and says so; what NNCF says reaches the reader. tests/adapters/trunks compares the results."""

from __future__ import annotations

import numpy as np
import pytest

from lensmount_adapters.errors import BackboneError, ExecutorUnavailable
from lensmount_adapters.programs import int8


def test_without_nncf_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(int8, "find_spec", lambda name: None)
    assert not int8.available()
    with pytest.raises(ExecutorUnavailable, match=r"found no nncf.*Fix: pip install 'lensmount\[int8\]'"):
        int8.quantised(None, [])


def test_an_error_of_the_process_is_one_line_with_its_last_words(monkeypatch: pytest.MonkeyPatch) -> None:
    openvino = pytest.importorskip("openvino")
    monkeypatch.setattr(int8, "available", lambda: True)
    monkeypatch.setattr(int8, "__name__", "no_such_module")
    x = openvino.opset13.parameter([1, 3, 8, 8], np.float32)
    model = openvino.Model([openvino.opset13.relu(x)], [x])
    with pytest.raises(BackboneError, match=r"No module named no_such_module.*Fix: the precision float32"):
        int8.quantised(model, [np.zeros((1, 3, 8, 8), np.float32)])
